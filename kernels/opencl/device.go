package opencl

import (
	"errors"
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// Device computes on a graphics processor. Operations are put on the card's queue and run
// after they return. In steady state operations allocate nothing, neither on the host nor
// on the card. It must be used by one goroutine at a time.
type Device struct {
	dev  driver.Device
	name string

	kernels map[string]driver.Kernel
	args    []driver.Arg

	live              map[holder]struct{} // handles not yet freed
	quantised, floats int                 // live matrices of each kind
	tensor            bool                // the program has kernels for products of small matrices
	units             int                 // of the card
	err               error               // the first failure of an operation; the device is lost then

	scratch driver.Memory // what operations keep between their kernels
	faults  faultTable
	rows    batchRows // the batch whose rows and KV blocks are on the card
	ids     table     // rows to gather or to embed
	plan    attnPlan

	reduction reduction
	moved     Transfers
}

// holder is a handle that holds memory of the card.
type holder interface{ memories() []driver.Memory }

var _ kernels.Device = (*Device)(nil)

// scratchBytes is the room for partial results. Operations that would need more work in
// passes.
const scratchBytes = 64 << 20

// tensorKernel is there where the driver's program has the kernels of cl/tensor.cl.
const tensorKernel = "mma_q8_0_8"

// New makes a device of an opened card, which it closes with itself; also when it fails.
// dev must have been opened with Source.
func New(dev driver.Device) (*Device, error) {
	d := &Device{dev: dev, name: nameOf(dev.Info()), kernels: map[string]driver.Kernel{}, live: map[holder]struct{}{}}
	_, absent := dev.Kernel(tensorKernel)
	d.tensor, d.units = absent == nil, dev.Info().Units
	err := d.faults.make(d)
	if err == nil {
		d.scratch, err = dev.Alloc(scratchBytes)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make device %s: %w", d.name, err), dev.Close())
	}
	return d, nil
}

func nameOf(i driver.Info) string {
	if i.DriverVersion == "" {
		return i.DriverName + " " + i.Name
	}
	return fmt.Sprintf("%s %s, driver %s", i.DriverName, i.Name, i.DriverVersion)
}

// Name gives the library, the card and its driver's version.
func (d *Device) Name() string { return d.name }

// Info says what the card is.
func (d *Device) Info() driver.Info { return d.dev.Info() }

// MemoryInfo gives the card's free and whole memory in bytes, as its driver tells.
func (d *Device) MemoryInfo() (free, total uint64, err error) { return d.dev.MemoryInfo() }

// Sync waits until every operation has ended and appends the faults that were met since the
// last Sync to their batches. An error wraps driver.ErrLost or driver.ErrNoMemory: what was
// computed since is not to be used, and the device neither.
func (d *Device) Sync() error {
	d.collect()
	d.rows.forget()
	return d.err
}

// Close gives back all memory, of handles that are still held as well.
func (d *Device) Close() error {
	clear(d.live)
	clear(d.kernels)
	return d.dev.Close()
}

// Free gives back a buffer, acts, vector, rope or experts.
func (d *Device) Free(handle any) {
	if handle == nil {
		return
	}
	h, ok := handle.(holder)
	if !ok {
		panic(fmt.Sprintf("opencl: free of a foreign handle %T", handle))
	}
	d.release(h)
}

// release frees a handle's memory, once.
func (d *Device) release(h holder) {
	if _, ok := d.live[h]; !ok {
		return
	}
	delete(d.live, h)
	for _, m := range h.memories() {
		d.dev.Free(m)
	}
}

// fail notes the first failure. All later operations do nothing; Sync and Read tell.
func (d *Device) fail(op string, err error) {
	if d.err == nil && err != nil {
		d.err = fmt.Errorf("%s: %s: %w", d.name, op, err)
	}
}

// grid is how many work-items a kernel gets: groups of local items.
type grid struct{ groups, local [3]int }

// groupItems is the size of a work-group of kernels that treat each element alone.
const groupItems = 128

// each is a work-item for each of n elements.
func each(n int) grid {
	return grid{[3]int{(n + groupItems - 1) / groupItems, 1, 1}, [3]int{groupItems, 1, 1}}
}

// groupsOf is x by y by z work-groups of local items.
func groupsOf(local, x, y, z int) grid { return grid{[3]int{x, y, z}, [3]int{local, 1, 1}} }

// run puts a kernel on the queue. A kernel without work is left out.
func (d *Device) run(kernel string, g grid, args ...driver.Arg) {
	if d.err != nil || g.groups[0] == 0 || g.groups[1] == 0 || g.groups[2] == 0 {
		return
	}
	k, ok := d.kernels[kernel]
	if !ok {
		var err error
		if k, err = d.dev.Kernel(kernel); err != nil {
			d.fail(kernel, err)
			return
		}
		d.kernels[kernel] = k
	}
	d.args = append(d.args[:0], args...)
	if err := d.dev.Launch(k, g.groups, g.local, d.args...); err != nil {
		d.fail(kernel, err)
	}
}

// growScratch makes room for larger partial results. What scratch memory holds is lost.
func (d *Device) growScratch(bytes int64) error {
	m, err := d.alloc(bytes)
	if err != nil {
		return err
	}
	d.dev.Free(d.scratch)
	d.scratch = m
	return nil
}

// reserve makes m, whose content is no matter, take so many bytes and some more for the
// next time.
func (d *Device) reserve(op string, m *driver.Memory, need int64) {
	if d.err != nil || *m != nil && (*m).Bytes() >= need {
		return
	}
	if *m != nil {
		d.dev.Free(*m)
		*m = nil
	}
	more, err := d.dev.Alloc(max(driver.Align, need+need/2))
	if err != nil {
		d.fail(op, err)
		return
	}
	*m = more
}

// upload copies bytes to the card, in order with the kernels.
func (d *Device) upload(m driver.Memory, offset int64, src []byte) {
	if d.err != nil || len(src) == 0 {
		return
	}
	d.fail("upload", d.dev.Write(m, offset, src))
	d.moved.Up += int64(len(src))
}

// download waits and copies bytes from the card.
func (d *Device) download(op string, dst []byte, m driver.Memory, offset int64) {
	if d.err != nil || len(dst) == 0 {
		return
	}
	d.fail(op, d.dev.Read(dst, m, offset))
	d.moved.Down += int64(len(dst))
}

// Transfers are bytes between the host and the card, but for weights, tables and the zeros
// of new memory.
type Transfers struct{ Up, Down int64 }

// Transfers gives what was moved since the device was made. It is for the goroutine that
// uses the device.
func (d *Device) Transfers() Transfers { return d.moved }

// alloc makes memory, but not on a device that is lost.
func (d *Device) alloc(bytes int64) (driver.Memory, error) {
	if d.err != nil {
		return nil, d.err
	}
	return d.dev.Alloc(bytes)
}

// A table is memory for lists that batches bring: it grows when one is longer than any
// before.
type table struct{ mem driver.Memory }

// put uploads a list.
func (t *table) put(d *Device, list []int32) {
	need := int64(4 * len(list))
	if d.err != nil || need == 0 {
		return
	}
	d.reserve("upload", &t.mem, need)
	d.upload(t.mem, 0, bytesOf(list))
}
