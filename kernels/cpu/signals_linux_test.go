package cpu

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
)

// The state of matrix tiles, 8 KB, is saved on the stack of each signal that
// arrives amid a product: Go's own signals, by which it stops goroutines and
// takes profiles, must neither overflow that stack nor lose the tiles.
func TestSignalsAmidProductsChangeNothing(t *testing.T) {
	for _, set := range everySet() {
		t.Run(set.tier, func(t *testing.T) { signalsAmidProducts(t, set) })
	}
}

func signalsAmidProducts(t *testing.T, set *kernelSet) {
	const tokens, cols, rows = 64, 512, 512
	b := bench{TB: t, r: newRand(), behind: true}
	d := &Device{set: set, pool: newPool(1), live: map[closer]struct{}{}, scratch: make([]scratch, 1), quantised: 1}
	defer d.Close()
	m := b.matrixOf(quant.Q4_K, rows/16, cols)
	m.d = d
	d.makeRoom(m)
	x := &buffer{rows: tokens, cols: cols, stride: cols, data: b.floats(tokens * cols)}
	y := &buffer{rows: tokens, cols: rows, stride: rows, data: make([]float32, tokens*rows)}
	a, err := d.NewActs(tokens, cols, kernels.Act8)
	if err != nil {
		t.Fatal(err)
	}
	batch := &kernels.Batch{Rows: make([]kernels.Row, tokens)}
	d.Prepare(batch, a, x)
	d.MatMul(batch, y, m, a)
	want := append([]float32(nil), y.data...)

	var done atomic.Bool
	var sender sync.WaitGroup
	thread := make(chan int)
	var sent atomic.Int64
	sender.Go(func() {
		pid, tid := os.Getpid(), <-thread
		for !done.Load() {
			if err := unix.Tgkill(pid, tid, unix.SIGURG); err != nil {
				t.Errorf("signal: %v", err)
				return
			}
			sent.Add(1)
			time.Sleep(10 * time.Microsecond)
		}
	})
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	thread <- unix.Gettid()
	for i := 0; i < 20 || sent.Load() < 200; i++ {
		clear(y.data)
		d.MatMul(batch, y, m, a)
		for k, v := range want {
			if y.data[k] != v {
				done.Store(true)
				sender.Wait()
				t.Fatalf("%s: element %d of product %d is %g, without signals %g", set.tier, k, i, y.data[k], v)
			}
		}
	}
	done.Store(true)
	sender.Wait()
}
