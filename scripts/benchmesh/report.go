package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weft-mesh/weft/node/machine"
	"github.com/weft-mesh/weft/scripts/marked"
)

// written is the part of the document that a run writes.
var written = marked.Section{
	Begin: "<!-- measured: written by make bench -->",
	End:   "<!-- end of measured -->",
}

// section is one table with what is to be said about it.
type section struct {
	title, note string
	head        []string
	rows        [][]string
}

// report prints sections as they come and keeps them for the document.
type report struct {
	out    io.Writer
	doc    bytes.Buffer
	header string
	load   string // at the start
}

func newReport(w io.Writer) *report { return &report{out: w, load: load()} }

func (r *report) add(s section) {
	text := s.markdown()
	fmt.Fprintln(r.out, text)
	fmt.Fprintln(&r.doc, text)
}

// markdown is the section as a table whose columns line up.
func (s section) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n", s.title)
	if s.note != "" {
		fmt.Fprintf(&b, "%s\n\n", s.note)
	}
	if len(s.rows) == 0 {
		return b.String()
	}
	widths := make([]int, len(s.head))
	lines := append([][]string{s.head}, s.rows...)
	for _, l := range lines {
		for i, c := range l {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for n, l := range lines {
		b.WriteString("|")
		for i, c := range l {
			fmt.Fprintf(&b, " %s%s |", c, strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)))
		}
		b.WriteString("\n")
		if n > 0 {
			continue
		}
		b.WriteString("|")
		for i, w := range widths {
			if i == 0 {
				b.WriteString(strings.Repeat("-", w+2) + "|")
			} else {
				b.WriteString(strings.Repeat("-", w+1) + ":|")
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// machine notes where and when a run was made.
func (r *report) machine(ctx context.Context, b *bench, begin time.Time) {
	f := machine.Facts(ctx, b.dir)
	r.header = fmt.Sprintf("%s, %s/%s, %s, %d cores, %.0f GB of memory, %s, %s. Load average (1, 5, 15 min) before: %s; after %s: %s. Each figure is the median of %d samples, least and most in parentheses.",
		begin.UTC().Format("2 January 2006, 15:04 UTC"), f.OS, f.Arch, f.CPU, f.Cores, float64(f.MemTotal)/1e9, runtime.Version(), b.modelName(),
		r.load, time.Since(begin).Round(time.Second), load(), b.times)
	fmt.Fprintln(r.out, r.header)
}

// modelName says what was measured with.
func (b *bench) modelName() string {
	if b.model == "" {
		return "no model"
	}
	return filepath.Base(b.model)
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

// write puts the run between the marks of the document.
func (r *report) write(path string) error {
	return written.Write(path, r.header+"\n\n"+r.doc.String())
}
