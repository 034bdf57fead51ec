package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/weft-mesh/weft/node/api"
)

func (c *command) pin() *cobra.Command {
	return c.pinning("pin MODEL", "Keep a model's weights on this machine's disk", `Keeps what this machine has of a model's weights on its disk, also when room is
needed for another model. What weft pull downloads is pinned.`, "pinned", true)
}

func (c *command) unpin() *cobra.Command {
	return c.pinning("unpin MODEL", "Let a model's weights go when room is needed", `Lets what this machine has of a model's weights go when it is not in use and room
is needed for another model. It stays in the list and is fetched again when it is
asked: from the file that was added, from other nodes, or from where it was pulled.`, "unpinned", false)
}

func (c *command) pinning(use, short, long, did string, pinned bool) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: cobra.ExactArgs(1)}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.with(cmd.Context(), func(ctx context.Context, n api.Node, _ func(api.Progress)) error {
			m, err := n.PinModel(ctx, api.PinRequest{Model: args[0], Pinned: pinned})
			if err != nil {
				return err
			}
			if *asJSON {
				return c.printJSON(m)
			}
			c.showModel(did, m)
			return nil
		})
	}
	return cmd
}
