package opencl_test

import (
	"fmt"
	"testing"

	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// fakeCard is a card that computes nothing: it keeps what is written, counts what it has
// given out, and fails on demand.
type fakeCard struct {
	live    map[*fakeMemory]bool
	bytes   int64
	allocs  int
	full    int   // the alloc that fails, from 1; 0: none
	launch  error // of every launch
	sync    error // of every wait
	write   error
	closed  int
	kernels map[string]*fakeKernel
}

type fakeMemory struct{ data []byte }

func (m *fakeMemory) Bytes() int64 { return int64(len(m.data)) }

type fakeKernel struct {
	name     string
	launched int
}

func (k *fakeKernel) Name() string { return k.name }

func newFakeCard() *fakeCard {
	return &fakeCard{live: map[*fakeMemory]bool{}, kernels: map[string]*fakeKernel{}}
}

func (c *fakeCard) Info() driver.Info {
	return driver.Info{Name: "fake card", DriverName: "fake", DriverVersion: "1"}
}

func (c *fakeCard) Alloc(bytes int64) (driver.Memory, error) {
	c.allocs++
	if c.allocs == c.full {
		return nil, fmt.Errorf("%w: %d bytes", driver.ErrNoMemory, bytes)
	}
	m := &fakeMemory{make([]byte, bytes)}
	c.live[m] = true
	c.bytes += bytes
	return m, nil
}

func (c *fakeCard) Free(m driver.Memory) {
	f := m.(*fakeMemory)
	if !c.live[f] {
		panic("memory is freed twice")
	}
	delete(c.live, f)
	c.bytes -= m.Bytes()
}

// inside panics on memory that is not live, or a range beyond it.
func (c *fakeCard) inside(m driver.Memory, offset, n int64) []byte {
	f := m.(*fakeMemory)
	if !c.live[f] || offset < 0 || offset+n > m.Bytes() {
		panic(fmt.Sprintf("%d bytes at %d of memory of %d bytes, live %v", n, offset, m.Bytes(), c.live[f]))
	}
	return f.data[offset : offset+n]
}

func (c *fakeCard) Write(dst driver.Memory, offset int64, src []byte) error {
	copy(c.inside(dst, offset, int64(len(src))), src)
	return c.write
}

func (c *fakeCard) Read(dst []byte, src driver.Memory, offset int64) error {
	copy(dst, c.inside(src, offset, int64(len(dst))))
	return c.sync
}

func (c *fakeCard) Kernel(name string) (driver.Kernel, error) {
	k := &fakeKernel{name: name}
	c.kernels[name] = k
	return k, nil
}

func (c *fakeCard) Launch(k driver.Kernel, groups, local [3]int, args ...driver.Arg) error {
	k.(*fakeKernel).launched++
	for i, a := range args {
		if a.Kind == driver.ArgMemory {
			c.inside(a.Memory, a.Offset, 1)
		}
		if local[0]*local[1]*local[2] > driver.MaxGroup || min(groups[0], groups[1], groups[2]) < 1 || a.Offset%driver.Align != 0 {
			panic(fmt.Sprintf("%s: groups %v of %v, argument %d at %d", k.Name(), groups, local, i, a.Offset))
		}
	}
	return c.launch
}

func (c *fakeCard) Sync() error { return c.sync }

func (c *fakeCard) MemoryInfo() (free, total uint64, err error) {
	return 1<<30 - uint64(c.bytes), 1 << 30, nil
}

func (c *fakeCard) Close() error {
	c.closed++
	clear(c.live)
	return c.sync
}

// guard is how many bytes around each piece of memory are watched.
const guard = driver.Align

// guarded is a card whose every piece of memory lies between zones that no kernel may
// touch. Kernels that write there are named; what they read there is NaN, or -1.
type guarded struct {
	driver.Device
	t     testing.TB
	zone  []byte // what a zone holds
	read  []byte
	live  map[*guardedMemory]bool
	tried int // launches that were checked
}

type guardedMemory struct {
	inner driver.Memory
	bytes int64
}

func (m *guardedMemory) Bytes() int64 { return m.bytes }

func newGuarded(t testing.TB, card driver.Device) *guarded {
	g := &guarded{Device: card, t: t, zone: make([]byte, guard), read: make([]byte, guard), live: map[*guardedMemory]bool{}}
	for i := range g.zone {
		g.zone[i] = 0xff
	}
	return g
}

func (g *guarded) Alloc(bytes int64) (driver.Memory, error) {
	m, err := g.Device.Alloc(bytes + 2*guard)
	if err != nil {
		return nil, err
	}
	junk := make([]byte, bytes+2*guard)
	for i := range junk {
		junk[i] = 0xff
	}
	if err := g.Device.Write(m, 0, junk); err != nil {
		return nil, err
	}
	p := &guardedMemory{m, bytes}
	g.live[p] = true
	return p, nil
}

// check looks at the zones of a piece of memory.
func (g *guarded) check(m *guardedMemory, who string) {
	for _, at := range []int64{0, guard + m.bytes} {
		if err := g.Device.Read(g.read, m.inner, at); err != nil {
			g.t.Error(err)
		}
		if string(g.read) != string(g.zone) {
			side := "behind"
			if at == 0 {
				side = "before"
			}
			g.t.Errorf("%s: memory %s a piece of %d bytes was written", who, side, m.bytes)
			if err := g.Device.Write(m.inner, at, g.zone); err != nil {
				g.t.Error(err)
			}
		}
	}
}

func (g *guarded) Free(m driver.Memory) {
	p := m.(*guardedMemory)
	if !g.live[p] {
		g.t.Error("memory is freed twice")
		return
	}
	g.check(p, "free")
	delete(g.live, p)
	g.Device.Free(p.inner)
}

func (g *guarded) Write(dst driver.Memory, offset int64, src []byte) error {
	p := dst.(*guardedMemory)
	if offset < 0 || offset+int64(len(src)) > p.bytes {
		g.t.Errorf("write of %d bytes at %d of %d", len(src), offset, p.bytes)
	}
	return g.Device.Write(p.inner, guard+offset, src)
}

func (g *guarded) Read(dst []byte, src driver.Memory, offset int64) error {
	p := src.(*guardedMemory)
	if offset < 0 || offset+int64(len(dst)) > p.bytes {
		g.t.Errorf("read of %d bytes at %d of %d", len(dst), offset, p.bytes)
	}
	return g.Device.Read(dst, p.inner, guard+offset)
}

func (g *guarded) Launch(k driver.Kernel, groups, local [3]int, args ...driver.Arg) error {
	moved := make([]driver.Arg, len(args))
	for i, a := range args {
		if a.Kind == driver.ArgMemory {
			p := a.Memory.(*guardedMemory)
			if !g.live[p] {
				g.t.Errorf("%s: argument %d was freed", k.Name(), i)
			}
			a = driver.MemAt(p.inner, guard+a.Offset)
		}
		moved[i] = a
	}
	if err := g.Device.Launch(k, groups, local, moved...); err != nil {
		return err
	}
	g.tried++
	for _, a := range args {
		if a.Kind == driver.ArgMemory {
			g.check(a.Memory.(*guardedMemory), k.Name())
		}
	}
	return nil
}
