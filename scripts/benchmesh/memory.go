package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/node/api"
)

// restTime is how long a node is left alone before its memory is read.
const restTime = 2 * time.Second

// resident is a process's resident memory in bytes: anonymous, and of mapped
// files (the program and packed weights).
type resident struct{ anon, file float64 }

func (r resident) total() float64 { return r.anon + r.file }

// footprint gathers the memory of a round's processes, in MB.
type footprint struct {
	idle, head    series
	stage, anon   [2]series
	base          [2]series // the idle node and the stage's buffers of activations
	factor        [2]series // what the stage takes beyond that, to packed weights and KV
	weights, kv   [2]float64
	firsts, lasts [2]int // layers
}

// memory measures resident memory of idle nodes, heads, and stages whose KV is
// full.
func (b *bench) memory(ctx context.Context) error {
	var f footprint
	for i := range b.times {
		base, err := b.idleMemory(ctx, fmt.Sprintf("idle%d", i))
		if err != nil {
			return err
		}
		f.idle = append(f.idle, base.total()/1e6)
		s, err := b.startSplit(ctx, fmt.Sprintf("memory%d", i), 1)
		if err != nil {
			return err
		}
		err = f.add(ctx, s, base)
		s.stop()
		if err != nil {
			return err
		}
	}
	rows := [][]string{
		{"idle node, fresh home", f.idle.cell(1), "", "", ""},
		{"head without weights, after replies", f.head.cell(1), "", "", ""},
	}
	for k := range f.stage {
		rows = append(rows, []string{
			fmt.Sprintf("stage of layers %d to %d: %.1f MB packed, %.1f MB KV, all used", f.firsts[k], f.lasts[k], f.weights[k], f.kv[k]),
			f.stage[k].cell(1), f.anon[k].cell(1), f.base[k].cell(1), f.factor[k].cell(2),
		})
	}
	b.report.add(section{
		title: "Resident memory",
		note: "MB of `VmRSS` in /proc (mapped weights and the program included). The stages are the two of a split; replies have filled all of their KV before. " +
			"A stage's base is the idle node of the same round and the buffers for activations and logits that its plan reserved; the factor is what it takes beyond that, to its packed weights and KV. The goal: a base of at most 80 MB, a factor of at most 1.1.",
		head: []string{"", "resident, MB", "of it anonymous", "base", "factor"},
		rows: rows,
	})
	return nil
}

// idleMemory is the memory of a node that does nothing and offers memory as a
// stage does.
func (b *bench) idleMemory(ctx context.Context, name string) (resident, error) {
	n, err := b.up(ctx, name, "--threads", "1")
	if err != nil {
		return resident{}, err
	}
	defer n.stop()
	if err := rest(ctx); err != nil {
		return resident{}, err
	}
	return memoryOf(n.cmd.Process.Pid)
}

// add fills the KV of a split and notes what its head and stages take then.
func (f *footprint) add(ctx context.Context, s *split, base resident) error {
	if err := s.fillKV(ctx); err != nil {
		return err
	}
	if err := rest(ctx); err != nil {
		return err
	}
	head, err := memoryOf(s.head.cmd.Process.Pid)
	if err != nil {
		return err
	}
	f.head = append(f.head, head.total()/1e6)
	for k, p := range s.plan.Stages {
		m, err := memoryOf(s.byName(p.Name).cmd.Process.Pid)
		if err != nil {
			return err
		}
		st, err := s.byName(p.Name).Status(ctx)
		if err != nil {
			return err
		}
		own := float64(p.Bytes + p.KVBytes)
		floor := base.total() + float64(st.MemUsed) - own
		f.stage[k] = append(f.stage[k], m.total()/1e6)
		f.anon[k] = append(f.anon[k], m.anon/1e6)
		f.base[k] = append(f.base[k], floor/1e6)
		f.factor[k] = append(f.factor[k], (m.total()-floor)/own)
		f.weights[k], f.kv[k], f.firsts[k], f.lasts[k] = float64(p.Bytes)/1e6, float64(p.KVBytes)/1e6, p.First, p.Last
	}
	return nil
}

// fillKV has the stages hold other prompts in their prefix caches until no KV
// block is unused.
func (s *split) fillKV(ctx context.Context) error {
	greedy := 0.0
	for seed := range uint64(16) {
		st, err := s.first().Status(ctx)
		if err != nil {
			return err
		}
		if len(st.Stages) != 1 {
			return fmt.Errorf("node %s serves %d stages, not 1", st.Name, len(st.Stages))
		}
		left := (st.Stages[0].KVBlocks - st.Stages[0].KVUsed) * kernels.BlockPositions
		if left < 2*kernels.BlockPositions {
			return nil
		}
		_, err = s.head.Generate(ctx, api.GenerateRequest{
			Model: entry, Tokens: someTokens(min(left, contextSize)-kernels.BlockPositions, seed), MaxTokens: 1, Temperature: &greedy, IgnoreEOS: true,
			Context: min(left, contextSize),
		}, func(api.Event) error { return nil })
		if err != nil {
			return err
		}
	}
	return nil
}

func rest(ctx context.Context) error {
	select {
	case <-time.After(restTime):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// memoryOf reads a process's resident memory.
func memoryOf(pid int) (resident, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return resident{}, fmt.Errorf("read a process's memory, which works on Linux only: %w", err)
	}
	return parseStatus(b)
}

func parseStatus(b []byte) (resident, error) {
	var r resident
	found := 0
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 2 {
			continue
		}
		kb, err := strconv.ParseFloat(f[1], 64)
		if err != nil {
			continue
		}
		switch f[0] {
		case "RssAnon:":
			r.anon, found = kb*1024, found+1
		case "RssFile:", "RssShmem:":
			r.file, found = r.file+kb*1024, found+1
		}
	}
	if found != 3 {
		return r, fmt.Errorf("the system does not tell a process's resident memory in parts")
	}
	return r, nil
}
