package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weft-mesh/weft/node/api"
)

func (c *command) approve() *cobra.Command {
	var r api.ApproveRequest
	cmd := &cobra.Command{
		Use:   "approve CODE",
		Short: "Let in the machine that shows this code",
		Long: `Lets a machine into the mesh. ` + "`weft up`" + ` on a machine without a mesh shows a
code; type it here or on any other member. A code is good for two minutes and
for one attempt.

Roles: client asks and computes nothing for others; compute also computes;
admitter also signs for others (only the founding node can appoint one).`,
		Example: "  weft approve K7QX-4MBD",
		Args:    cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&r.Role, "role", "compute", "what the machine may do: client, compute or admitter")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r.Code = args[0]
		return c.ask(cmd.Context(), func(ctx context.Context, n api.Node) error {
			v, err := n.Approve(ctx, r)
			if err != nil {
				return err
			}
			if *asJSON {
				return c.printJSON(v)
			}
			fmt.Fprintln(c.out, clean(fmt.Sprintf("%s has joined %s as %s", v.Name, v.Mesh, v.Role)))
			return nil
		})
	}
	return cmd
}
