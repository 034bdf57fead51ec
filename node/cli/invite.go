package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-mesh/weft/node/api"
)

func (c *command) invite() *cobra.Command {
	var r api.InviteRequest
	cmd := &cobra.Command{
		Use:   "invite",
		Short: "Print a token with which another machine joins",
		Long:  "Prints a token, alone on stdout, for `weft up --join TOKEN` on another machine.\nWho has the token can join, so pass it on like a password.",
	}
	cmd.Flags().IntVar(&r.Uses, "uses", 1, "how many machines may join with it")
	cmd.Flags().DurationVar(&r.Expires, "expires", time.Hour, "how long it is good for, as in 30m or 24h")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if r.Uses < 1 {
			return usageError{fmt.Errorf("--uses is %d; give 1 or more", r.Uses)}
		}
		if r.Expires <= 0 {
			return usageError{fmt.Errorf("--expires is %s; give a time as in 30m or 24h", r.Expires)}
		}
		return c.ask(cmd.Context(), func(ctx context.Context, n api.Node) error {
			v, err := n.Invite(ctx, r)
			if err != nil {
				return err
			}
			if *asJSON {
				return c.printJSON(v)
			}
			fmt.Fprintf(c.err, "On the other machine:  weft up --join TOKEN\nGood for %s until %s; who has it can join, so keep it to yourself.\n",
				plural(v.Uses, "machine"), v.Expires.Local().Format("2006-01-02 15:04"))
			fmt.Fprintln(c.out, v.Token)
			return nil
		})
	}
	return cmd
}
