package shard_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/shard"
	"github.com/weft-mesh/weft/shard/model"
)

func TestClosedStageRefusesEverything(t *testing.T) {
	w := open(t, tiny)
	d, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var progress []int64
	s, err := shard.New(context.Background(), shard.Options{
		Model: w.cfg, Profile: f32Profile(w.cfg, 64), Range: w.cfg.All(), Source: w, Device: d, Blocks: 4,
		Progress: func(done, total int64) { progress = append(progress, done, total) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(progress); n == 0 || progress[n-1] != progress[n-2] || !slices.IsSorted(progress[:1]) {
		t.Errorf("progress %v does not end with all", progress)
	}
	if s.Range() != w.cfg.All() || s.MaxRows() != shard.DefaultMaxRows {
		t.Errorf("range %v, %d rows", s.Range(), s.MaxRows())
	}
	opened(t, s, 1)
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = s.Step(nil)
	wantErr(t, err, shard.ErrClosed)
	_, err = s.Open(shard.SessionSpec{ID: shard.SessionID{2}, Positions: 1})
	wantErr(t, err, shard.ErrClosed)
	wantErr(t, s.Confirm(shard.SessionID{1}, 0), shard.ErrClosed)
}

func TestStageThatCannotBeLoadedSaysWhy(t *testing.T) {
	w := open(t, tiny)
	d, err := cpuDevice()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	good := shard.Options{Model: w.cfg, Profile: f32Profile(w.cfg, 64), Range: w.cfg.All(), Source: w, Device: d, Blocks: 4}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, c := range map[string]struct {
		ctx    context.Context
		change func(*shard.Options)
	}{
		"KV blocks":         {context.Background(), func(o *shard.Options) { o.Blocks = 0 }},
		"no range":          {context.Background(), func(o *shard.Options) { o.Range.End = 3 }},
		"contract":          {context.Background(), func(o *shard.Options) { o.Profile.Contract = 99 }},
		"batch of -1":       {context.Background(), func(o *shard.Options) { o.MaxRows = -1 }},
		"context canceled":  {cancelled, func(*shard.Options) {}},
		"no tensor missing": {context.Background(), func(o *shard.Options) { o.Source = renamed(w, "blk.1.ffn_up.weight", "missing") }},
		"256 x 256 was":     {context.Background(), func(o *shard.Options) { o.Source = renamed(w, "blk.0.attn_q.weight", "blk.0.attn_k.weight") }},
		"256 were expected": {context.Background(), func(o *shard.Options) { o.Source = renamed(w, "output_norm.weight", "rope_freqs.weight") }},
	} {
		o := good
		c.change(&o)
		s, err := shard.New(c.ctx, o)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if s != nil {
			t.Errorf("%s: a stage came with the error", name)
		}
	}
}

// renamed is w with another tensor in place of one.
func renamed(w *weights, name, by string) model.Source {
	c := deeper(w, w.cfg.Layers)
	c.rename = func(n string) string {
		if n == name {
			return by
		}
		return n
	}
	return c
}

func TestStageServesManyGoroutines(t *testing.T) {
	s := solo(t, pipeOptions{blocks: 32})
	var wg sync.WaitGroup
	var stepping sync.Mutex // results are valid until the next step
	for i := range 6 {
		wg.Go(func() {
			for turn := range 8 {
				id := shard.SessionID{byte(i), byte(turn)}
				held, err := s.Open(shard.SessionSpec{ID: id, Positions: 40, Prompt: slices.Repeat([]int32{int32(40 + i%2)}, 20)})
				if err == nil {
					err = s.Start(id, 0, held)
				}
				if err != nil {
					t.Error(err)
					return
				}
				stepping.Lock()
				res, err := s.Step([]shard.Run{{Session: id, Base: held, Tokens: slices.Repeat([]int32{int32(40 + i%2)}, 20-held), Sample: shard.SampleLast}})
				if err == nil {
					err = res[0].Err
				}
				stepping.Unlock()
				if err == nil {
					err = errors.Join(s.Confirm(id, 20), s.Truncate(id, 1, 20))
				}
				if err != nil {
					t.Error(err)
				}
				s.Stats()
				s.CloseSession(id)
			}
		})
	}
	wg.Wait()
	if got := s.Stats(); got.Sessions != 0 || got.KV.Used != 0 || got.KV.Reserved != 0 {
		t.Errorf("at the end %+v", got)
	}
}
