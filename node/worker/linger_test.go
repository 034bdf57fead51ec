package worker_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node/worker"
	"github.com/weft-mesh/weft/shard"
)

// countedStage counts its steps, which take a while each.
type countedStage struct {
	worker.Stage
	steps *atomic.Int64
}

func (s countedStage) Step(runs []shard.Run) ([]shard.Result, error) {
	s.steps.Add(1)
	time.Sleep(8 * time.Millisecond)
	return s.Stage.Step(runs)
}

// TestRepliesOverAWholeModelFallIntoStep begins a reply in the middle of another
// one's step: soon each step computes both. Where another stage follows, they go
// on by turns, so that both stages compute.
func TestRepliesOverAWholeModelFallIntoStep(t *testing.T) {
	for name, c := range map[string]struct {
		stages      []string
		at          []int
		least, most int64
	}{
		"one stage":  {[]string{"a"}, nil, 30, 40},
		"two stages": {[]string{"a", "b"}, []int{2}, 45, 70},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := repeated(4)
				prompt := promptOf(8, 1)
				tokens, _ := direct(t, w, prompt, 30)
				var steps atomic.Int64
				m := newMesh(t, meshOptions{weights: w, loader: func(name string, l *loader) {
					if name == "a" {
						l.wrap = func(s worker.Stage) worker.Stage { return countedStage{s, &steps} }
					}
				}}, "a", "b", "head", "other")
				p := planOf(w, "head", 1, c.stages, c.at...)
				m.load(p)
				var wg sync.WaitGroup
				for i, name := range []string{"head", "other"} {
					h := openHead(t, m.nodes[name], p)
					wg.Go(func() {
						time.Sleep(time.Duration(i) * 20 * time.Millisecond)
						got, _ := h.reply(prompt, 30, 16, nil)
						if d := cmp.Diff(tokens, got); d != "" {
							t.Errorf("%s: %s", name, d)
						}
						h.close()
					})
				}
				wg.Wait()
				if n := steps.Load(); n < c.least || n > c.most {
					t.Errorf("two replies of 30 tokens took %d steps, %d to %d were expected", n, c.least, c.most)
				}
			})
		})
	}
}
