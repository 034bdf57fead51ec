// Command benchmesh measures weft as its users run it: real processes with
// homes of their own on loopback, asked through the daemon's client. It prints
// tokens per second solo and split, the software's share of a hop, the times to
// start, resident memory and the binary's size, and writes them into
// docs/benchmarks.md. It judges nothing and never fails for a slow figure.
//
// It is started by scripts/bench, which builds the binary and finds the model.
// Start reading at bench.all.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// bench is one run of the measurements.
type bench struct {
	bin    string // the weft binary
	model  string // GGUF file; "" when there is none
	models string // GGUF files whose plans are measured, comma-separated; "" for model
	llama  string // llama-bench, or ""
	times  int    // samples of each figure
	only   string // names of the parts to measure, comma-separated; "" for all
	dir    string // for the nodes' homes and logs
	offer  int64  // bytes that a node of a split offers
	report *report
}

// part is one group of figures.
type part struct {
	name  string
	model bool // needs a model
	run   func(context.Context) error
}

func main() {
	b := &bench{report: newReport(os.Stdout)}
	var doc, echo, profile string
	flag.StringVar(&b.bin, "weft", "./weft", "the binary to measure")
	flag.StringVar(&b.model, "model", "", "GGUF file to measure with")
	flag.StringVar(&b.models, "models", "", "GGUF files for the part plans, comma-separated (default that of -model)")
	flag.StringVar(&b.llama, "llama", "", "llama-bench to compare with")
	flag.IntVar(&b.times, "n", 7, "samples of each figure, at least 5")
	flag.StringVar(&b.only, "only", "", "parts to measure, comma-separated: hop, weights, tokens, plans, copies, contexts, activations, llama, start, memory, binary, profile")
	flag.StringVar(&doc, "doc", "", "document whose measured part is written anew")
	flag.StringVar(&profile, "profiles", "", "directory to keep the CPU profiles in")
	flag.StringVar(&echo, "echo", "", "serve echoes from this home (the hop part starts itself so)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.main(ctx, echo, profile, doc); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func (b *bench) main(ctx context.Context, echo, profiles, doc string) error {
	if echo != "" {
		return serveEchoes(ctx, echo, os.Stdin, os.Stdout)
	}
	if b.times < 5 {
		return errors.New("-n must be at least 5, or a median means little")
	}
	var err error
	if b.dir, err = os.MkdirTemp("", "weft-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	begin := time.Now()
	if err := b.all(ctx, profiles); err != nil {
		return err
	}
	b.report.machine(ctx, b, begin)
	if doc == "" {
		return nil
	}
	if b.only != "" {
		return fmt.Errorf("%s is not written: -only left parts out", doc)
	}
	return b.report.write(doc)
}

// all measures part after part.
func (b *bench) all(ctx context.Context, profiles string) error {
	parts := []part{
		{"hop", false, b.hops},
		{"weights", false, b.weights},
		{"tokens", true, b.tokens},
		{"plans", true, b.plans},
		{"copies", true, b.copies},
		{"contexts", true, b.contexts},
		{"activations", true, b.activations},
		{"llama", true, b.compare},
		{"start", true, b.starts},
		{"memory", true, b.memory},
		{"binary", false, b.binary},
		{"profile", true, func(ctx context.Context) error { return b.profile(ctx, profiles) }},
	}
	missing := false
	for _, p := range parts {
		if b.only != "" && !strings.Contains(","+b.only+",", ","+p.name+",") {
			continue
		}
		if p.model && b.model == "" {
			missing = true
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", p.name)
		if err := p.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if missing {
		return errors.New("only what needs no model was measured: no model was found; put one into ../shared/models, or set WEFT_TEST_MODEL to a GGUF file")
	}
	return nil
}

// binary tells how large the built program is.
func (b *bench) binary(context.Context) error {
	st, err := os.Stat(b.bin)
	if err != nil {
		return fmt.Errorf("no binary to measure: %w", err)
	}
	b.report.add(section{
		title: "The binary",
		note:  "`make build`: without cgo, stripped.",
		head:  []string{"", "MB"},
		rows:  [][]string{{"`weft`", fmt.Sprintf("%.1f", float64(st.Size())/1e6)}},
	})
	return nil
}
