package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/weft-mesh/weft/node/api"
)

// contextLengths are the contexts behind which decode is measured.
var contextLengths = []int{0, 1024, 4096, 8192, 16384, 32768}

// alone runs weft bench on the model with more flags.
func (b *bench) alone(ctx context.Context, flags ...string) (api.BenchReport, error) {
	path, err := filepath.Abs(b.model)
	if err != nil {
		return api.BenchReport{}, err
	}
	cmd := exec.CommandContext(ctx, b.bin, append([]string{"bench", "-m", path, "--json"}, flags...)...)
	cmd.Env = append(os.Environ(), "WEFT_HOME="+filepath.Join(b.dir, "bench"))
	out, err := cmd.Output()
	if err != nil {
		return api.BenchReport{}, fmt.Errorf("weft bench %s: %w", strings.Join(flags, " "), err)
	}
	var r api.BenchReport
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("read what weft bench printed: %w", err)
	}
	return r, nil
}

// contexts measures decode behind long contexts.
func (b *bench) contexts(ctx context.Context) error {
	var list []string
	for _, n := range contextLengths {
		list = append(list, strconv.Itoa(n))
	}
	r, err := b.alone(ctx, "-p", "0", "-n", "0", "-t", "1,2", "-r", strconv.Itoa(b.times), "--contexts", strings.Join(list, ","))
	if err != nil {
		return err
	}
	b.report.add(section{
		title: "Decode behind long contexts",
		note: "`weft bench -p 0 -n 0 -t 1,2 --contexts " + strings.Join(list, ",") + "`: one session, contexts whose keys and values are made up; the least of the samples. " +
			"KV rate: keys and values beyond those of the shortest context, in the time beyond its, and as a share of a streaming read of memory in the same process.",
		head: []string{"threads", "context", "µs a token", "tokens/s", "KV, MB", "KV rate, GB/s", "of stream"},
		rows: contextRows(r),
	})
	return nil
}

func contextRows(r api.BenchReport) [][]string {
	var rows [][]string
	for _, c := range r.Contexts {
		row := []string{fmt.Sprint(c.Threads), fmt.Sprint(c.Context), fmt.Sprintf("%.0f", c.Micros), fmt.Sprintf("%.1f", c.TokensPS), fmt.Sprintf("%.1f", float64(c.KVBytes)/1e6), "", ""}
		if c.KVBps > 0 {
			row[5], row[6] = fmt.Sprintf("%.1f", c.KVBps/1e9), fmt.Sprintf("%.0f%%", 100*c.MemoryShare)
		}
		rows = append(rows, row)
	}
	return rows
}

// activations measures activations of 8 and of 16 bits in turn.
func (b *bench) activations(ctx context.Context) error {
	var pp, tg [2]series
	for range b.times {
		for i, bits := range []string{"8", "16"} {
			r, err := b.alone(ctx, "-p", strconv.Itoa(promptTokens), "-n", strconv.Itoa(replyTokens), "-t", "1", "-r", "1", "--activations", bits)
			if err != nil {
				return err
			}
			for _, t := range r.Results {
				if t.NPrompt > 0 {
					pp[i] = append(pp[i], t.Median)
				} else {
					tg[i] = append(tg[i], t.Median)
				}
			}
		}
	}
	row := func(name string, s [2]series) []string {
		return []string{name, s[0].cell(1), s[1].cell(1), s[1].ratios(s[0]).cell(2)}
	}
	b.report.add(section{
		title: "Activations of 16 bits",
		note: fmt.Sprintf("`weft bench -p %d -n %d -t 1 -r 1 --activations 8` and `16` in turn, ratios pair by pair. The goals: prefill at 0.45 of 8 bits, decode at 0.90.",
			promptTokens, replyTokens),
		head: []string{"tokens/s", "8 bits", "16 bits", "ratio"},
		rows: [][]string{row(fmt.Sprintf("pp%d", promptTokens), pp), row(fmt.Sprintf("tg%d", replyTokens), tg)},
	})
	return nil
}
