package main

import (
	"context"
	"fmt"
	"time"
)

// startup are the times of one start, each from the beginning of its step.
type startup struct{ answer, add, load, first, total series }

// starts measures a node's way from its first byte to its first token: with a
// fresh home, then with what that left behind.
func (b *bench) starts(ctx context.Context) error {
	var cold, warm startup
	for i := range b.times {
		name := fmt.Sprintf("start%d", i)
		if err := b.start(ctx, &cold, name, true); err != nil {
			return fmt.Errorf("cold: %w", err)
		}
		if err := b.start(ctx, &warm, name, false); err != nil {
			return fmt.Errorf("warm: %w", err)
		}
	}
	row := func(name string, s startup) []string {
		return []string{name, s.answer.cell(0), s.add.cell(0), s.load.cell(0), s.total.cell(0), s.first.cell(0)}
	}
	b.report.add(section{
		title: "From `weft up` to ready, in milliseconds",
		note: "One node alone with its default threads. Cold: a fresh home, so the machine's speed is measured, the file hashed (`weft add`) and its tensors packed; the file is in the page cache. " +
			"Warm: the same home again. Ready means that a probe token has crossed the plan.",
		head: []string{"", "answers `weft status`", "model added", "planned, loaded, probed", "start to ready", "then a first token (1 position)"},
		rows: [][]string{row("cold", cold), row("warm", warm)},
	})
	return nil
}

func (b *bench) start(ctx context.Context, s *startup, name string, cold bool) error {
	n, err := b.up(ctx, name)
	if err != nil {
		return err
	}
	defer n.stop()
	s.answer = append(s.answer, millis(n.answer))
	added := time.Now()
	if cold {
		if err := b.addModel(ctx, n); err != nil {
			return err
		}
		s.add = append(s.add, millis(time.Since(added)))
	}
	planned := time.Now()
	if _, err := ready(ctx, n); err != nil {
		return err
	}
	s.load = append(s.load, millis(time.Since(planned)))
	s.total = append(s.total, millis(time.Since(n.started)))
	asked := time.Now()
	if _, err := ask(ctx, n, 1, 1); err != nil {
		return err
	}
	s.first = append(s.first, millis(time.Since(asked)))
	return nil
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
