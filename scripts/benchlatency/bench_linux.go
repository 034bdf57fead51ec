package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/scripts/netlab"
)

// ways are how a prompt is answered.
var ways = []string{"off", "sync", "async", "auto"}

// measure takes all samples and writes what it has after each delay, so that it
// is kept when something later fails or the user stops it.
func measure(ctx context.Context, s *settings) error {
	dir, err := os.MkdirTemp("", "weft-latency")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	rep := &report{settings: s, begin: time.Now(), before: load()}
	for _, n := range s.stages {
		if err := lab(ctx, s, dir, n, rep); err != nil {
			return fmt.Errorf("%d stages: %w", n, err)
		}
	}
	fmt.Println(rep.section())
	if rep.differ > 0 {
		return fmt.Errorf("%d of %d replies differ from those without speculation", rep.differ, rep.replies)
	}
	return nil
}

// lab measures one number of stages.
func lab(ctx context.Context, s *settings, dir string, n int, rep *report) error {
	l, err := netlab.New()
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	var hosts []*netlab.Host
	for i := range n + 1 {
		name := fmt.Sprint("n", i+1)
		if i == n {
			name = "head"
		}
		h, err := l.Host(name, 0)
		if err != nil {
			return err
		}
		hosts = append(hosts, h)
	}
	m, err := split(ctx, s, dir, hosts)
	if err != nil {
		return err
	}
	defer m.stop()
	one, err := l.Host("alone", 0)
	if err != nil {
		return err
	}
	alone, err := startAlone(ctx, s, dir, one)
	if err != nil {
		return err
	}
	defer alone.stop()
	other, err := startLlama(s, hosts)
	if err != nil {
		return err
	}
	if other != nil {
		defer other.stop()
	}
	for _, rtt := range s.rtts {
		if err := l.SetAll(netlab.Path{Delay: rtt / 2}); err != nil {
			return err
		}
		if err := cell(ctx, s, m, other, rep, n, rtt); err != nil {
			return fmt.Errorf("round trip %v: %w", rtt, err)
		}
		if err := besides(ctx, s, m, alone, rep, n, rtt); err != nil {
			return fmt.Errorf("round trip %v, beside a node alone: %w", rtt, err)
		}
		if err := rep.write(); err != nil {
			return err
		}
	}
	return nil
}

// cell measures one number of stages at one round trip: all ways of all prompts,
// in turn.
func cell(ctx context.Context, s *settings, m *mesh, other *llama, rep *report, n int, rtt time.Duration) error {
	for _, w := range ways { // what runs cost at this delay is learnt first
		if _, err := ask(ctx, m.head, kinds[0], w, 24); err != nil {
			return err
		}
	}
	var theirs []float64
	for round := range s.rounds {
		if other != nil {
			r, err := other.rate(ctx, max(8, s.tokens/2))
			if err != nil {
				return err
			}
			theirs = append(theirs, r)
			fmt.Printf("%d stages, %v, llama.cpp RPC, round %d: %.1f tokens/s, load %s\n", n, rtt, round+1, r, load())
		}
		for _, k := range kinds {
			var plain api.Reply
			for _, w := range ways {
				r, err := ask(ctx, m.head, k, w, s.tokens)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", k.name, w, err)
				}
				if w == "off" {
					plain = r
				}
				rep.replies++
				if !slices.Equal(plain.Tokens, r.Tokens) || plain.StateHash != r.StateHash {
					rep.differ++
				}
				rep.add(n, rtt, k.name, w, r)
				fmt.Printf("%d stages, %v, %s, %s, round %d: %.1f tokens/s, %d of %d drafted accepted, %.2f of the bound, load %s\n",
					n, rtt, k.name, w, round+1, r.Timings.DecodeTPS, r.Speculation.Accepted, r.Speculation.Drafted, r.Speculation.BoundShare, load())
			}
		}
	}
	rep.llama(n, rtt, theirs)
	return nil
}

// ask gets one reply. Nothing of earlier ones is remembered, so that turns are
// alike.
func ask(ctx context.Context, head *process, k kind, way string, tokens int) (api.Reply, error) {
	zero := 0.0
	r := api.GenerateRequest{Model: entry, MaxTokens: tokens, Temperature: &zero, IgnoreEOS: true, StateHash: true, NoPrefix: true, Speculate: way}
	k.set(&r)
	rep, err := head.Generate(ctx, r, func(api.Event) error { return nil })
	if err == nil && rep.Speculation == nil {
		err = fmt.Errorf("the node does not say what speculation did")
	}
	return rep, err
}
