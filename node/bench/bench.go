// Package bench measures how fast this machine runs a model: prefill and decode
// in tokens per second, alone and with many sessions at once, beside what the
// machine's memory and the product kernels can do. It steps a shard.Stage of
// the whole model in this process, as a node does, greedy sampling included.
//
// It knows nothing of meshes, daemons and HTTP: what those cost is measured by
// scripts/bench. Start reading at Run.
package bench

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/devices"
	"github.com/weft-mesh/weft/node/machine"
)

// maxRows is the widest step, a node's own: prompts go in by chunks of it.
const maxRows = 256

// Run is an api.Bencher. It blocks until everything is measured or ctx ends. A
// model given as a file is entered into the store, where its packed form stays
// for the next time.
func Run(ctx context.Context, o api.BenchOptions, progress func(api.Progress)) (api.BenchReport, error) {
	return run(ctx, o, progress, sizes{read: readBytes, product: productSize, time: limitTime, backends: devices.Backends()})
}

// sizes is what the measurements of the machine itself take, and what knows its
// devices.
type sizes struct {
	backends []devices.Backend
	read     int           // bytes
	product  int           // rows and columns
	time     time.Duration // of each of the two
}

func run(ctx context.Context, o api.BenchOptions, progress func(api.Progress), s sizes) (api.BenchReport, error) {
	if progress == nil {
		progress = func(api.Progress) {}
	}
	m, err := open(ctx, o.Home, o.Model, progress)
	if err != nil {
		return api.BenchReport{}, err
	}
	defer m.close()
	if o.Act != 0 {
		m.profile.Act = kernels.ActBits(o.Act)
	}
	tests, err := plan(o, m.profile.Context)
	if err != nil {
		return api.BenchReport{}, err
	}
	rep := api.BenchReport{Model: m.name, WeightBytes: m.weightBytes(), Profile: m.profile.String(), Results: []api.BenchResult{}}
	processor, cards := wanted(o.Devices)
	for _, threads := range o.Threads {
		if !processor {
			break
		}
		if err := withThreads(ctx, m, threads, o, tests, s, &rep, progress); err != nil {
			return api.BenchReport{}, err
		}
	}
	if cards != devices.CPU {
		if err := withCards(ctx, m, cards, o, tests, s, &rep, progress); err != nil {
			return api.BenchReport{}, err
		}
	}
	return rep, nil
}

// wanted splits what is to be measured into the processor and the other devices.
func wanted(list string) (processor bool, cards string) {
	list = strings.ToLower(strings.TrimSpace(list))
	switch list {
	case "", devices.CPU:
		return true, devices.CPU
	case "all":
		return true, devices.Auto
	}
	for part := range strings.SplitSeq(list, ",") {
		processor = processor || strings.TrimSpace(part) == devices.CPU
	}
	return processor, list
}

// withCards measures every test on each of the machine's devices that keeps the
// contract. One that is named and does not is an error.
func withCards(ctx context.Context, m *benched, want string, o api.BenchOptions, tests []test, s sizes, rep *api.BenchReport, progress func(api.Progress)) error {
	set, err := devices.Open(ctx, devices.Options{
		Want: want, Home: o.Home, Version: o.Version, Backends: s.backends,
		Tell: func(text string) { progress(api.Progress{Phase: "bench", Text: text}) },
	})
	if err != nil {
		return api.Errorf(api.KindInvalid, "%w", err)
	}
	defer func() { _ = set.Close() }()
	for i, c := range set.Cards() {
		dev, turn, ok := set.Device(i)
		if !ok {
			continue
		}
		turn.Lock()
		err := withCard(ctx, m, c, dev, o, tests, s, rep, progress)
		turn.Unlock()
		if err != nil {
			return fmt.Errorf("bench on %s: %w", c.ID, err)
		}
	}
	return nil
}

func withCard(ctx context.Context, m *benched, c devices.Status, dev kernels.Device, o api.BenchOptions, tests []test, s sizes, rep *api.BenchReport, progress func(api.Progress)) error {
	limits := api.BenchMachine{ID: c.ID, Device: dev.Name(), ReadBps: c.Speed.DecodeBps}
	var err error
	size := s.product
	if c.Speed.PrefillOps > fastCard { // which a matrix for a processor's cache does not fill
		size *= 8
	}
	if limits.ProductOps, err = productSpeed(dev, size, s.time); err != nil {
		return err
	}
	return onDevice(ctx, m, dev, o, tests, limits, rep, progress)
}

// fastCard is the rate of multiply-adds from which a card is measured with a large
// matrix.
const fastCard = 5e11

// test is one figure to measure.
type test struct {
	prompt, gen     int // one of them is 0
	depth, parallel int
}

func (t test) String() string {
	if t.gen == 0 {
		return fmt.Sprintf("prefill of %d tokens", t.prompt)
	}
	if t.parallel == 1 {
		return fmt.Sprintf("decode of %d tokens", t.gen)
	}
	return fmt.Sprintf("decode of %d tokens in %d sessions", t.gen, t.parallel)
}

// positions is what each of the test's sessions needs.
func (t test) positions() int { return t.depth + t.prompt + t.gen }

// plan lists the tests that o asks for.
func plan(o api.BenchOptions, context int) ([]test, error) {
	var out []test
	for _, p := range o.Prompt {
		if p > 0 {
			out = append(out, test{prompt: p, depth: o.Depth, parallel: 1})
		}
	}
	for _, n := range o.Parallel {
		if o.Gen > 0 {
			out = append(out, test{gen: o.Gen, depth: o.Depth, parallel: n})
		}
	}
	if len(out)+len(o.Contexts) == 0 || len(o.Threads) == 0 || o.Repeat < 1 {
		return nil, api.Errorf(api.KindInvalid, "nothing to measure: give prompts, tokens to decode or contexts, threads and samples")
	}
	for _, t := range out {
		switch {
		case t.positions() > context:
			return nil, api.Errorf(api.KindInvalid, "%s at depth %d needs %d positions, the model entry's context has %d; add the model with a larger --ctx", t, t.depth, t.positions(), context)
		case t.parallel < 1 || t.parallel > maxRows:
			return nil, api.Errorf(api.KindInvalid, "%d sessions at once; choose 1 to %d", t.parallel, maxRows)
		}
	}
	return out, nil
}

// withThreads measures the machine and every test on a device of its own.
func withThreads(ctx context.Context, m *benched, threads int, o api.BenchOptions, tests []test, s sizes, rep *api.BenchReport, progress func(api.Progress)) error {
	dev, err := cpu.New(cpu.Options{Threads: threads})
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer func() { _ = dev.Close() }()
	progress(api.Progress{Phase: "bench", Text: fmt.Sprintf("measuring this machine, %s", dev.Name())})
	limits := api.BenchMachine{Threads: threads, Device: dev.Name(), ReadBps: readSpeed(s.read, threads, s.time)}
	machine.ReturnMemory()
	if limits.ProductOps, err = productSpeed(dev, s.product, s.time); err != nil {
		return err
	}
	return onDevice(ctx, m, dev, o, tests, limits, rep, progress)
}

// onDevice measures every test on one device whose own limits are known.
func onDevice(ctx context.Context, m *benched, dev kernels.Device, o api.BenchOptions, tests []test, limits api.BenchMachine, rep *api.BenchReport, progress func(api.Progress)) error {
	rep.Machine = append(rep.Machine, limits)
	if len(tests) > 0 {
		if err := withStage(ctx, m, dev, o.Repeat, tests, limits, rep, progress); err != nil {
			return err
		}
	}
	if len(o.Contexts) > 0 {
		list, err := m.contexts(ctx, dev, o, limits, progress)
		if err != nil {
			return err
		}
		rep.Contexts = append(rep.Contexts, list...)
	}
	return nil
}

// withStage measures the tests on a stage of the whole model.
func withStage(ctx context.Context, m *benched, dev kernels.Device, repeat int, tests []test, limits api.BenchMachine, rep *api.BenchReport, progress func(api.Progress)) error {
	st, err := m.stage(ctx, dev, tests)
	if err != nil {
		return err
	}
	defer func() { _ = st.Close() }()
	for _, t := range tests {
		before := devices.CameBack(dev)
		r, err := measure(ctx, &runner{stage: st, vocab: m.config.Vocab}, t, repeat, func(i int) {
			progress(api.Progress{Phase: "bench", Text: fmt.Sprintf("%s, %s", t, dev.Name()), Done: int64(i), Total: int64(repeat + 1)})
		})
		if err != nil {
			return fmt.Errorf("bench %s: %w", t, err)
		}
		r.Model, r.Threads, r.Device = m.name, limits.Threads, limits.ID
		r.BytesBack = float64(devices.CameBack(dev)-before) / float64(t.parallel*(t.prompt+t.gen)*(repeat+1))
		m.rates(&r, limits)
		rep.Results = append(rep.Results, r)
	}
	return nil
}

// measure takes the samples of one test after a run that is not counted.
func measure(ctx context.Context, r *runner, t test, repeat int, begin func(sample int)) (api.BenchResult, error) {
	out := api.BenchResult{Parallel: t.parallel, NPrompt: t.prompt, NGen: t.gen, Depth: t.depth}
	for i := range repeat + 1 {
		begin(i)
		took, err := r.sample(ctx, t)
		if err != nil {
			return out, err
		}
		if i > 0 {
			out.Samples = append(out.Samples, float64(t.parallel*(t.prompt+t.gen))/took.Seconds())
		}
	}
	out.TokensPS, out.Deviation, out.Median = summary(out.Samples)
	return out, nil
}
