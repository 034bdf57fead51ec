package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/weft-mesh/weft/node/api"
)

func (c *command) pull() *cobra.Command {
	var f profileFlags
	var sum string
	var lazy bool
	cmd := &cobra.Command{
		Use:     "pull MODEL",
		Short:   "Download a model",
		Long:    "Downloads hf:owner/repo[:quant] or a GGUF file by its URL; a download that was\ncut is resumed.\n\nWith --lazy this machine reads the files once, checks them and keeps nothing; each\nnode then fetches the layers that it computes from the hub. So a model may be\nlarger than any one disk.",
		Example: "  weft pull hf:owner/repo:Q4_K_M\n  weft pull https://example.org/model.gguf --sha256 SUM\n  weft pull --lazy hf:owner/repo:Q8_0",
		Args:    cobra.ExactArgs(1),
	}
	f.register(cmd)
	cmd.Flags().StringVar(&sum, "sha256", "", "the file's SHA-256 `SUM`; another file is refused")
	cmd.Flags().BoolVar(&lazy, "lazy", false, "keep nothing here: each node fetches its own layers from the hub")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := f.check(); err != nil {
			return err
		}
		return c.with(cmd.Context(), func(ctx context.Context, n api.Node, progress func(api.Progress)) error {
			m, err := n.PullModel(ctx, api.PullRequest{Ref: args[0], Name: f.name, SHA256: sum, Lazy: lazy, Context: f.ctx, KV: f.kv, ActBits: f.act}, progress)
			if err != nil {
				return err
			}
			if *asJSON {
				return c.printJSON(m)
			}
			c.showModel("pulled", m)
			return nil
		})
	}
	return cmd
}
