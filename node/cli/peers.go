package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-mesh/weft/node/api"
)

func (c *command) peers() *cobra.Command {
	cmd := &cobra.Command{Use: "peers", Short: "The nodes of the mesh"}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.ask(cmd.Context(), func(ctx context.Context, n api.Node) error {
			list, err := n.Peers(ctx)
			if err != nil {
				return err
			}
			if *asJSON {
				return c.printJSON(orEmpty(list))
			}
			c.showPeers(list)
			return nil
		})
	}
	return cmd
}

// orEmpty makes an empty list print as [] and not as null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (c *command) showPeers(list []api.Peer) {
	if len(list) == 0 {
		fmt.Fprintln(c.err, "this node is in no mesh")
		return
	}
	var rows [][]string
	for _, p := range list {
		mark := ""
		if p.Self {
			mark = "*"
		}
		state, _, _ := strings.Cut(p.State, ":") // why stands below
		if p.Stale && state == "alive" {
			state = "silent " + span(p.Age)
		}
		speed, rtt, memory := "", "", "none"
		if p.DecodeBps > 0 && p.MemOffered > 0 {
			speed = fmt.Sprintf("%.1f GB/s", p.DecodeBps/1e9)
		}
		if p.RTT > 0 {
			rtt = span(p.RTT)
		}
		if p.MemOffered > 0 {
			memory = size(p.MemFree) + "/" + size(p.MemOffered)
		}
		rows = append(rows, []string{mark, p.Name, state, p.Role, p.Device, memory, speed, rtt})
	}
	table(c.out, c.out.width(), []column{
		{title: ""},
		{title: "NAME", least: 10},
		{title: "STATE", least: 12},
		{title: "ROLE", least: 8},
		{title: "DEVICE", least: 6},
		{title: "FREE/OFFERED", right: true},
		{title: "SPEED", right: true},
		{title: "RTT", right: true},
	}, rows)
	for _, p := range list {
		if strings.Contains(p.State, ":") {
			fmt.Fprintln(c.out, wrap(clean(p.Name+": "+p.State), c.out.width(), "  "))
		}
		for _, g := range p.GPUs {
			if !g.Used {
				fmt.Fprintln(c.out, wrap(clean(p.Name+": "+g.Name+" "+g.Reason), c.out.width(), "  "))
			}
		}
	}
	if len(list) == 1 {
		fmt.Fprintln(c.err, "no other node yet: `weft invite` prints a token for `weft up --join TOKEN` there")
	}
}
