package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/weft-mesh/weft/node/api"
)

func (c *command) rm() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rm MODEL",
		Short: "Forget a model",
		Long:  "Forgets a model, NAME or NAME@HASH, and frees what weft keeps of it on disk. A\nfile that was added stays where it is.",
		Args:  cobra.ExactArgs(1),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.with(cmd.Context(), func(ctx context.Context, n api.Node, _ func(api.Progress)) error {
			m, err := n.RemoveModel(ctx, args[0])
			if err != nil {
				return err
			}
			if *asJSON {
				return c.printJSON(m)
			}
			c.showModel("removed", m)
			return nil
		})
	}
	return cmd
}
