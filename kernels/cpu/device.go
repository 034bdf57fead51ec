package cpu

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/weft-mesh/weft/kernels"
)

// Options says what New makes. The zero value is a device of the best tier
// with a thread for each processor that Go may use.
type Options struct {
	Threads int    // goroutines that compute, the caller's included; 0 is GOMAXPROCS
	Tier    string // one of Tiers; empty is the best one
}

// Device computes on the host's processor. Every operation has ended when its
// call returns, but for products on several threads: those that come in a row
// run together when something else is called. In steady state operations
// allocate nothing. It must be used by one goroutine at a time.
type Device struct {
	set  *kernelSet
	pool *pool

	live      map[closer]struct{} // handles not yet freed
	quantised int                 // live matrices of quantised weights
	floats    int                 // live matrices of float weights

	bad []uint32 // per row of the batch: not 0 if the operation at hand met a fault

	// The tasks of the operations, kept so that handing one to the pool
	// allocates nothing.
	embedTask   embedTask
	normTask    normTask
	prepareTask prepareTask
	products    productQueue
	mapTask     mapTask
	rotateTask  rotateTask
	storeTask   storeTask
	attnTask    attnTask
	finiteTask  finiteTask
	expertTask  expertTask
	gatedTask   gatedTask

	maxima []float32 // of a row of logits

	scratch []scratch // by worker
}

// scratch is one worker's memory, kept between operations: what kernels are
// given by address would otherwise be allocated at each call.
type scratch struct {
	panel  panel
	lanes  [16]float32
	halves [64]uint16
	attn   attnScratch
	matrix matrixScratch
}

// closer is a handle of this device that holds memory.
type closer interface{ free() error }

var _ kernels.Device = (*Device)(nil)

// New makes a device. Its workers run until Close.
func New(o Options) (kernels.Device, error) {
	set, err := chooseTier(o.Tier)
	if err != nil {
		return nil, err
	}
	threads := o.Threads
	if threads == 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	if threads < 1 || threads > maxThreads {
		return nil, fmt.Errorf("cpu device with %d threads: choose 1 to %d, or 0 for one per processor", o.Threads, maxThreads)
	}
	return &Device{
		set:     set,
		pool:    newPool(threads),
		live:    map[closer]struct{}{},
		scratch: make([]scratch, threads),
	}, nil
}

// maxThreads bounds the pool: its state counts workers in 15 bits, and no
// machine that weft knows has more processors.
const maxThreads = 1024

// Name gives the tier and the number of threads.
func (d *Device) Name() string {
	if d.pool.workers == 1 {
		return "cpu " + d.set.tier + ", 1 thread"
	}
	return fmt.Sprintf("cpu %s, %d threads", d.set.tier, d.pool.workers)
}

// Sync runs the products that wait; other operations end before they return.
func (d *Device) Sync() error {
	d.flush()
	return nil
}

// Close ends the workers and gives back all memory that is still held.
func (d *Device) Close() error {
	d.flush()
	d.pool.close()
	var errs []error
	for h := range d.live {
		errs = append(errs, h.free())
	}
	clear(d.live)
	return errors.Join(errs...)
}

// Free gives back a buffer, acts, vector, rope or experts.
func (d *Device) Free(handle any) {
	if handle == nil {
		return
	}
	c, ok := handle.(closer)
	if !ok {
		panic(fmt.Sprintf("cpu: free of a foreign handle %T", handle))
	}
	if _, ok := d.live[c]; !ok {
		return
	}
	d.flush()
	delete(d.live, c)
	if err := c.free(); err != nil {
		panic(fmt.Sprintf("cpu: free %T: %v", handle, err))
	}
}

// Units smaller than this many elements of work are not worth a second thread:
// handing a task over costs about as long as a few thousand of them.
const serialElements = 1 << 13

// parallel runs t's units once the products before it have ended.
func (d *Device) parallel(t task, units, elements int) {
	d.flush()
	d.run(t, units, elements)
}

// run runs t's units on the pool, or on the caller where all of them together
// are too little work to share.
func (d *Device) run(t task, units, elements int) {
	if elements < serialElements {
		for i := range units {
			t.unit(0, i)
		}
		return
	}
	d.pool.run(t, units)
}

// clearBad makes room for the rows' marks.
func (d *Device) clearBad(rows int) {
	if cap(d.bad) < rows {
		d.bad = make([]uint32, rows)
	}
	d.bad = d.bad[:rows]
	clear(d.bad)
}

// report turns the marks of one operation into faults, in the order of rows;
// a row that has a fault already keeps that one.
func (d *Device) report(b *kernels.Batch, op string) {
	for row, bad := range d.bad {
		if bad != 0 && !hasFault(b, row) {
			b.Faults = append(b.Faults, kernels.Fault{Row: row, Layer: b.Layer, Op: op})
		}
	}
}

func hasFault(b *kernels.Batch, row int) bool {
	for _, f := range b.Faults {
		if f.Row == row {
			return true
		}
	}
	return false
}

// markBad marks a row, from any worker.
func (d *Device) markBad(row int) { atomic.StoreUint32(&d.bad[row], 1) }
