package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-mesh/weft/node/api"
)

func (c *command) trust() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Who is in the mesh, by whose word, and who was shut out",
		Long: `Lists every member that this node has met: its role, who let it in, and until
when its certificate is good (they renew themselves). Those that were revoked
are listed too.`,
		Args: cobra.NoArgs,
	}
	asJSON := jsonFlag(cmd)
	cmd.AddCommand(c.backup(), c.restore())
	for _, sub := range cmd.Commands() {
		sub.Args = usageArgs(sub.Args)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.ask(cmd.Context(), func(ctx context.Context, n api.Node) error {
			list, err := n.Trusted(ctx)
			if err != nil {
				return err
			}
			if *asJSON {
				return c.printJSON(orEmpty(list))
			}
			c.showTrust(list)
			return nil
		})
	}
	return cmd
}

func (c *command) showTrust(list []api.Member) {
	var rows [][]string
	for _, m := range list {
		mark, state, expires := "", m.State, ""
		switch {
		case m.Self:
			mark = "*"
		case m.State == "member" && !m.Connected:
			state = "away"
		}
		switch {
		case !m.RevokedAt.IsZero():
			expires = day(m.RevokedAt)
		case m.State == "member" || m.State == "expired":
			expires = day(m.Expires)
		}
		by := m.AdmittedBy
		if by == "" && m.AdmittedByID != "" {
			by = shortPeer(m.AdmittedByID)
		}
		rows = append(rows, []string{mark, m.Name, shortPeer(m.PeerID), m.Role, state, by, expires})
	}
	table(c.out, c.out.width(), []column{
		{title: ""},
		{title: "NAME", least: 8},
		{title: "PEER"},
		{title: "ROLE"},
		{title: "STATE", least: 8},
		{title: "ADMITTED BY", least: 11},
		{title: "UNTIL"},
	}, rows)
}

// shortPeer is enough of a peer id for `weft revoke`.
func shortPeer(id string) string {
	if len(id) <= 9 {
		return id
	}
	return "…" + id[len(id)-8:]
}

func day(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02")
}

func (c *command) revoke() *cobra.Command {
	var r api.RevokeRequest
	cmd := &cobra.Command{
		Use:   "revoke MEMBER",
		Short: "Shut a member out of the mesh, at once and everywhere",
		Long: `Ends a membership. Every member that can be reached cuts the machine off within
seconds; the others hear of it before they serve anybody.

MEMBER is a name, or the end of a peer id as ` + "`weft trust`" + ` shows it. An admitter
may revoke members; only the founding node may revoke an admitter, and what that
one signs from then on counts no more. --since takes back what it signed before,
when its machine was in other hands earlier.`,
		Example: "  weft revoke laptop\n  weft revoke nas --since 48h",
		Args:    cobra.ExactArgs(1),
	}
	cmd.Flags().DurationVar(&r.Since, "since", 0, "of an admitter: void also what it signed in this `TIME` until now, as in 48h")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if r.Since < 0 {
			return usageError{fmt.Errorf("--since is %s; give a time as in 48h", r.Since)}
		}
		r.Peer = trimEllipsis(args[0])
		return c.ask(cmd.Context(), func(ctx context.Context, n api.Node) error {
			m, err := n.Revoke(ctx, r)
			if err != nil {
				return err
			}
			if *asJSON {
				return c.printJSON(m)
			}
			name := m.Name
			if name == "" {
				name = m.PeerID
			}
			fmt.Fprintln(c.out, clean(name+" is no member any more"))
			return nil
		})
	}
	return cmd
}

// trimEllipsis takes a peer id as weft trust has shortened it.
func trimEllipsis(s string) string { return strings.TrimPrefix(s, "…") }
