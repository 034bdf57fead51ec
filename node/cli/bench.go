package cli

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-mesh/weft/node/api"
)

func (c *command) bench() *cobra.Command {
	var o api.BenchOptions
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure how fast this machine runs a model",
		Long: `Measures prefill (pp) and decode (tg) in tokens per second on this machine
alone, with random tokens, beside the speed of its memory and of the product
kernels. Each test runs once unmeasured first. A daemon that is busy meanwhile
slows it.`,
		Example: `  weft bench -m ./model.gguf
  weft bench -p 512 -n 64 -t 1,2 --parallel 1,4,16`,
	}
	fl := cmd.Flags()
	fl.StringVarP(&o.Model, "model", "m", "", "name, name@hash or GGUF file (default the only or the last used `MODEL`)")
	fl.IntSliceVarP(&o.Prompt, "prompt", "p", []int{128, 512}, "lengths of prompts to prefill; 0 leaves prefill out")
	fl.IntVarP(&o.Gen, "gen", "n", 64, "tokens to decode; 0 leaves decode out")
	fl.IntVarP(&o.Depth, "depth", "d", 0, "tokens of context before what is measured")
	fl.IntSliceVarP(&o.Threads, "threads", "t", defaultThreads(runtime.NumCPU()), "threads")
	fl.IntVarP(&o.Repeat, "repeat", "r", 5, "samples of each test")
	fl.IntSliceVar(&o.Parallel, "parallel", []int{1}, "sessions that decode at once")
	fl.IntSliceVar(&o.Contexts, "contexts", nil, "contexts of so many made-up tokens behind which decode is measured too, as in 0,4096,32768")
	fl.IntVar(&o.Act, "activations", 0, "bits of activations: 8 or 16 (default the model entry's)")
	fl.StringVar(&o.Devices, "device", "cpu", "cpu, all, or devices as in cuda:0 or a part of a name, with commas between: each is measured")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkBench(&o); err != nil {
			return usageError{err}
		}
		var err error
		if o.Model, err = modelRef(o.Model); err != nil {
			return err
		}
		o.Home, o.Version = c.home, c.Version
		return c.runBench(cmd, o, *asJSON)
	}
	return cmd
}

// defaultThreads is one thread, and one for each processor.
func defaultThreads(processors int) []int {
	return slices.Compact([]int{1, processors})
}

// checkBench refuses figures that make no sense.
func checkBench(o *api.BenchOptions) error {
	for _, list := range []struct {
		flag        string
		values      []int
		least, most int
	}{
		{"-p", o.Prompt, 0, 1 << 20},
		{"-n", []int{o.Gen}, 0, 1 << 20},
		{"-d", []int{o.Depth}, 0, 1 << 20},
		{"-t", o.Threads, 1, 1024},
		{"-r", []int{o.Repeat}, 1, 1000},
		{"--parallel", o.Parallel, 1, 256},
		{"--contexts", o.Contexts, 0, 1 << 20},
	} {
		for _, v := range list.values {
			if v < list.least || v > list.most {
				return fmt.Errorf("%s is %d; give %d to %d", list.flag, v, list.least, list.most)
			}
		}
	}
	if o.Act != 0 && o.Act != 8 && o.Act != 16 {
		return fmt.Errorf("--activations is %d; give 8 or 16", o.Act)
	}
	if o.Gen == 0 && len(o.Contexts) == 0 && !slices.ContainsFunc(o.Prompt, func(p int) bool { return p > 0 }) {
		return errors.New("nothing to measure: both -p and -n are 0 and there are no --contexts")
	}
	return nil
}

func (c *command) runBench(cmd *cobra.Command, o api.BenchOptions, asJSON bool) error {
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	show := newProgress(c.err)
	defer show.stop()
	rep, err := c.Bench(ctx, o, show.update)
	show.stop()
	if err != nil {
		return interrupted(ctx, err)
	}
	if asJSON {
		return c.printJSON(rep)
	}
	c.showBench(rep)
	return nil
}

func (c *command) showBench(rep api.BenchReport) {
	width := c.out.width()
	rows := [][2]string{{"model", rep.Model}, {"profile", rep.Profile}, {"weights", size(rep.WeightBytes) + " that a decode step reads"}}
	for _, m := range rep.Machine {
		text := fmt.Sprintf("memory read %s/s, products %s", size(int64(m.ReadBps)), giga(m.ProductOps))
		if m.ID != "" {
			rows = append(rows, [2]string{m.ID, m.Device}, [2]string{"", text})
			continue
		}
		rows = append(rows, [2]string{m.Device, text})
	}
	facts(c.out, width, rows)
	if len(rep.Results) > 0 {
		fmt.Fprintln(c.out)
		c.showTests(rep, width)
	}
	if len(rep.Contexts) > 0 {
		fmt.Fprintln(c.out)
		c.showContexts(rep, width)
	}
}

func (c *command) showTests(rep api.BenchReport, width int) {
	var list [][]string
	for _, r := range rep.Results {
		list = append(list, []string{
			threadsName(r.Threads, r.Device), testName(r), fmt.Sprintf("%.1f ± %.1f", r.TokensPS, r.Deviation), fmt.Sprintf("%.1f", r.Median),
			size(int64(r.WeightsBps)) + "/s", percent(r.MemoryShare), giga(r.Ops), percent(r.ProductShare),
		})
	}
	table(c.out, width, []column{
		{title: "THREADS", right: true},
		{title: "TEST", least: 8},
		{title: "TOKENS/S", right: true},
		{title: "MEDIAN", right: true},
		{title: "WEIGHTS", right: true},
		{title: "READ", right: true},
		{title: "PRODUCTS", right: true},
		{title: "PEAK", right: true},
	}, list)
	fmt.Fprintln(c.out, wrap("READ: weights as a share of a streaming read of memory; PEAK: matrix products as a share of the fastest kernel on a hot matrix. Caches can take READ over 100%.", width, ""))
	for _, r := range rep.Results {
		if r.BytesBack > 0 {
			fmt.Fprintln(c.out, wrap(fmt.Sprintf("%s, %s: %.0f bytes a token come back from the card.", r.Device, testName(r), r.BytesBack), width, ""))
		}
	}
}

func (c *command) showContexts(rep api.BenchReport, width int) {
	var list [][]string
	for _, r := range rep.Contexts {
		rate, share := "", ""
		if r.KVBps > 0 {
			rate, share = size(int64(r.KVBps))+"/s", percent(r.MemoryShare)
		}
		list = append(list, []string{threadsName(r.Threads, r.Device), fmt.Sprint(r.Context), fmt.Sprintf("%.0f µs", r.Micros), fmt.Sprintf("%.1f", r.TokensPS), size(r.KVBytes), rate, share})
	}
	table(c.out, width, []column{
		{title: "THREADS", right: true},
		{title: "CONTEXT", right: true},
		{title: "A TOKEN", right: true},
		{title: "TOKENS/S", right: true},
		{title: "KV", right: true},
		{title: "KV RATE", right: true},
		{title: "READ", right: true},
	}, list)
	fmt.Fprintln(c.out, wrap("Decode behind contexts whose keys and values are made up, the least of the samples. KV RATE: keys and values beyond those of the shortest context, in the time beyond its; READ: that as a share of a streaming read of memory.", width, ""))
}

// threadsName is the threads of the processor, or the device that is none.
func threadsName(threads int, device string) string {
	if device != "" {
		return device
	}
	return fmt.Sprint(threads)
}

// testName names a test as llama-bench does, with the sessions behind a cross.
func testName(r api.BenchResult) string {
	var b strings.Builder
	if r.NPrompt > 0 {
		fmt.Fprintf(&b, "pp%d", r.NPrompt)
	}
	if r.NGen > 0 {
		fmt.Fprintf(&b, "tg%d", r.NGen)
	}
	if r.Parallel > 1 {
		fmt.Fprintf(&b, " x%d", r.Parallel)
	}
	if r.Depth > 0 {
		fmt.Fprintf(&b, " @%d", r.Depth)
	}
	return b.String()
}

func giga(ops float64) string { return fmt.Sprintf("%.0f GOPS", ops/1e9) }

func percent(share float64) string { return fmt.Sprintf("%.0f%%", 100*share) }
