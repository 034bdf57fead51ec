package cli

import (
	"context"
	"fmt"

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
	for _, why := range p.Why {
		fmt.Fprintln(c.out, "- "+wrap(clean(why), width-2, "  "))
	}
}

func predicted(pred, meas float64) string {
	text := "predicted " + millis(pred)
	if meas > 0 {
		text += ", measured " + millis(meas)
	}
	return text
}
