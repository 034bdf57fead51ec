package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-mesh/weft/node/api"
)

func (c *command) status() *cobra.Command {
	cmd := &cobra.Command{Use: "status", Short: "What this machine's node is and does"}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.ask(cmd.Context(), func(ctx context.Context, n api.Node) error {
			s, err := n.Status(ctx)
			if err != nil {
				return err
			}
			if *asJSON {
				return c.printJSON(s)
			}
			c.showStatus(s)
			return nil
		})
	}
	return cmd
}

func (c *command) showStatus(s api.Status) {
	width := c.out.width()
	http := "off"
	if s.HTTP != "" {
		http = "http://" + s.HTTP + "/v1"
	}
	rows := [][2]string{
		{"node", s.Name},
		{"peer id", s.PeerID},
		{"mesh", s.Mesh + withRole(s.Role)},
		{"peers", plural(s.Peers, "other node") + " alive"},
	}
	rows = append(rows, addrRows(s.Addrs)...)
	rows = append(rows, [][2]string{
		{"http", http},
		{"device", s.Device},
	}...)
	rows = append(rows, gpuRows(s.GPUs)...)
	if len(s.GPUs) == 0 && s.NoGPU != "" {
		rows = append(rows, [2]string{"gpu", s.NoGPU})
	}
	rows = append(rows, [][2]string{
		{"memory", fmt.Sprintf("%s used of %s offered; the process has %s", size(s.MemUsed), size(s.MemOffered), size(s.RSS))},
		{"disk", fmt.Sprintf("%s of weights, of %s that they may take; %s free of %s", size(s.DiskUsed), size(s.DiskBudget), size(s.DiskFree), size(s.DiskTotal))},
		{"replies", fmt.Sprintf("%d now", s.Sessions)},
		{"up", span(s.Uptime)},
		{"home", shortHome(s.Home)},
		{"version", fmt.Sprintf("%s (contract %d, wire %d, pid %d)", s.Version, s.Contract, s.Wire, s.PID)},
	}...)
	for _, a := range s.Aside {
		rows = append(rows, [2]string{"set aside", fmt.Sprintf("%s, since %s: sent wrong weights (%s)", a.Name, a.Since.Local().Format("15:04"), a.Reason)})
	}
	facts(c.out, width, rows)
	if len(s.Plans) > 0 {
		fmt.Fprintln(c.out)
		var list [][]string
		for _, p := range s.Plans {
			list = append(list, []string{p.Model, fmt.Sprint(p.Generation), planState(p)})
		}
		table(c.out, width, []column{{title: "PLAN", least: 12}, {title: "GENERATION", right: true}, {title: "STATE", least: 12}}, list)
	}
	if len(s.Stages) > 0 {
		fmt.Fprintln(c.out)
		c.showStages(s.Stages, width)
	}
}

// planState is a plan's state with where it is, and what it does.
func planState(p api.PlanState) string {
	text := p.State
	if p.Copy {
		text += ", a copy"
	}
	if len(p.Nodes) > 0 {
		text += " on " + strings.Join(p.Nodes, ", ")
	}
	if p.Replies > 0 {
		text += ": " + replies(p.Replies)
	}
	return text
}

func replies(n int) string {
	if n == 1 {
		return "1 reply"
	}
	return fmt.Sprintf("%d replies", n)
}

func (c *command) showStages(stages []api.LoadedStage, width int) {
	var list [][]string
	for _, st := range stages {
		step := ""
		if st.StepUsec > 0 {
			step = millis(float64(st.StepUsec) / 1000)
		}
		list = append(list, []string{
			st.Model, layers(st.First, st.Last), size(st.Bytes), fmt.Sprintf("%d/%d", st.KVUsed, st.KVBlocks),
			fmt.Sprint(st.Sessions), step, st.State,
		})
	}
	table(c.out, width, []column{
		{title: "STAGE", least: 12},
		{title: "LAYERS", right: true},
		{title: "WEIGHTS", right: true},
		{title: "KV BLOCKS", right: true},
		{title: "SESSIONS", right: true},
		{title: "STEP", right: true},
		{title: "STATE", least: 8},
	}, list)
	for _, st := range stages {
		if len(st.Parts) > 0 {
			fmt.Fprintln(c.out, wrap(clean(fmt.Sprintf("%s: layers %s", st.Model, partsText(st.Parts))), width, "  "))
		}
	}
}

func layers(first, last int) string {
	if first == last {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}
