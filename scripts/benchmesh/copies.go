package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	gops "github.com/shirou/gopsutil/v4/process"

	"github.com/weft-mesh/weft/node/api"
)

// Replies that are asked for at once.
const (
	copyTokens = 256              // of each of them
	copyWait   = 90 * time.Second // for a copy to be made
)

// atOnce is what two replies at once take beside one, of nodes with a thread each.
type atOnce struct {
	name       string
	alone, two series // ms
	cpu        series // ms of all processes for a reply of the two
	both       int    // samples whose replies came from different nodes
}

// copies measures two replies at once: on one node, whose steps they share, and
// over two nodes that hold a copy of the model each.
func (b *bench) copies(ctx context.Context) error {
	one, err := b.soloNode(ctx, "copies-one", 1)
	if err != nil {
		return err
	}
	defer one.stop()
	two, err := b.startCopies(ctx)
	defer two.stop()
	if err != nil {
		return err
	}
	ways := []*atOnce{{name: "on one node"}, {name: "over two copies"}}
	for range b.times {
		for i, nodes := range [][]*process{{one}, two.all()} {
			if err := ways[i].sample(ctx, nodes); err != nil {
				return fmt.Errorf("%s: %w", ways[i].name, err)
			}
		}
	}
	var rows [][]string
	for _, w := range ways {
		rows = append(rows, []string{w.name, w.alone.cell(0), w.two.cell(0), w.two.ratios(w.alone).cell(2), w.cpu.cell(0), fmt.Sprintf("%d of %d", w.both, len(w.two))})
	}
	b.report.add(section{
		title: "Two replies at once",
		note: fmt.Sprintf("Milliseconds for %d tokens without drafts, nodes with `--threads 1` and weights of their own, all on this machine. "+
			"One node reads its weights once for both replies. Two copies compute one each; here they share the caches and the way to memory, which two machines would not.", copyTokens),
		head: []string{"", "a reply alone", "two at once", "ratio", "CPU for each of two", "from two nodes"},
		rows: rows,
	})
	return nil
}

// startCopies starts two nodes that hold the model each and a head without weights,
// and keeps asking until both of them answer. What it gives is to be stopped, also
// with an error.
func (b *bench) startCopies(ctx context.Context) (*split, error) {
	s := &split{}
	if err := b.three(ctx, s, "copies-", 1); err != nil {
		return s, err
	}
	for _, n := range s.halves {
		if err := b.addModel(ctx, n); err != nil {
			return s, err
		}
	}
	if err := seeEachOther(ctx, s.all()); err != nil {
		return s, err
	}
	for begin := time.Now(); ; {
		nodes, err := together(ctx, s.head, 2)
		if err != nil || nodes == 2 {
			return s, err
		}
		if time.Since(begin) > copyWait {
			return s, errors.New("no copy was made")
		}
	}
}

// sample asks the last of some nodes for one reply, and then for two.
func (w *atOnce) sample(ctx context.Context, all []*process) error {
	n := all[len(all)-1]
	begin := time.Now()
	if _, err := together(ctx, n, 1); err != nil {
		return err
	}
	alone := time.Since(begin)
	before := cpuOf(all)
	begin = time.Now()
	nodes, err := together(ctx, n, 2)
	if err != nil {
		return err
	}
	w.cpu = append(w.cpu, (cpuOf(all)-before)/2)
	if nodes == 2 {
		w.both++
	}
	w.alone, w.two = append(w.alone, alone.Seconds()*1e3), append(w.two, time.Since(begin).Seconds()*1e3)
	return nil
}

// cpuOf is the CPU time of all processes so far, in ms.
func cpuOf(all []*process) float64 {
	ms := 0.0
	for _, n := range all {
		if p, err := gops.NewProcess(int32(n.cmd.Process.Pid)); err == nil {
			if t, err := p.Times(); err == nil {
				ms += 1e3 * (t.User + t.System)
			}
		}
	}
	return ms
}

// together asks for so many replies at once and gives the number of nodes that
// they came from.
func together(ctx context.Context, n *process, count int) (int, error) {
	var mu sync.Mutex // guards from and errs
	from, errs := map[string]bool{}, []error(nil)
	var wg sync.WaitGroup
	for range count {
		wg.Go(func() {
			greedy := 0.0
			r, err := n.Generate(ctx, api.GenerateRequest{
				Model: entry, Tokens: someTokens(1, 1), MaxTokens: copyTokens, Temperature: &greedy, IgnoreEOS: true, NoPrefix: true, Speculate: "off",
			}, func(api.Event) error { return nil })
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
			}
			for _, st := range r.Plan.Stages {
				from[st.Node] = true
			}
		})
	}
	wg.Wait()
	return len(from), errors.Join(errs...)
}
