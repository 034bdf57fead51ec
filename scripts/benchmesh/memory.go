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

	"github.com/weft-mesh/weft/node/api"
)

// restTime is how long a node is left alone before its memory is read.
const restTime = 2 * time.Second

// resident is a process's resident memory in bytes: anonymous, and of mapped
// files (the program and packed weights).
type resident struct{ anon, file float64 }

func (r resident) total() float64 { return r.anon + r.file }

// memory measures resident memory of idle nodes, heads and stages whose KV is
// full.
func (b *bench) memory(ctx context.Context) error {
	var idle, head, stage, anon, factor series
	var needs string
	for i := range b.times {
		base, err := b.idleMemory(ctx, fmt.Sprintf("idle%d", i))
		if err != nil {
			return err
		}
		idle = append(idle, base.total()/1e6)
		s, err := b.startSplit(ctx, fmt.Sprintf("memory%d", i), 1)
		if err != nil {
			return err
		}
		err = b.splitMemory(ctx, s, func(h, st resident, p api.PlanStage) {
			own := float64(p.Bytes + p.KVBytes)
			head = append(head, h.total()/1e6)
			stage = append(stage, st.total()/1e6)
			anon = append(anon, st.anon/1e6)
			factor = append(factor, (st.total()-base.total())/own)
			needs = fmt.Sprintf("%.1f MB of packed weights and %.1f MB of KV (%d positions)", float64(p.Bytes)/1e6, float64(p.KVBytes)/1e6, contextSize)
		})
		s.stop()
		if err != nil {
			return err
		}
	}
	b.report.add(section{
		title: "Resident memory",
		note: fmt.Sprintf("`VmRSS` of /proc. The stage is the last one of the split: %s; both halves have filled their KV before. "+
			"The factor is (stage − idle node of the same round) / (packed weights + KV); the goal is at most 1.1, with an idle node of at most 80 MB.", needs),
		head: []string{"", "MB, or factor"},
		rows: [][]string{
			{"idle node, fresh home", idle.cell(1)},
			{"head without weights, after a reply", head.cell(1)},
			{"stage with half of the model, KV full", stage.cell(1)},
			{"… of that anonymous (KV, activations, Go's heap)", anon.cell(1)},
			{"factor of the stage", factor.cell(2)},
		},
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

// splitMemory fills the KV of a split and hands on what the head and the last
// stage take then.
func (b *bench) splitMemory(ctx context.Context, s *split, each func(head, stage resident, p api.PlanStage)) error {
	if _, err := ask(ctx, s.head, contextSize-16, 16); err != nil {
		return err
	}
	if err := rest(ctx); err != nil {
		return err
	}
	head, err := memoryOf(s.head.cmd.Process.Pid)
	if err != nil {
		return err
	}
	last := s.plan.Stages[len(s.plan.Stages)-1]
	for _, n := range s.halves {
		if n.name != last.Name {
			continue
		}
		st, err := memoryOf(n.cmd.Process.Pid)
		if err != nil {
			return err
		}
		each(head, st, last)
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
