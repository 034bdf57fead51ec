//go:build unix

package cpu

import (
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// processorTime is what this process has computed so far.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// Between the tokens of a reply, and while another stage computes, a worker may
// wait for a moment only: a node that computes little must cost little.
func TestAPoolThatHasLittleToDoUsesLittleOfTheProcessor(t *testing.T) {
	p := newPool(4)
	defer p.close()
	const tasks = 50
	before := processorTime(t)
	for range tasks {
		p.run(&countTask{runs: make([]atomic.Int32, 8)}, 8)
		time.Sleep(4 * time.Millisecond)
	}
	// Three workers wait 100 us and 20 us each; what a wake-up costs comes on top.
	if each := (processorTime(t) - before) / tasks; each > 2*time.Millisecond {
		t.Errorf("a task of no work every 4 ms costs %s of processor time each", each)
	}
}

func TestAPoolAtRestUsesNoneOfTheProcessor(t *testing.T) {
	p := newPool(4)
	defer p.close()
	p.run(&countTask{runs: make([]atomic.Int32, 8)}, 8)
	for deadline := time.Now().Add(10 * time.Second); p.sleepers.Load() != 3; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of 3 workers are parked", p.sleepers.Load())
		}
	}
	before := processorTime(t)
	time.Sleep(200 * time.Millisecond)
	if used := processorTime(t) - before; used > 50*time.Millisecond {
		t.Errorf("%s of processor time in 200 ms at rest", used)
	}
}
