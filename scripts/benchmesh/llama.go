package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
)

// compare runs llama-bench and weft in turn on the same file, if there is one.
func (b *bench) compare(ctx context.Context) error {
	if b.llama == "" {
		b.report.add(section{
			title: "Beside llama.cpp",
			note:  "Not measured in this run: no `llama-bench` on PATH or in `$LLAMA_BENCH`.",
		})
		return nil
	}
	var rows [][]string
	for _, threads := range []int{1, 2} {
		more, err := b.compareWith(ctx, threads)
		if err != nil {
			return err
		}
		rows = append(rows, more...)
	}
	b.report.add(section{
		title: "Beside llama.cpp",
		note:  fmt.Sprintf("`llama-bench -m FILE -t THREADS -p %d -n %d -r 1` and a solo `weft up` in turn (A B A B), ratios pair by pair.", promptTokens, replyTokens),
		head:  []string{"tokens/s", "weft", "llama.cpp", "ratio"},
		rows:  rows,
	})
	return nil
}

func (b *bench) compareWith(ctx context.Context, threads int) ([][]string, error) {
	n, err := b.soloNode(ctx, fmt.Sprintf("llama%d", threads), threads)
	if err != nil {
		return nil, err
	}
	defer n.stop()
	own := &way{n: n}
	if err := own.sample(ctx, false); err != nil {
		return nil, err
	}
	var pp, tg series
	for range b.times {
		if err := own.sample(ctx, true); err != nil {
			return nil, err
		}
		p, t, err := b.llamaBench(ctx, threads)
		if err != nil {
			return nil, err
		}
		pp, tg = append(pp, p), append(tg, t)
	}
	return [][]string{
		{fmt.Sprintf("pp%d, %d threads", promptTokens, threads), own.prefill.cell(0), pp.cell(0), own.prefill.ratios(pp).cell(2)},
		{fmt.Sprintf("tg%d, %d threads", replyTokens, threads), own.decode.cell(1), tg.cell(1), own.decode.ratios(tg).cell(2)},
	}, nil
}

// llamaBench is one run: tokens/s of prefill and decode.
func (b *bench) llamaBench(ctx context.Context, threads int) (pp, tg float64, err error) {
	out, err := exec.CommandContext(ctx, b.llama, "-m", b.model, "-t", fmt.Sprint(threads),
		"-p", fmt.Sprint(promptTokens), "-n", fmt.Sprint(replyTokens), "-r", "1", "-o", "json").Output()
	if err != nil {
		return 0, 0, fmt.Errorf("run %s: %w", b.llama, err)
	}
	return parseLlamaBench(out)
}

func parseLlamaBench(out []byte) (pp, tg float64, err error) {
	var tests []struct {
		Prompt int     `json:"n_prompt"`
		Gen    int     `json:"n_gen"`
		Rate   float64 `json:"avg_ts"`
	}
	if err := json.Unmarshal(out, &tests); err != nil {
		return 0, 0, fmt.Errorf("read the figures of llama-bench: %w", err)
	}
	for _, t := range tests {
		switch {
		case t.Prompt > 0 && t.Gen == 0:
			pp = t.Rate
		case t.Gen > 0 && t.Prompt == 0:
			tg = t.Rate
		}
	}
	if pp <= 0 || tg <= 0 {
		return 0, 0, fmt.Errorf("llama-bench gave no figure for prefill and decode")
	}
	return pp, tg, nil
}
