package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/api"
)

// profileTime is how long each profile samples at least.
const profileTime = 5 * time.Second

// profile samples a solo node in this process, one thread, in prefill and in
// decode, and tells where its time goes.
func (b *bench) profile(ctx context.Context, keep string) error {
	if keep == "" {
		keep = b.dir
	}
	if err := os.MkdirAll(keep, 0o755); err != nil {
		return err
	}
	r, err := node.Start(ctx, api.Config{Home: filepath.Join(b.dir, "profile"), Solo: true, HTTP: "off", Threads: 1}, nil)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	path, err := filepath.Abs(b.model)
	if err != nil {
		return err
	}
	quiet := func(api.Progress) {}
	if _, err := r.Node().AddModel(ctx, api.AddRequest{Path: path, Name: entry, Context: contextSize}, quiet); err != nil {
		return err
	}
	// The first asks load the model and warm up.
	if _, err := ask(ctx, r.Node(), promptTokens, 8); err != nil {
		return err
	}
	decode, perToken, err := sampled(ctx, filepath.Join(keep, "decode.pprof"), r.Node(), 1, 4*replyTokens+1)
	if err != nil {
		return err
	}
	prefill, perPosition, err := sampled(ctx, filepath.Join(keep, "prefill.pprof"), r.Node(), 4*promptTokens-256, 1)
	if err != nil {
		return err
	}
	b.report.add(section{
		title: "Where the time goes",
		note: fmt.Sprintf("CPU profile of a solo node with 1 thread in this process: replies of %d tokens (contexts up to that; %.0f µs a token), and prompts of %d (%.0f µs a position). Shares of the samples, by the function that was running. What a step does beside matrix products and attention (norms to KV writes, quantising, sampling) takes %.1f%% of decode and %.1f%% of prefill; the goal is 10%% of decode.",
			4*replyTokens, perToken, 4*promptTokens-256, perPosition, restShare(decode), restShare(prefill)),
		head: []string{"share of CPU time, %", "decode", "prefill"},
		rows: shareRows(decode, prefill),
	})
	return nil
}

// sampled profiles replies of that shape, and gives the samples by group with
// the CPU microseconds of a token.
func sampled(ctx context.Context, path string, n api.Node, prompt, reply int) (map[string]float64, float64, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, 0, err
	}
	tokens := 0
	for begin := time.Now(); time.Since(begin) < profileTime; tokens += prompt + reply - 1 {
		if _, err := ask(ctx, n, prompt, reply); err != nil {
			pprof.StopCPUProfile()
			return nil, 0, err
		}
	}
	pprof.StopCPUProfile()
	if err := f.Close(); err != nil {
		return nil, 0, err
	}
	goTool := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-flat", "-nodecount=100000", "-nodefraction=0", "-unit=us", path)
	out, err := goTool.Output()
	if err != nil {
		return nil, 0, fmt.Errorf("read the profile: %w", err)
	}
	groups, total := parseTop(out)
	return groups, total / float64(tokens), nil
}

// What a step does beside matrix products and attention.
const (
	elementwise = "norms, RoPE, SiLU, residuals, embedding, KV writes"
	quantising  = "quantising activations"
	sampling    = "sampling"
)

// restShare is their share of the samples in percent.
func restShare(groups map[string]float64) float64 {
	return share(groups, elementwise) + share(groups, quantising) + share(groups, sampling)
}

// share is a group's share of the samples in percent.
func share(groups map[string]float64, name string) float64 {
	total := 0.0
	for _, v := range groups {
		total += v
	}
	return 100 * groups[name] / max(total, 1)
}

// groups say what functions do, first match.
var groups = []struct {
	name  string
	match *regexp.Regexp
}{
	{sampling, regexp.MustCompile(`shard/sample|kernels/cpu\..*([mM]axima|[wW]eights)`)},
	{"matrix products", regexp.MustCompile(`kernels/cpu\..*(mul_|MatMul|[mM]atmul|[pP]roduct|gemv|gemm|tile)`)},
	{"attention", regexp.MustCompile(`kernels/cpu\..*([aA]tt|score|weigh|soften|divide|fold)|arith\.(FMA|Exp)`)},
	{quantising, regexp.MustCompile(`kernels/cpu\..*([qQ]uant)`)},
	{"threads: waiting and sharing out", regexp.MustCompile(`kernels/cpu\..*(pool|park|spin|worker)`)},
	{elementwise, regexp.MustCompile(`weft/kernels/`)},
	{"stage, KV blocks", regexp.MustCompile(`weft/shard`)},
	{"head, worker, wire, client", regexp.MustCompile(`weft/(node|p2p|proto)|protobuf|encoding/json|net/http|reflect\.`)},
	{"Go: allocation and collection", regexp.MustCompile(`^runtime\.(malloc|gc|scan|mark|sweep|span|bg|new|grow|memclr|heap|typedmem|bulk|wb|greyobject|find|mspan|mcache|mcentral|\(\*(mspan|mcache|mcentral|mheap|gc|sweep|limiter|lfstack|pageAlloc|consistent|unwinder))`)},
	{"Go: scheduling, channels, system calls", regexp.MustCompile(`^(internal/)?runtime|^syscall|^internal/poll|^sync|^time|^internal/runtime|^context`)},
}

// parseTop sums the flat microseconds of a pprof table by group.
func parseTop(out []byte) (map[string]float64, float64) {
	shares, total := map[string]float64{}, 0.0
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 6 || !strings.HasSuffix(f[1], "%") {
			continue
		}
		us, err := strconv.ParseFloat(strings.TrimSuffix(f[0], "us"), 64)
		if err != nil {
			continue
		}
		shares[groupOf(strings.Join(f[5:], " "))] += us
		total += us
	}
	return shares, total
}

func groupOf(function string) string {
	for _, g := range groups {
		if g.match.MatchString(function) {
			return g.name
		}
	}
	return "other"
}

// shareRows are the groups by their share of decode.
func shareRows(decode, prefill map[string]float64) [][]string {
	names := []string{"other"}
	for _, g := range groups {
		names = append(names, g.name)
	}
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(share(decode, b), share(decode, a)) })
	var rows [][]string
	for _, n := range names {
		if d, p := share(decode, n), share(prefill, n); d > 0 || p > 0 {
			rows = append(rows, []string{n, fmt.Sprintf("%.1f", d), fmt.Sprintf("%.1f", p)})
		}
	}
	return rows
}
