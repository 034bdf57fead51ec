package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weft-mesh/weft/scripts/marked"
)

// written is the part of the document that a run writes.
var written = marked.Section{
	Begin: "<!-- llama.cpp: written by make bench-llamacpp -->",
	End:   "<!-- end of llama.cpp -->",
}

// row is one figure of one model with all its pairs.
type row struct {
	model, test  string
	threads      int
	ours, theirs []float64
	read         []float64 // shares of the memory's speed, for decode
}

// add keeps a pair and prints it.
func (r *row) add(i int, ours, theirs float64) {
	r.ours, r.theirs = append(r.ours, ours), append(r.theirs, theirs)
	fmt.Printf("%s, %d threads, %s, pair %d: weft %.1f, llama.cpp %.1f, ratio %.2f, load %s\n", r.model, r.threads, r.test, i+1, ours, theirs, ours/theirs, load())
}

func (r *row) ratios() []float64 {
	out := make([]float64, len(r.ours))
	for i := range out {
		out[i] = r.ours[i] / r.theirs[i]
	}
	return out
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// spread writes "median (least–most)".
func spread(v []float64, decimals int) string {
	return fmt.Sprintf("%.*f (%.*f–%.*f)", decimals, median(v), decimals, slices.Min(v), decimals, slices.Max(v))
}

// section is what a run writes into the document.
func (s *settings) section(rows []row, begin time.Time, before string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s/%s, %d cores. Load average (1, 5, 15 min) before: %s; after %s: %s.\n\n",
		begin.UTC().Format("2 January 2006, 15:04 UTC"), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), before, time.Since(begin).Round(time.Second), load())
	fmt.Fprintf(&b, "`weft bench` and `llama-bench` in turn (A B A B), %d pairs, a process a sample; for %d sessions `weft bench -d %d --parallel %d` and `llama-batched-bench -npp %d -npl %d`. Tokens/s as median (least–most); the ratio is the median of the pairs' ratios. Read: weights that decoding reads, as a share of a streaming read of memory in the same process.\n\n",
		s.pairs, s.batch, s.depth, s.batch, s.depth, s.batch)
	lines := [][]string{{"model", "threads", "test", "weft", "llama.cpp", "ratio", "read"}}
	for _, r := range rows {
		read := ""
		if len(r.read) > 0 {
			read = fmt.Sprintf("%.0f%%", 100*median(r.read))
		}
		lines = append(lines, []string{r.model, fmt.Sprint(r.threads), r.test, spread(r.ours, 1), spread(r.theirs, 1), "**" + spread(r.ratios(), 2) + "**", read})
	}
	b.WriteString(markdown(lines))
	return b.String()
}

// markdown is a table whose columns line up, the first line its head.
func markdown(lines [][]string) string {
	widths := make([]int, len(lines[0]))
	for _, l := range lines {
		for i, c := range l {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	for n, l := range lines {
		b.WriteString("|")
		for i, c := range l {
			fmt.Fprintf(&b, " %s%s |", c, strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)))
		}
		b.WriteString("\n")
		if n == 0 {
			for _, w := range widths {
				b.WriteString("|" + strings.Repeat("-", w+2))
			}
			b.WriteString("|\n")
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
