package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/p2p/wire"
)

func TestAMedianIsTheMiddleWhateverTheOrder(t *testing.T) {
	for _, tc := range []struct {
		s    series
		want float64
		cell string
	}{
		{series{3, 1, 2}, 2, "2.0 (1.0–3.0)"},
		{series{4, 1, 2, 3}, 2.5, "2.5 (1.0–4.0)"},
		{series{7}, 7, "7.0 (7.0–7.0)"},
	} {
		if got := tc.s.median(); got != tc.want {
			t.Errorf("median of %v: %v, want %v", tc.s, got, tc.want)
		}
		if got := tc.s.cell(1); got != tc.cell {
			t.Errorf("cell of %v: %q, want %q", tc.s, got, tc.cell)
		}
	}
	if got := (series{}).cell(1); got != "–" {
		t.Errorf("no samples are written as %q", got)
	}
}

func TestPairsAreComparedInTheOrderTheyWereTaken(t *testing.T) {
	a, b := series{10, 20, 30}, series{5, 40, 10}
	if d := cmp.Diff(series{2, 0.5, 3}, a.ratios(b)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(series{5, -20, 20}, a.minus(b)); d != "" {
		t.Error(d)
	}
}

func TestOnlyTheMeasuredPartOfADocumentIsReplaced(t *testing.T) {
	doc := "# Title\n\nby hand\n\n" + written.Begin + "\nold\n" + written.End + "\n\nmore by hand\n"
	got, err := written.Replace(doc, "new\n")
	if err != nil {
		t.Fatal(err)
	}
	want := "# Title\n\nby hand\n\n" + written.Begin + "\n\nnew\n\n" + written.End + "\n\nmore by hand\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if again, _ := written.Replace(got, "new\n"); again != got {
		t.Error("writing the same figures twice changes the document")
	}
	if _, err := written.Replace("no marks", "new"); err == nil || !strings.Contains(err.Error(), written.Begin) {
		t.Errorf("a document without marks gave %v", err)
	}
}

func TestTablesLineUp(t *testing.T) {
	got := section{title: "T", head: []string{"", "µs"}, rows: [][]string{{"a – b", "1"}, {"c", "1000"}}}.markdown()
	want := "### T\n\n|       | µs   |\n|-------|-----:|\n| a – b | 1    |\n| c     | 1000 |\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestProfilesAreSummedByWhatFunctionsDo(t *testing.T) {
	top := `File: weft
Type: cpu
      flat  flat%   sum%        cum   cum%
 3600000us 59.80% 59.80%  3600000us 59.80%  github.com/weft-mesh/weft/kernels/cpu.mul_q4_1_g1t1_a8_avx512vnni
  300000us  4.98% 87.38%   300000us  4.98%  github.com/weft-mesh/weft/kernels/cpu.scores_f16_avx512vnni
   60000us     1% 90.37%    60000us     1%  github.com/weft-mesh/weft/shard/sample.argmax (inline)
   40000us  0.66% 92.36%    40000us  0.66%  runtime.futex
   20000us  0.33% 92.36%    20000us  0.33%  runtime.mallocgc
         0     0% 94.19%   410000us  6.81%  github.com/weft-mesh/weft/kernels/cpu.(*Device).Attention
`
	groups, total := parseTop([]byte(top))
	want := map[string]float64{
		"matrix products": 3.6e6, "attention": 3e5, "sampling": 6e4, "Go: scheduling, channels, system calls": 4e4, "Go: allocation and collection": 2e4,
	}
	for name, us := range want {
		if groups[name] != us {
			t.Errorf("%s: %v us, want %v", name, groups[name], us)
		}
	}
	if total != 4020000 {
		t.Errorf("total %v us", total)
	}
}

func TestFiguresOfOthersAreRead(t *testing.T) {
	pp, tg, err := parseLlamaBench([]byte(`[{"n_prompt":512,"n_gen":0,"avg_ts":180.5},{"n_prompt":0,"n_gen":64,"avg_ts":90.25}]`))
	if err != nil || pp != 180.5 || tg != 90.25 {
		t.Errorf("%v %v %v", pp, tg, err)
	}
	for _, bad := range []string{"", "{}", "[]", `[{"n_prompt":512,"n_gen":0,"avg_ts":180.5}]`} {
		if _, _, err := parseLlamaBench([]byte(bad)); err == nil {
			t.Errorf("%q was taken for figures", bad)
		}
	}
	r, err := parseStatus([]byte("Name:\tweft\nVmRSS:\t 100 kB\nRssAnon:\t  60 kB\nRssFile:\t  30 kB\nRssShmem:\t  10 kB\n"))
	if err != nil || r.anon != 60*1024 || r.file != 40*1024 {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := parseStatus([]byte("VmRSS: 100 kB\n")); err == nil {
		t.Error("memory was read of a status that does not tell it")
	}
}

func TestEchoesBringBackWhatWasSent(t *testing.T) {
	near, far := net.Pipe()
	go echoBytes(far)
	e := &byteEcho{stream: near}
	a, b := wire.Pipe("near", "far", wire.Config{})
	done := make(chan struct{})
	go func() { echoFrames(b); close(done) }()
	for _, size := range hopSizes {
		if _, err := oneWay(t.Context(), e, size); err != nil {
			t.Errorf("%d bytes over a stream: %v", size, err)
		}
		if _, err := oneWay(t.Context(), linkEcho{a}, size); err != nil {
			t.Errorf("%d bytes over a link: %v", size, err)
		}
	}
	_ = near.Close()
	a.Close(nil)
	<-done
	<-a.Done()
}

func TestTheFarProcessServesItsMeshOnlyAndEndsWithItsInput(t *testing.T) {
	in, say := io.Pipe()
	hear, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- serveEchoes(context.Background(), t.TempDir(), in, out) }()
	var id farID
	if err := json.NewDecoder(hear).Decode(&id); err != nil || id.Peer == "" {
		t.Fatalf("%+v %v", id, err)
	}
	if err := json.NewEncoder(say).Encode(membership{Mesh: bytes.Repeat([]byte{1}, 5)}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("a mesh id of five bytes was taken")
	}
}

func TestKernelsAreCountedWhereTheyBelong(t *testing.T) {
	for function, want := range map[string]string{
		"github.com/weft-mesh/weft/kernels/cpu.mul_q4_1_g2t4_a8_avx512vnni": "matrix products",
		"github.com/weft-mesh/weft/kernels/cpu.weigh_f16_avx512vnni":        "attention",
		"github.com/weft-mesh/weft/kernels/cpu.foldScales_avx2":             "attention",
		"github.com/weft-mesh/weft/kernels/cpu.weights_avx512vnni":          sampling,
		"github.com/weft-mesh/weft/kernels/cpu.(*kernelSet).blockMaxima":    sampling,
		"github.com/weft-mesh/weft/shard/sample.(*Sampler).argmax":          sampling,
		"github.com/weft-mesh/weft/kernels/cpu.quantise_a8_avx512vnni":      quantising,
		"github.com/weft-mesh/weft/kernels/cpu.siluMul_avx512vnni":          elementwise,
		"github.com/weft-mesh/weft/kernels/cpu.notFinite_avx512vnni":        elementwise,
		"github.com/weft-mesh/weft/shard.(*Stage).Step":                     "stage, KV blocks",
	} {
		if got := groupOf(function); got != want {
			t.Errorf("%s counts as %q; want %q", function, got, want)
		}
	}
	if got := restShare(map[string]float64{"matrix products": 70, sampling: 5, quantising: 3, elementwise: 2, "other": 20}); got != 10 {
		t.Errorf("the rest of a step is %g%%; want 10", got)
	}
}

func TestContextsWithoutARateLeaveItOut(t *testing.T) {
	got := contextRows(api.BenchReport{Contexts: []api.BenchContext{
		{Threads: 2, Micros: 4000.4, TokensPS: 249.97},
		{Threads: 2, Context: 1024, Micros: 5000, TokensPS: 200, KVBytes: 23_600_000, KVBps: 23.6e9, MemoryShare: 0.874},
	}})
	want := [][]string{{"2", "0", "4000", "250.0", "0.0", "", ""}, {"2", "1024", "5000", "200.0", "23.6", "23.6", "87%"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
