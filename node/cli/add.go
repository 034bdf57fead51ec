package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/weft-mesh/weft/node/api"
)

// profileFlags are the numeric profile of a model entry.
type profileFlags struct {
	name, kv string
	ctx, act int
}

func (f *profileFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.name, "name", "", "`NAME` to call it by (default from the file)")
	fl.IntVar(&f.ctx, "ctx", 0, "context in tokens (default what it was trained for, at most 8192)")
	fl.StringVar(&f.kv, "kv", "", "type of the KV cache: f16 or f32 (default f16)")
	fl.IntVar(&f.act, "activations", 0, "bits of activations: 8 or 16 (default 8)")
}

func (f *profileFlags) check() error {
	switch {
	case f.ctx < 0:
		return usageError{fmt.Errorf("--ctx is %d; give 1 or more", f.ctx)}
	case f.kv != "" && f.kv != "f16" && f.kv != "f32":
		return usageError{fmt.Errorf("--kv %q is unknown; give f16 or f32", f.kv)}
	case f.act != 0 && f.act != 8 && f.act != 16:
		return usageError{fmt.Errorf("--activations is %d; give 8 or 16", f.act)}
	}
	return nil
}

func (c *command) add() *cobra.Command {
	var f profileFlags
	cmd := &cobra.Command{
		Use:   "add FILE",
		Short: "Take in a GGUF file of this machine",
		Long: `Takes in a GGUF file that stays where it is. Its name and its numeric profile
(context, KV type, activation bits) are the same in the whole mesh.`,
		Args: cobra.ExactArgs(1),
	}
	f.register(cmd)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := f.check(); err != nil {
			return err
		}
		path, err := filepath.Abs(args[0])
		if err != nil {
			return err
		}
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("add %s: %w", args[0], err)
		}
		return c.with(cmd.Context(), func(ctx context.Context, n api.Node, progress func(api.Progress)) error {
			m, err := n.AddModel(ctx, api.AddRequest{Path: path, Name: f.name, Context: f.ctx, KV: f.kv, ActBits: f.act}, progress)
			if err != nil {
				return err
			}
			if *asJSON {
				return c.printJSON(m)
			}
			c.showModel("added", m)
			return nil
		})
	}
	return cmd
}
