package opencl

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// fault is a refused value's operation, as kernels write it.
type fault uint32

// The operations that refuse values.
const (
	faultNorm fault = iota + 1
	faultQuantise
	faultKV
	faultAttention
	faultRouter
	faultLogits
)

var faultOps = [...]string{faultNorm: "norm", faultQuantise: "quantise", faultKV: "kv", faultAttention: "attention", faultRouter: "router", faultLogits: "logits"}

// faultTable is a word for each row of the batches since the last Sync, on the card: 0, or
// the operation that met the row's first fault and its layer. Kernels write a word that is
// still 0. A batch is known by its address, which the caller keeps until Sync.
type faultTable struct {
	mem     driver.Memory
	host    []uint32
	batches []faultRows
	used    int // words
}

// faultRows is where a batch's words are.
type faultRows struct {
	b       *kernels.Batch
	at, end int
}

// faultWords is how many rows there can be between two waits; more make the device wait.
const faultWords = 1 << 15

func (t *faultTable) make(d *Device) error {
	t.host = make([]uint32, faultWords)
	mem, err := d.dev.Alloc(4 * faultWords)
	if err != nil {
		return err
	}
	t.mem = mem
	return d.dev.Write(mem, 0, bytesOf(t.host))
}

// faultArgs are a kernel's three arguments for its faults: the table, the word of the
// batch's first row, and what to write.
func (d *Device) faultArgs(b *kernels.Batch, f fault) (mem, first, word driver.Arg) {
	t := &d.faults
	n := len(t.batches)
	at := -1
	for i := n - 1; i >= 0; i-- {
		if r := &t.batches[i]; r.b == b && r.end-r.at >= len(b.Rows) {
			at = r.at
			break
		}
	}
	if at < 0 {
		at = d.makeFaultRows(b)
	}
	return driver.Mem(t.mem), driver.Int(at), driver.Uint(uint32(f) | uint32(b.Layer+1)<<8)
}

// maxFaultBatches bounds the search for a batch.
const maxFaultBatches = 64

func (d *Device) makeFaultRows(b *kernels.Batch) int {
	t := &d.faults
	if len(b.Rows) > faultWords {
		panic(fmt.Sprintf("opencl: a batch of %d rows; at most %d", len(b.Rows), faultWords))
	}
	if t.used+len(b.Rows) > faultWords || len(t.batches) == maxFaultBatches {
		d.collect()
	}
	at := t.used
	t.used += len(b.Rows)
	t.batches = append(t.batches, faultRows{b, at, t.used})
	return at
}

// collect waits and appends the faults so far to their batches.
func (d *Device) collect() {
	t := &d.faults
	defer func() {
		clear(t.batches)
		t.batches, t.used = t.batches[:0], 0
	}()
	if d.err != nil {
		return
	}
	if t.used == 0 {
		d.fail("wait", d.dev.Sync())
		return
	}
	words := t.host[:t.used]
	if d.download("wait", bytesOf(words), t.mem, 0); d.err != nil {
		return
	}
	any := false
	for _, r := range t.batches {
		for i, w := range words[r.at:r.end] {
			if w != 0 {
				any = true
				report(r.b, i, w)
			}
		}
	}
	if any {
		clear(words)
		d.upload(t.mem, 0, bytesOf(words))
	}
}

// report turns a word into the row's fault, unless it has one.
func report(b *kernels.Batch, row int, word uint32) {
	for _, f := range b.Faults {
		if f.Row == row {
			return
		}
	}
	op := "unknown"
	if i := word & 0xff; int(i) < len(faultOps) {
		op = faultOps[i]
	}
	b.Faults = append(b.Faults, kernels.Fault{Row: row, Layer: int(word>>8) - 1, Op: op})
}

// batchRows is the batch whose rows are on the card: for each row its position and where
// its sequence's table of KV blocks begins in the list, then the tables.
type batchRows struct {
	table
	b      *kernels.Batch
	list   []int32
	starts []int32
}

// rowInts is the length of a row's entry.
const rowInts = 2

// put makes b's rows the ones on the card.
func (r *batchRows) put(d *Device, b *kernels.Batch) {
	if r.b == b {
		return
	}
	r.list, r.starts = r.list[:0], r.starts[:0]
	at := rowInts * len(b.Rows)
	for _, s := range b.Seqs {
		r.starts = append(r.starts, int32(at))
		at += len(s)
	}
	for _, row := range b.Rows {
		start := int32(0)
		if int(row.Seq) < len(r.starts) {
			start = r.starts[row.Seq]
		}
		r.list = append(r.list, row.Pos, start)
	}
	for _, s := range b.Seqs {
		r.list = append(r.list, s...)
	}
	r.table.put(d, r.list)
	r.b = b
	d.plan.valid = false
}

// forget is called when callers may change their batches.
func (r *batchRows) forget() { r.b = nil }
