package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/scripts/marked"
)

// written is the part of the document that a run writes.
var written = marked.Section{
	Begin: "<!-- latency: written by scripts/bench-latency -->",
	End:   "<!-- end of latency -->",
}

// sample is a reply's figures.
type sample struct{ rate, accepted, bound float64 }

// row is one prompt over one plan and delay, its samples by way in turn.
type row struct {
	stages int
	rtt    time.Duration
	kind   string
	by     map[string][]sample
}

// report collects samples.
type report struct {
	settings        *settings
	begin           time.Time
	before          string
	rows            []*row
	theirs          map[string][]float64 // of llama.cpp, by stages and delay
	replies, differ int
	besides         []beside
}

// promptTokens is the length of the prompt whose reading is measured.
const promptTokens = 512

// beside is what is compared with one node alone, which has one thread too.
type beside struct {
	stages           int
	rtt              time.Duration
	readOne, readAll []float64 // tokens/s of a prompt, alone and over the stages
	off, auto        []float64 // of a reply that copies, alone
	near             []float64 // of it, asked at the first stage
}

// alone is the table of what is compared with one node alone.
func (r *report) alone() string {
	if len(r.besides) == 0 {
		return ""
	}
	lines := [][]string{{"stages", "RTT", "prompt, one node", "prompt, all", "all/one", "copying, one node, off", "one node, auto", "auto/off", "first stage asked, auto", "to one node, off"}}
	for _, b := range r.besides {
		lines = append(lines, []string{
			fmt.Sprint(b.stages), b.rtt.String(), spread(b.readOne, 0), spread(b.readAll, 0), "**" + spread(ratios(b.readAll, b.readOne), 2) + "**",
			spread(b.off, 1), spread(b.auto, 1), "**" + spread(ratios(b.auto, b.off), 2) + "**", spread(b.near, 1), "**" + spread(ratios(b.near, b.off), 2) + "**",
		})
	}
	return fmt.Sprintf("\nBeside one node alone, of one thread, in the same run: tokens/s of reading a prompt of %d tokens, and of a reply to the first prompt above.\n\n", promptTokens) + markdown(lines)
}

func (r *report) row(stages int, rtt time.Duration, kind string) *row {
	for _, x := range r.rows {
		if x.stages == stages && x.rtt == rtt && x.kind == kind {
			return x
		}
	}
	x := &row{stages, rtt, kind, map[string][]sample{}}
	r.rows = append(r.rows, x)
	return x
}

func (r *report) add(stages int, rtt time.Duration, kind, way string, rep api.Reply) {
	s := sample{rate: rep.Timings.DecodeTPS, bound: rep.Speculation.BoundShare}
	if n := len(rep.Tokens) - 1; n > 0 {
		s.accepted = float64(rep.Speculation.Accepted) / float64(n)
	}
	x := r.row(stages, rtt, kind)
	x.by[way] = append(x.by[way], s)
}

func (r *report) llama(stages int, rtt time.Duration, rates []float64) {
	if r.theirs == nil {
		r.theirs = map[string][]float64{}
	}
	r.theirs[cellName(stages, rtt)] = rates
}

func cellName(stages int, rtt time.Duration) string { return fmt.Sprint(stages, " ", rtt) }

// write puts what there is into the document.
func (r *report) write() error {
	if r.settings.doc == "" {
		return nil
	}
	return written.Write(r.settings.doc, r.section())
}

// section is what a run writes.
func (r *report) section() string {
	var b strings.Builder
	s := r.settings
	fmt.Fprintf(&b, "%s, %s/%s, %d cores. Load average (1, 5, 15 min) before: %s; after %s: %s.\n\n",
		r.begin.UTC().Format("2 January 2006, 15:04 UTC"), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), r.before, time.Since(r.begin).Round(time.Second), load())
	fmt.Fprintf(&b, "Nodes in a network lab, one thread each, the head on its own without weights; %d tokens a reply, all ways of a prompt in turn, %d rounds. Tokens/s as median (least–most); ratios are medians of the turns' ratios. Accepted: share of the reply's tokens that were drafted; bound: share of what section 7 of the design allows at that acceptance; both of `auto`. %d replies, %d of them differ from those without speculation.\n\n",
		s.tokens, s.rounds, r.replies, r.differ)
	head := []string{"stages", "RTT", "prompt", "off", "sync", "async", "auto", "auto/off", "async/sync", "llama.cpp RPC", "auto/RPC", "accepted", "bound"}
	lines := [][]string{head}
	for _, x := range r.rows {
		lines = append(lines, r.line(x))
	}
	b.WriteString(markdown(lines))
	b.WriteString(r.alone())
	for _, n := range s.stages {
		b.WriteString(r.plot(n))
	}
	return b.String()
}

func (r *report) line(x *row) []string {
	out := []string{fmt.Sprint(x.stages), x.rtt.String(), x.kind}
	for _, w := range []string{"off", "sync", "async", "auto"} {
		out = append(out, spread(x.rates(w), 1))
	}
	out = append(out, "**"+spread(ratios(x.rates("auto"), x.rates("off")), 2)+"**", spread(ratios(x.rates("async"), x.rates("sync")), 2))
	theirs := r.theirs[cellName(x.stages, x.rtt)]
	out = append(out, spread(theirs, 1), spread(ratios(x.rates("auto"), theirs), 2))
	var accepted, bound []float64
	for _, s := range x.by["auto"] {
		accepted, bound = append(accepted, s.accepted), append(bound, s.bound)
	}
	return append(out, percent(accepted), percent(bound))
}

func (x *row) rates(way string) []float64 {
	var out []float64
	for _, s := range x.by[way] {
		out = append(out, s.rate)
	}
	return out
}

// plot draws tokens/s over the round trip for the first kind of prompt.
func (r *report) plot(stages int) string {
	var xs []string
	ys := map[string][]string{}
	names := []string{"off", "sync", "async", "auto", "llama.cpp RPC"}
	for _, x := range r.rows {
		if x.stages != stages || x.kind != kinds[0].name {
			continue
		}
		xs = append(xs, fmt.Sprintf("%q", x.rtt.String()))
		for _, w := range names[:4] {
			ys[w] = append(ys[w], fmt.Sprintf("%.1f", median(x.rates(w))))
		}
		if t := r.theirs[cellName(stages, x.rtt)]; len(t) > 0 {
			ys[names[4]] = append(ys[names[4]], fmt.Sprintf("%.1f", median(t)))
		}
	}
	if len(xs) < 2 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n```mermaid\nxychart-beta\n    title \"%s, %d stages: ", kinds[0].name, stages)
	var lines, drawn []string
	for _, w := range names {
		if len(ys[w]) == len(xs) {
			drawn = append(drawn, w)
			lines = append(lines, fmt.Sprintf("    line [%s]\n", strings.Join(ys[w], ", ")))
		}
	}
	fmt.Fprintf(&b, "%s\"\n    x-axis \"round trip\" [%s]\n    y-axis \"tokens/s\"\n%s```\n", strings.Join(drawn, ", "), strings.Join(xs, ", "), strings.Join(lines, ""))
	return b.String()
}

// ratios are those of the turns; none where one side has none.
func ratios(a, b []float64) []float64 {
	var out []float64
	for i := range min(len(a), len(b)) {
		if b[i] > 0 {
			out = append(out, a[i]/b[i])
		}
	}
	return out
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// spread writes "median (least–most)".
func spread(v []float64, decimals int) string {
	switch len(v) {
	case 0:
		return "–"
	case 1:
		return fmt.Sprintf("%.*f", decimals, v[0])
	}
	return fmt.Sprintf("%.*f (%.*f–%.*f)", decimals, median(v), decimals, slices.Min(v), decimals, slices.Max(v))
}

func percent(v []float64) string { return fmt.Sprintf("%.0f%%", 100*median(v)) }

// markdown is a table, the first line its head.
func markdown(lines [][]string) string {
	var b strings.Builder
	for n, l := range lines {
		b.WriteString("| " + strings.Join(l, " | ") + " |\n")
		if n == 0 {
			b.WriteString("|" + strings.Repeat("---|", len(l)) + "\n")
		}
	}
	return b.String()
}

// load is the system's load average, where it tells.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "not known"
	}
	fields := strings.Fields(string(b))
	return strings.Join(fields[:min(3, len(fields))], " ")
}
