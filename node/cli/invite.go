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
	cmd.Flags().StringVar(&r.Role, "role", "compute", "what those who join with it may do: client, compute or admitter")
	var list bool
	var withdraw string
	cmd.Flags().BoolVar(&list, "list", false, "list the invitations that this node has issued")
	cmd.Flags().StringVar(&withdraw, "revoke", "", "withdraw the invitation with this `ID` of --list; who has joined stays (weft revoke)")
	cmd.MarkFlagsMutuallyExclusive("list", "revoke")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case list:
			return c.listInvitations(cmd.Context(), *asJSON)
		case cmd.Flags().Changed("revoke"):
			return c.withdrawInvitation(cmd.Context(), withdraw, *asJSON)
		}
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

func (c *command) listInvitations(ctx context.Context, asJSON bool) error {
	return c.ask(ctx, func(ctx context.Context, n api.Node) error {
		list, err := n.Invitations(ctx)
		if err != nil {
			return err
		}
		if asJSON {
			return c.printJSON(orEmpty(list))
		}
		if len(list) == 0 {
			fmt.Fprintln(c.err, "this node has issued no invitation that it remembers")
			return nil
		}
		var rows [][]string
		for _, v := range list {
			rows = append(rows, []string{v.ID, v.Role, v.State, fmt.Sprintf("%d of %d", v.Used, v.Uses), v.Expires.Local().Format("2006-01-02 15:04")})
		}
		table(c.out, c.out.width(), []column{{title: "ID"}, {title: "ROLE"}, {title: "STATE"}, {title: "USED", right: true}, {title: "EXPIRES"}}, rows)
		return nil
	})
}

func (c *command) withdrawInvitation(ctx context.Context, id string, asJSON bool) error {
	return c.ask(ctx, func(ctx context.Context, n api.Node) error {
		v, err := n.WithdrawInvitation(ctx, api.WithdrawRequest{ID: id})
		if err != nil {
			return err
		}
		if asJSON {
			return c.printJSON(v)
		}
		fmt.Fprintf(c.out, "invitation %s lets nobody in any more\n", clean(v.ID))
		if v.Used > 0 {
			fmt.Fprintf(c.err, "%s joined with it and stays: see weft trust and weft revoke\n", plural(v.Used, "machine"))
		}
		return nil
	})
}
