package cpu

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// countTask counts how often each unit runs.
type countTask struct {
	runs  []atomic.Int32
	inner func(worker, i int)
}

func (c *countTask) unit(worker, i int) {
	c.runs[i].Add(1)
	if c.inner != nil {
		c.inner(worker, i)
	}
}

func TestThePoolRunsEachUnitOnce(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 8} {
		p := newPool(workers)
		for round := range 300 {
			c := &countTask{runs: make([]atomic.Int32, round%37)}
			if round%50 == 49 {
				time.Sleep(2 * time.Millisecond) // workers park
			}
			p.run(c, len(c.runs))
			for i := range c.runs {
				if n := c.runs[i].Load(); n != 1 {
					t.Fatalf("%d workers, round %d: unit %d ran %d times", workers, round, i, n)
				}
			}
		}
		p.close()
	}
}

func TestThePoolWaitsForUnitsOfOtherWorkers(t *testing.T) {
	p := newPool(2)
	defer p.close()
	var ended atomic.Int32
	var others atomic.Bool
	for range 50 {
		ended.Store(0)
		c := &countTask{runs: make([]atomic.Int32, 4)}
		c.inner = func(worker, _ int) {
			if worker != 0 {
				others.Store(true)
			}
			time.Sleep(200 * time.Microsecond)
			ended.Add(1)
		}
		p.run(c, 4)
		if n := ended.Load(); n != 4 {
			t.Fatalf("run returned after %d of 4 units", n)
		}
	}
	if !others.Load() {
		t.Error("the second worker never took a unit")
	}
}

func TestThePoolGivesEachWorkerItsOwnNumber(t *testing.T) {
	const workers = 4
	p := newPool(workers)
	defer p.close()
	var inside [workers]atomic.Int32
	for range 100 {
		c := &countTask{runs: make([]atomic.Int32, 16), inner: func(worker, _ int) {
			if inside[worker].Add(1) != 1 {
				t.Errorf("worker %d runs two units at once", worker)
			}
			runtime.Gosched()
			inside[worker].Add(-1)
		}}
		p.run(c, 16)
	}
}

func TestWorkersParkAtRestAndEndOnClose(t *testing.T) {
	before := runtime.NumGoroutine()
	p := newPool(3)
	p.run(&countTask{runs: make([]atomic.Int32, 8)}, 8)
	for deadline := time.Now().Add(5 * time.Second); p.sleepers.Load() != 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of 2 workers are parked", p.sleepers.Load())
		}
	}
	p.close()
	// A goroutine is counted for a moment after its last statement.
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines after close, %d before", runtime.NumGoroutine(), before)
		}
	}
}

func BenchmarkPoolHandover(b *testing.B) {
	p := newPool(2)
	defer p.close()
	c := &countTask{runs: make([]atomic.Int32, 2)}
	for b.Loop() {
		p.run(c, 2)
	}
}
