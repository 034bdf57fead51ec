package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/weft-mesh/weft/node/api"
)

// plans compares what plans predict per token with what replies take: at once
// after the plan was made, by the machine's own measurements alone, and after
// replies, whose times correct the prediction. Nothing is drafted.
func (b *bench) plans(ctx context.Context) error {
	files := strings.Split(b.models, ",")
	if b.models == "" {
		files = []string{b.model}
	}
	kept, offer := b.model, b.offer
	defer func() { b.model, b.offer = kept, offer }()
	var rows [][]string
	var first, later series
	for i, file := range files {
		b.model, b.offer = file, 0
		for _, threads := range []int{1, 2} {
			list, err := b.planned(ctx, fmt.Sprintf("plan%d", i), threads)
			if err != nil {
				return fmt.Errorf("%s: %w", filepath.Base(file), err)
			}
			for _, p := range list {
				first, later = append(first, p.first.ratios(p.took)...), append(later, p.later.ratios(p.after)...)
				rows = append(rows, []string{
					fmt.Sprintf("%s, %s, --threads %d", strings.TrimSuffix(filepath.Base(file), ".gguf"), p.name, threads),
					p.first.cell(2), p.took.cell(2), p.first.ratios(p.took).cell(2), p.later.ratios(p.after).cell(2),
				})
			}
		}
	}
	rows = append(rows, []string{"all", "", "", first.cell(2), later.cell(2)})
	b.report.add(section{
		title: "Predicted and measured time per token",
		note: fmt.Sprintf("Milliseconds. Predicted: what `weft plan` says before the first reply of a fresh mesh, %d meshes each. Measured: the first reply of %d tokens, without drafts. "+
			"The ratios are predicted to measured, before any reply, and after three replies have corrected the prediction.", b.times, replyTokens),
		head: []string{"", "predicted", "measured", "ratio", "ratio after replies"},
		rows: rows,
	})
	return nil
}

// prediction is what the plans of one kind said and took, a sample a mesh.
type prediction struct {
	name         string
	first, took  series // ms
	later, after series
}

// planned makes fresh meshes, solo and split, and asks them.
func (b *bench) planned(ctx context.Context, prefix string, threads int) ([]*prediction, error) {
	solo, cut := &prediction{name: "solo"}, &prediction{name: "split in 2"}
	for i := range b.times {
		name := fmt.Sprintf("%s-%d-%d", prefix, threads, i)
		n, err := b.soloNode(ctx, name, threads)
		if err != nil {
			return nil, err
		}
		err = solo.sample(ctx, n)
		n.stop()
		if err != nil {
			return nil, err
		}
		s, err := b.startSplit(ctx, name+"-split", threads)
		if err != nil {
			return nil, err
		}
		err = cut.sample(ctx, s.head)
		s.stop()
		if err != nil {
			return nil, err
		}
	}
	return []*prediction{solo, cut}, nil
}

// sample asks a head whose plan is ready and has had no reply.
func (p *prediction) sample(ctx context.Context, n *process) error {
	var said, took [4]float64
	for i := range said {
		plan, err := n.Plan(ctx, api.PlanRequest{Model: entry}, nil)
		if err != nil {
			return err
		}
		greedy := 0.0
		r, err := n.Generate(ctx, api.GenerateRequest{
			Model: entry, Tokens: someTokens(1, uint64(i)), MaxTokens: replyTokens + 1, Temperature: &greedy, IgnoreEOS: true, NoPrefix: true, Speculate: "off",
		}, func(api.Event) error { return nil })
		if err != nil {
			return err
		}
		said[i], took[i] = plan.TPOTms, 1000/r.Timings.DecodeTPS
	}
	p.first, p.took = append(p.first, said[0]), append(p.took, took[0])
	p.later, p.after = append(p.later, said[3]), append(p.after, took[3])
	return nil
}
