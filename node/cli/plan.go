package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-mesh/weft/node/api"
)

func (c *command) plan() *cobra.Command {
	var load bool
	cmd := &cobra.Command{
		Use:   "plan MODEL",
		Short: "How a model is split between the nodes, and why",
		Args:  cobra.ExactArgs(1),
	}
	cmd.Flags().BoolVar(&load, "load", false, "also make it ready: fetch, load and probe")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ref, err := modelRef(args[0])
		if err != nil {
			return err
		}
		return c.with(cmd.Context(), func(ctx context.Context, n api.Node, progress func(api.Progress)) error {
			p, err := n.Plan(ctx, api.PlanRequest{Model: ref, Load: load}, progress)
			if err != nil {
				return err
			}
			if *asJSON {
				return c.printJSON(p)
			}
			c.showPlan(p)
			return nil
		})
	}
	return cmd
}

func (c *command) showPlan(p api.Plan) {
	width := c.out.width()
	generation := ""
	if p.Generation > 0 {
		generation = fmt.Sprintf(", generation %d", p.Generation)
	}
	facts(c.out, width, [][2]string{{"model", p.Model}, {"state", p.State + generation}, {"head", p.Head}})
	fmt.Fprintln(c.out)
	var rows [][]string
	for i, s := range p.Stages {
		measured, hop := "", ""
		if s.HopMs > 0 {
			hop = millis(s.HopMs)
		}
		if s.MeasStep > 0 {
			measured = millis(s.MeasStep)
		}
		rows = append(rows, []string{
			fmt.Sprint(i + 1), s.Name, layers(s.First, s.Last), size(s.Bytes), size(s.KVBytes), millis(s.StepMs), measured, hop,
		})
	}
	table(c.out, width, []column{
		{title: "STAGE", right: true},
		{title: "NODE", least: 8},
		{title: "LAYERS", right: true},
		{title: "WEIGHTS", right: true},
		{title: "KV", right: true},
		{title: "STEP", right: true},
		{title: "MEASURED", right: true},
		{title: "HOP", right: true},
	}, rows)
	for _, s := range p.Stages {
		if len(s.Parts) > 0 {
			fmt.Fprintln(c.out, wrap(clean(fmt.Sprintf("%s: layers %s", s.Name, partsText(s.Parts))), width, "  "))
		}
	}
	fmt.Fprintln(c.out)
	facts(c.out, width, [][2]string{
		{"first token", predicted(p.TTFTms, p.MeasTTFTms)},
		{"each token", predicted(p.TPOTms, p.MeasTPOTms)},
	})
	c.showCopies(p, width)
	for _, why := range p.Why {
		fmt.Fprintln(c.out, "- "+wrap(clean(why), width-2, "  "))
	}
}

// showCopies lists the copies that share the plan's replies.
func (c *command) showCopies(p api.Plan, width int) {
	if len(p.Copies) == 0 {
		return
	}
	facts(c.out, width, [][2]string{{"replies", fmt.Sprintf("%d over this plan now", p.Replies)}})
	fmt.Fprintln(c.out)
	var rows [][]string
	for _, one := range p.Copies {
		var nodes []string
		for _, st := range one.Stages {
			nodes = append(nodes, st.Name)
		}
		each, measured := "", ""
		if one.TPOTms > 0 {
			each = millis(one.TPOTms)
		}
		if one.MeasTPOTms > 0 {
			measured = millis(one.MeasTPOTms)
		}
		rows = append(rows, []string{strings.Join(nodes, ", "), fmt.Sprint(one.Generation), each, measured, fmt.Sprint(one.Replies), one.State})
	}
	table(c.out, width, []column{
		{title: "COPY ON", least: 8},
		{title: "GENERATION", right: true},
		{title: "EACH TOKEN", right: true},
		{title: "MEASURED", right: true},
		{title: "REPLIES", right: true},
		{title: "STATE", least: 8},
	}, rows)
	fmt.Fprintln(c.out)
}

func predicted(pred, meas float64) string {
	text := "predicted " + millis(pred)
	if meas > 0 {
		text += ", measured " + millis(meas)
	}
	return text
}
