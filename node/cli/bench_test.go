package cli_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/weft-mesh/weft/node/api"
)

// fakeBench says what it was asked and gives figures that stretch the table.
func fakeBench(_ context.Context, o api.BenchOptions, progress func(api.Progress)) (api.BenchReport, error) {
	if os.Getenv("WEFT_FAKE") == "fail" {
		return api.BenchReport{}, errors.New("bench: no such model")
	}
	progress(api.Progress{Phase: "bench", Text: "measuring"})
	if o.Depth > 0 {
		fmt.Fprintf(os.Stderr, "model=%s prompt=%v gen=%d depth=%d threads=%v parallel=%v repeat=%d\n", o.Model, o.Prompt, o.Gen, o.Depth, o.Threads, o.Parallel, o.Repeat)
	}
	r := api.BenchReport{
		Model: "a-model-with-a-rather-long-name.Q4_K_M", WeightBytes: 4_680_000_000, Profile: "contract 1, 8-bit activations, f16 KV, context 8192",
		Machine: []api.BenchMachine{{Threads: 16, Device: "cpu avx512vnni, 16 threads", ReadBps: 212e9, ProductOps: 12345e9}},
	}
	if o.Act != 0 {
		r.Profile = strings.Replace(r.Profile, "8-bit", fmt.Sprintf("%d-bit", o.Act), 1)
	}
	for i, n := range o.Contexts {
		c := api.BenchContext{Threads: 16, Context: n, Micros: 4000, TokensPS: 250}
		if i > 0 {
			c.Micros, c.TokensPS, c.KVBytes, c.KVBps, c.MemoryShare = 8000, 125, int64(n)*23040, 189e9, 0.89
		}
		r.Contexts = append(r.Contexts, c)
	}
	if o.Gen == 0 {
		return r, nil
	}
	for _, p := range o.Prompt {
		r.Results = append(r.Results, api.BenchResult{Model: r.Model, Threads: 16, Parallel: 1, NPrompt: p, Depth: o.Depth, TokensPS: 12345.25, Deviation: 123.4, Median: 12346, Samples: []float64{1, 2}, WeightsBps: 123e9, MemoryShare: 0.58, Ops: 8000e9, ProductShare: 0.65})
	}
	for _, n := range o.Parallel {
		r.Results = append(r.Results, api.BenchResult{Model: r.Model, Threads: 16, Parallel: n * 16, NGen: o.Gen, Depth: o.Depth, TokensPS: 100.25, Deviation: 0.5, Median: 100, Samples: []float64{1, 2}, WeightsBps: 212e9, MemoryShare: 1.01, Ops: 900e9, ProductShare: 0.07})
	}
	return r, nil
}
