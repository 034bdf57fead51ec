package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weft-mesh/weft/node/api"
)

func (c *command) leave() *cobra.Command {
	return &cobra.Command{
		Use:   "leave",
		Short: "Leave the mesh and stop this machine's node",
		Long:  "Says goodbye to the mesh, forgets the membership and stops the node. Models stay.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.ask(cmd.Context(), func(ctx context.Context, n api.Node) error {
				if err := n.Leave(ctx); err != nil {
					return err
				}
				fmt.Fprintln(c.out, "left the mesh; the node stops")
				return nil
			})
		},
	}
}
