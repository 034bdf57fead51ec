package main

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/weft-mesh/weft/node/api"
)

// What is asked for: a prompt as long as llama-bench's usual one, and as many
// tokens as its.
const (
	promptTokens = 512
	replyTokens  = 64
)

// way is one way to have the model answer.
type way struct {
	name    string
	n       *process
	prefill series // tokens/s of a prompt of promptTokens
	decode  series // tokens/s from an empty context
	deep    series // tokens/s behind that prompt
}

// tokens measures tokens/s solo and split, all ways in turn, so that pairs are
// of the same moment.
func (b *bench) tokens(ctx context.Context) error {
	var rows [][]string
	for _, threads := range []int{1, 2} {
		ways, err := b.threeWays(ctx, threads)
		if err != nil {
			return err
		}
		for i, w := range ways {
			row := []string{fmt.Sprintf("%s, --threads %d", w.name, threads), w.prefill.cell(0), w.decode.cell(1), w.deep.cell(1), "1", "1"}
			if i > 0 {
				row[4], row[5] = w.prefill.ratios(ways[0].prefill).cell(2), w.decode.ratios(ways[0].decode).cell(2)
			}
			rows = append(rows, row)
		}
	}
	b.report.add(section{
		title: "Tokens per second",
		note: fmt.Sprintf("Greedy. `pp%d`: a prompt of %d tokens; `tg%d`: %d tokens from an empty context, or behind that prompt. "+
			"Split: two `weft up` processes hold half of the layers each, on the same machine over loopback; `--threads` is of each process. Ratios are of pairs measured in turn, to solo with the same `--threads`.",
			promptTokens, promptTokens, replyTokens, replyTokens),
		head: []string{"tokens/s", fmt.Sprintf("pp%d", promptTokens), fmt.Sprintf("tg%d", replyTokens), fmt.Sprintf("tg%d behind pp%d", replyTokens, promptTokens), "pp to solo", "tg to solo"},
		rows: rows,
	})
	return nil
}

// threeWays measures solo, split asked on a node without weights, and split
// asked on the first stage's node.
func (b *bench) threeWays(ctx context.Context, threads int) ([]*way, error) {
	solo, err := b.soloNode(ctx, fmt.Sprintf("solo%d", threads), threads)
	if err != nil {
		return nil, err
	}
	defer solo.stop()
	s, err := b.startSplit(ctx, fmt.Sprintf("split%d", threads), threads)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	ways := []*way{
		{name: "solo", n: solo},
		{name: "split in 2, asked on a node without weights", n: s.head},
		{name: "split in 2, asked on the first stage", n: s.first()},
	}
	for i := range b.times + 1 {
		for _, w := range ways {
			if err := w.sample(ctx, i > 0); err != nil { // the first time warms up
				return nil, fmt.Errorf("%s: %w", w.name, err)
			}
		}
	}
	return ways, nil
}

// soloNode starts a node alone that has the model ready.
func (b *bench) soloNode(ctx context.Context, name string, threads int) (*process, error) {
	n, err := b.up(ctx, name, "--threads", fmt.Sprint(threads))
	if err != nil {
		return nil, err
	}
	if err = b.addModel(ctx, n); err == nil {
		_, err = ready(ctx, n)
	}
	if err != nil {
		n.stop()
		return nil, err
	}
	return n, nil
}

// sample asks once for each figure.
func (w *way) sample(ctx context.Context, keep bool) error {
	long, err := ask(ctx, w.n, promptTokens, replyTokens+1)
	if err != nil {
		return err
	}
	short, err := ask(ctx, w.n, 1, replyTokens+1)
	if err != nil {
		return err
	}
	if keep {
		w.prefill = append(w.prefill, long.Timings.PrefillTPS)
		w.deep = append(w.deep, long.Timings.DecodeTPS)
		w.decode = append(w.decode, short.Timings.DecodeTPS)
	}
	return nil
}

// ask has a node answer a prompt of that many tokens with exactly that many.
func ask(ctx context.Context, n api.Node, prompt, reply int) (api.Reply, error) {
	greedy := 0.0
	r, err := n.Generate(ctx, api.GenerateRequest{
		Model: entry, Tokens: someTokens(prompt, 1), MaxTokens: reply, Temperature: &greedy, IgnoreEOS: true, NoPrefix: true,
	}, func(api.Event) error { return nil })
	if err == nil && len(r.Tokens) != reply {
		err = fmt.Errorf("%d tokens came, not %d", len(r.Tokens), reply)
	}
	return r, err
}

// someTokens is a prompt without meaning, the same in every run. Its ids are
// ones that every common vocabulary has.
func someTokens(n int, seed uint64) []int32 {
	r := rand.New(rand.NewPCG(seed, 0))
	out := make([]int32, n)
	for i := range out {
		out[i] = 300 + r.Int32N(20000)
	}
	return out
}
