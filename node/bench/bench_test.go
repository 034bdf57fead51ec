package bench

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/shard"
	"github.com/weft-mesh/weft/shard/model"
)

// small keeps the measurements of the machine itself short.
var small = sizes{read: 1 << 20, product: 256, time: time.Millisecond}

func tiny(t *testing.T) string {
	t.Helper()
	p, err := filepath.Abs("../../shard/testdata/tiny/llama-Q4_1.gguf")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func options(t *testing.T) api.BenchOptions {
	return api.BenchOptions{Home: t.TempDir(), Model: tiny(t), Prompt: []int{5, 0, 33}, Gen: 4, Threads: []int{1, 2}, Parallel: []int{1, 3}, Repeat: 3}
}

func TestEveryTestIsMeasuredWithEveryNumberOfThreads(t *testing.T) {
	var said []string
	rep, err := run(t.Context(), options(t), func(p api.Progress) { said = append(said, p.Text) }, small)
	if err != nil {
		t.Fatal(err)
	}
	type key struct{ threads, parallel, prompt, gen int }
	var got []key
	for _, r := range rep.Results {
		got = append(got, key{r.Threads, r.Parallel, r.NPrompt, r.NGen})
		if len(r.Samples) != 3 || r.Model != rep.Model {
			t.Errorf("%+v: 3 samples of model %q were asked for", r, rep.Model)
		}
		for _, v := range append(r.Samples, r.TokensPS, r.Median, r.WeightsBps, r.MemoryShare, r.Ops, r.ProductShare) {
			if !(v > 0) || math.IsInf(v, 0) {
				t.Errorf("%+v: %v is no rate", r, v)
			}
		}
	}
	want := []key{
		{1, 1, 5, 0},
		{1, 1, 33, 0},
		{1, 1, 0, 4},
		{1, 3, 0, 4},
		{2, 1, 5, 0},
		{2, 1, 33, 0},
		{2, 1, 0, 4},
		{2, 3, 0, 4},
	}
	if len(got) != len(want) {
		t.Fatalf("results of %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("result %d is of %v, want %v", i, got[i], want[i])
		}
	}
	if len(rep.Machine) != 2 || rep.Machine[1].Threads != 2 || !(rep.Machine[0].ReadBps > 0) || !(rep.Machine[0].ProductOps > 0) {
		t.Errorf("machine %+v", rep.Machine)
	}
	if all := strings.Join(said, "\n"); !strings.Contains(all, "prefill of 33 tokens") || !strings.Contains(all, "decode of 4 tokens in 3 sessions") {
		t.Errorf("progress:\n%s", all)
	}
}

func TestContextsAreMeasuredByThemselves(t *testing.T) {
	o := options(t)
	o.Prompt, o.Gen, o.Repeat, o.Contexts, o.Act = nil, 0, 2, []int{300, 0, 17}, 16
	rep, err := run(t.Context(), o, nil, small)
	if err != nil {
		t.Fatal(err)
	}
	if len(rep.Results) != 0 || len(rep.Contexts) != 6 || !strings.Contains(rep.Profile, "a16") {
		t.Fatalf("%d results and %d contexts of profile %s; none, 3 with each of two numbers of threads, and 16 bits were asked for", len(rep.Results), len(rep.Contexts), rep.Profile)
	}
	for i, c := range rep.Contexts {
		if c.Context != o.Contexts[i%3] || c.Threads != o.Threads[i/3] || len(c.Samples) != 2 || !(c.Micros > 0) || math.Abs(c.TokensPS*c.Micros-1e6) > 1 {
			t.Errorf("context %d: %+v", i, c)
		}
	}
	if a, b := rep.Contexts[0].KVBytes, rep.Contexts[2].KVBytes; a <= 0 || a*17 != b*300 {
		t.Errorf("300 and 17 tokens read %d and %d bytes", a, b)
	}
}

func TestContextsThatDoNotFitIntoMemoryAreRefused(t *testing.T) {
	layout := kernels.KVLayout{Layers: 30, Heads: 3, HeadDim: 64} // 23,040 bytes a position
	if err := fits(layout, 33000, 1<<30); err != nil {
		t.Errorf("760 MB in 1 GB: %v", err)
	}
	if err := fits(layout, 66000, 1<<30); err == nil || !strings.Contains(err.Error(), "--contexts") {
		t.Errorf("1.5 GB in 1 GB: error %v", err)
	}
	if err := fits(layout, 66000, 0); err != nil {
		t.Errorf("memory that is not known: %v", err)
	}
}

func TestContextsAreRatedBesideTheShortest(t *testing.T) {
	got := contextRates([]int{1000, 0, 4000}, []int64{20000, 0, 80000}, [][]float64{{300, 250}, {100}, {900, 2000}}, api.BenchMachine{Threads: 3, ReadBps: 200e6})
	for i, want := range []struct{ micros, rate, share float64 }{
		{250, 20 * 1000 / 150e-6, 20 * 1000 / 150e-6 / 200e6}, {100, 0, 0}, {900, 20 * 4000 / 800e-6, 20 * 4000 / 800e-6 / 200e6},
	} {
		if c := got[i]; c.Micros != want.micros || math.Abs(c.KVBps-want.rate) > 1 || math.Abs(c.MemoryShare-want.share) > 1e-9 || c.Threads != 3 {
			t.Errorf("%+v; want %+v", c, want)
		}
	}
}

func TestReportHasTheNamesThatReadersExpect(t *testing.T) {
	o := options(t)
	o.Threads, o.Prompt, o.Parallel = []int{1}, []int{4}, []int{2}
	rep, err := run(t.Context(), o, nil, small)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(rep)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Results []map[string]any }
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Results) != 2 {
		t.Fatalf("%s", b)
	}
	for i, want := range []map[string]float64{{"threads": 1, "parallel": 1, "n_prompt": 4, "n_gen": 0}, {"threads": 1, "parallel": 2, "n_prompt": 0, "n_gen": 4}} {
		r := got.Results[i]
		for k, v := range want {
			if r[k] != v {
				t.Errorf("result %d: %s is %v, want %v", i, k, r[k], v)
			}
		}
		if rate, ok := r["tokens_per_s"].(float64); !ok || rate <= 0 {
			t.Errorf("result %d: tokens_per_s is %v", i, r["tokens_per_s"])
		}
		if s, ok := r["samples"].([]any); !ok || len(s) != 3 {
			t.Errorf("result %d: samples are %v", i, r["samples"])
		}
		if r["model"] != "llama-Q4_1" {
			t.Errorf("result %d: model is %v", i, r["model"])
		}
	}
}

func TestContextBeforeATestIsComputedAndNotCounted(t *testing.T) {
	m, st, r := opened(t, test{depth: 40, prompt: 300, parallel: 1})
	defer m.close()
	if _, err := r.sample(t.Context(), test{depth: 40, prompt: 300, parallel: 1}); err != nil {
		t.Fatal(err)
	}
	if s := st.Stats(); s.Sessions != 0 {
		t.Errorf("%d sessions are left open", s.Sessions)
	}
	if _, err := r.sample(t.Context(), test{depth: 17, gen: 3, parallel: 5}); err != nil {
		t.Fatal(err)
	}
	if r.opened != 6 {
		t.Errorf("%d sessions were opened, want 1 and 5", r.opened)
	}
}

// opened is a stage of the tiny model with room for t.
func opened(tb *testing.T, t test) (*benched, *shard.Stage, *runner) {
	tb.Helper()
	m, err := open(tb.Context(), tb.TempDir(), tiny(tb), func(api.Progress) {})
	if err != nil {
		tb.Fatal(err)
	}
	dev, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		tb.Fatal(err)
	}
	st, err := m.stage(tb.Context(), dev, []test{t})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { st.Close(); dev.Close() })
	return m, st, &runner{stage: st, vocab: m.config.Vocab}
}

func TestRatesFollowFromTheModelsShape(t *testing.T) {
	m := &benched{sizes: model.Sizes{Layers: []int64{400, 500}, Experts: make([]int64, 2)}, headBytes: 100, layerOps: 1800, headOps: 200}
	limits := api.BenchMachine{ReadBps: 20000, ProductOps: 80000}
	for _, c := range []struct {
		r          api.BenchResult
		bytes, ops float64
	}{
		{api.BenchResult{NGen: 64, Parallel: 1, Median: 10}, 10 * 1000, 10 * 2000},
		{api.BenchResult{NGen: 64, Parallel: 4, Median: 40}, 10 * 1000, 40 * 2000},
		{api.BenchResult{NPrompt: 512, Parallel: 1, Median: 512}, 2*900 + 100, 512*1800 + 200},
		{api.BenchResult{NPrompt: 257, Parallel: 1, Median: 257}, 2*900 + 100, 257*1800 + 200},
	} {
		m.rates(&c.r, limits)
		if math.Abs(c.r.WeightsBps-c.bytes) > 1e-6*c.bytes || math.Abs(c.r.Ops-c.ops) > 1e-6*c.ops {
			t.Errorf("%+v: want %v bytes/s and %v ops/s", c.r, c.bytes, c.ops)
		}
		if math.Abs(c.r.MemoryShare-c.bytes/20000) > 1e-9 || math.Abs(c.r.ProductShare-c.ops/80000) > 1e-6 {
			t.Errorf("%+v: shares are wrong", c.r)
		}
	}
}

func TestSummaryIsThatOfStatistics(t *testing.T) {
	mean, dev, median := summary([]float64{2, 4, 4, 4, 5, 5, 7, 9})
	if mean != 5 || median != 4.5 || math.Abs(dev-math.Sqrt(32.0/7)) > 1e-12 {
		t.Errorf("mean %v, deviation %v, median %v", mean, dev, median)
	}
	if mean, dev, median := summary([]float64{3}); mean != 3 || dev != 0 || median != 3 {
		t.Errorf("of one sample: %v, %v, %v", mean, dev, median)
	}
}

func TestWhatCannotBeMeasuredIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*api.BenchOptions)
		says   string
	}{
		"no test":         {func(o *api.BenchOptions) { o.Prompt, o.Gen = []int{0}, 0 }, "nothing to measure"},
		"no samples":      {func(o *api.BenchOptions) { o.Repeat = 0 }, "nothing to measure"},
		"long prompt":     {func(o *api.BenchOptions) { o.Prompt = []int{1 << 19} }, "context has"},
		"deep context":    {func(o *api.BenchOptions) { o.Depth = 1 << 19 }, "context has"},
		"many sessions":   {func(o *api.BenchOptions) { o.Parallel = []int{257} }, "257 sessions"},
		"no model":        {func(o *api.BenchOptions) { o.Model = "nothing" }, "no such model"},
		"no model at all": {func(o *api.BenchOptions) { o.Model = "" }, "no such model"},
		"threads":         {func(o *api.BenchOptions) { o.Threads = []int{-1} }, "-1 threads"},
		"no model file":   {func(o *api.BenchOptions) { o.Model = "bench.go" }, "bench.go"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			c.change(&o)
			if _, err := run(t.Context(), o, nil, small); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that says %q", err, c.says)
			}
		})
	}
}

func TestTheEndOfTheContextEndsTheMeasurement(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := run(ctx, options(t), func(p api.Progress) {
		if strings.HasPrefix(p.Text, "decode") {
			cancel()
		}
	}, small)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
}
