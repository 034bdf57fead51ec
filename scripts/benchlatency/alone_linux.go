package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/scripts/netlab"
)

// startAlone starts a node that is in no mesh with the others and holds all of
// the model: what one node can do, on one thread.
func startAlone(ctx context.Context, s *settings, dir string, h *netlab.Host) (*process, error) {
	p, err := start(ctx, s.weft, filepath.Join(dir, "alone-"+h.Name()), h, "--new", "alone")
	if err != nil {
		return nil, err
	}
	path, err := filepath.Abs(s.model)
	if err == nil {
		_, err = p.AddModel(ctx, api.AddRequest{Path: path, Name: entry, Context: contextSize}, nil)
	}
	if err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// firstStage is the node of the mesh that computes the first stage.
func (m *mesh) firstStage(ctx context.Context) (*process, error) {
	plan, err := m.head.Plan(ctx, api.PlanRequest{Model: entry, Load: true}, nil)
	if err != nil {
		return nil, err
	}
	for _, n := range m.nodes {
		st, err := n.Status(ctx)
		if err != nil {
			return nil, err
		}
		if st.PeerID == plan.Stages[0].Node {
			return n, nil
		}
	}
	return nil, fmt.Errorf("no node computes the first stage of %s", entry)
}

// besides measures what is compared with one node alone, at one round trip: how
// fast a long prompt is read, and a reply that copies.
func besides(ctx context.Context, s *settings, m *mesh, alone *process, rep *report, n int, rtt time.Duration) error {
	first, err := m.firstStage(ctx)
	if err != nil {
		return err
	}
	b := beside{stages: n, rtt: rtt}
	for round := range s.rounds + 1 {
		one, err := reading(ctx, alone, round)
		if err != nil {
			return err
		}
		all, err := reading(ctx, m.head, round)
		if err != nil {
			return err
		}
		off, err := ask(ctx, alone, kinds[0], "off", s.tokens)
		if err != nil {
			return err
		}
		auto, err := ask(ctx, alone, kinds[0], "auto", s.tokens)
		if err != nil {
			return err
		}
		near, err := ask(ctx, first, kinds[0], "auto", s.tokens)
		if err != nil {
			return err
		}
		if round == 0 { // what runs cost is learnt first
			continue
		}
		b.readOne, b.readAll = append(b.readOne, one), append(b.readAll, all)
		b.off, b.auto, b.near = append(b.off, off.Timings.DecodeTPS), append(b.auto, auto.Timings.DecodeTPS), append(b.near, near.Timings.DecodeTPS)
		fmt.Printf("%d stages, %v, round %d: a prompt at %.0f tokens/s alone, %.0f together; copying at %.1f alone without speculation, %.1f with, %.1f from the first stage, load %s\n",
			n, rtt, round, one, all, off.Timings.DecodeTPS, auto.Timings.DecodeTPS, near.Timings.DecodeTPS, load())
	}
	rep.besides = append(rep.besides, b)
	return nil
}

// reading is how fast a prompt of promptTokens is read, in tokens a second.
func reading(ctx context.Context, p *process, round int) (float64, error) {
	zero := 0.0
	r := api.GenerateRequest{Model: entry, MaxTokens: 1, Temperature: &zero, NoPrefix: true, IgnoreEOS: true}
	for i := range promptTokens {
		r.Tokens = append(r.Tokens, int32(1000+(i*i*7+i*(round+3))%20000))
	}
	rep, err := p.Generate(ctx, r, func(api.Event) error { return nil })
	return rep.Timings.PrefillTPS, err
}
