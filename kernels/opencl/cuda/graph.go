package cuda

import (
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"unsafe"

	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// Launches are not put on the stream one by one: they gather until something needs them, or
// until there are enough of them. A sequence of launches that comes again, kernel by kernel,
// grid by grid and argument by argument, as a model's layers do from token to token, is
// handed to the driver as one graph, made when it comes the second time. The order on the
// stream is the same either way.

const (
	// segmentLaunches is how many launches gather at most: enough to make handing over
	// cheap, few enough that the card does not wait for them.
	segmentLaunches = 64
	// graphLaunches is the shortest sequence that is worth a graph.
	graphLaunches = 4
	// maxSequences bounds the sequences that are remembered, and the graphs.
	maxSequences = 64

	captureThread = 1 // CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
)

// Words of a launch before its arguments: the function, the number of arguments, the
// work-groups, and the items of one.
const (
	wordFn = iota
	wordArgs
	wordGroups // x; y and z in the next
	wordGroupsYZ
	wordItems
	launchWords
)

// queue is the launches that gather, and the sequences that were seen.
type queue struct {
	words    []uint64
	launches int
	off      bool // the driver has no graphs, or did not make one

	seed  maphash.Seed
	seen  map[uint64]*sequence
	clock uint64
}

// sequence is launches that were seen together.
type sequence struct {
	words []uint64
	graph uintptr // 0: seen once
	used  uint64
}

func (q *queue) make(a *api) {
	q.seed, q.seen = maphash.MakeSeed(), map[uint64]*sequence{}
	for f := cuStreamBeginCapture; f < functions; f++ {
		q.off = q.off || a.fn[f] == 0
	}
}

// add appends a launch whose arguments are in values.
func (q *queue) add(fn uintptr, groups, local [3]int, values []uint64) {
	q.words = append(q.words, uint64(fn), uint64(len(values)), uint64(groups[0]), uint64(groups[1])|uint64(groups[2])<<32,
		uint64(local[0])|uint64(local[1])<<20|uint64(local[2])<<40)
	q.words = append(q.words, values...)
	q.launches++
}

// flush puts what has gathered on the stream. The caller has entered.
func (d *device) flush() error {
	q := &d.gathered
	if q.launches == 0 {
		return nil
	}
	err := d.send()
	q.words, q.launches = q.words[:0], 0
	return err
}

func (d *device) send() error {
	q := &d.gathered
	if q.off || q.launches < graphLaunches {
		return d.launchAll(q.words)
	}
	s := q.find(d)
	if s.graph == 0 && s.used != 0 {
		if err := d.capture(s); err != nil {
			return err
		}
	}
	s.used = q.clock
	if s.graph == 0 {
		return d.launchAll(q.words)
	}
	d.args = [2]uintptr{s.graph, d.stream}
	if r := d.api.again(cuGraphLaunch, d.args[:]); r != success {
		return d.fail(fmt.Sprintf("launch %d kernels", q.launches), r)
	}
	return nil
}

// find gives the sequence that has gathered; its used is 0 when it is new. The one that was
// used longest ago makes room.
func (q *queue) find(d *device) *sequence {
	q.clock++
	key := maphash.Bytes(q.seed, unsafe.Slice((*byte)(unsafe.Pointer(&q.words[0])), 8*len(q.words)))
	s := q.seen[key]
	if s != nil && slices.Equal(s.words, q.words) {
		return s
	}
	if s == nil && len(q.seen) >= maxSequences {
		oldest := key
		for k, o := range q.seen {
			if s == nil || o.used < s.used {
				oldest, s = k, o
			}
		}
		delete(q.seen, oldest)
	}
	if s != nil { // its place and memory are taken over
		d.dropGraph(s)
	} else {
		s = &sequence{}
	}
	s.words, s.used = append(s.words[:0], q.words...), 0
	q.seen[key] = s
	return s
}

// capture makes a sequence's graph. A driver that makes none is not asked again; only a
// device that is lost meanwhile is an error.
func (d *device) capture(s *sequence) error {
	if r := d.api.call(cuStreamBeginCapture, d.stream, captureThread); r != success {
		return d.noGraph(r)
	}
	err := d.launchAll(s.words)
	var graph uintptr
	r := d.api.call(cuStreamEndCapture, d.stream, uintptr(unsafe.Pointer(&graph)))
	if err == nil && r == success {
		r = d.api.call(cuGraphInstantiate, uintptr(unsafe.Pointer(&s.graph)), graph, 0)
	}
	if graph != 0 {
		d.api.call(cuGraphDestroy, graph)
	}
	if r != success {
		s.graph = 0
		return d.noGraph(r)
	}
	d.gathered.off = err != nil
	return d.lost
}

// noGraph notes that the driver made none.
func (d *device) noGraph(r result) error {
	_ = d.fail("make a graph of kernels", r) // notes a lost device
	d.gathered.off = true
	return d.lost
}

// launchAll puts launches on the stream one by one.
func (d *device) launchAll(words []uint64) error {
	for len(words) > 0 {
		n := int(words[wordArgs])
		copy(d.values[:n], words[launchWords:])
		yz, items := words[wordGroupsYZ], words[wordItems]
		d.launch = [...]uintptr{
			uintptr(words[wordFn]), uintptr(words[wordGroups]), uintptr(yz & 0xffffffff), uintptr(yz >> 32),
			uintptr(items & 0xfffff), uintptr(items >> 20 & 0xfffff), uintptr(items >> 40),
			0, d.stream, uintptr(unsafe.Pointer(&d.pointers[0])), 0,
		}
		if r := d.api.again(cuLaunchKernel, d.launch[:]); r != success {
			return d.fail(fmt.Sprintf("launch %s over %d groups", d.nameOf(uintptr(words[wordFn])), words[wordGroups]), r)
		}
		words = words[launchWords+n:]
	}
	return nil
}

// nameOf finds a function's name, for an error.
func (d *device) nameOf(fn uintptr) string {
	for name, k := range d.kernels {
		if k.fn == fn {
			return name
		}
	}
	return "a kernel"
}

func (d *device) dropGraph(s *sequence) {
	if s.graph != 0 {
		d.api.call(cuGraphExecDestroy, s.graph)
		s.graph = 0
	}
}

// dropGraphs gives all graphs back.
func (d *device) dropGraphs() {
	for _, s := range d.gathered.seen {
		d.dropGraph(s)
	}
	clear(d.gathered.seen)
	d.gathered.words, d.gathered.launches = nil, 0
}

// proveGraphs sees on this card and driver that a sequence that is handed over as a graph
// does what its launches do: each adds one of two numbers to the other, so that one left
// out, done twice or out of turn gives other numbers. Where they differ, launches go out one
// by one. Without it no test that runs before a card is used would meet a graph.
func (d *device) proveGraphs() error {
	if _, ok := d.signatures["add"]; !ok || d.gathered.off {
		d.gathered.off = true
		return nil
	}
	k, err := d.Kernel("add")
	if err != nil {
		return err
	}
	m, err := d.Alloc(2 * driver.Align)
	if err != nil {
		return err
	}
	defer d.Free(m)
	defer d.dropGraphs()
	x, y := driver.Mem(m), driver.MemAt(m, driver.Align)
	one, got := unsafe.Slice((*byte)(unsafe.Pointer(&[]float32{1}[0])), 4), make([]float32, 2)
	if err := errors.Join(d.Write(m, 0, one), d.Write(m, driver.Align, one)); err != nil {
		return err
	}
	a, b := float32(1), float32(1)
	for round := range 3 { // as launches; as a graph that is made; as a graph
		var failed error
		for range graphLaunches {
			a += b
			b += a
			failed = errors.Join(failed, d.Launch(k, [3]int{1, 1, 1}, [3]int{128, 1, 1}, x, y, driver.Int(1)),
				d.Launch(k, [3]int{1, 1, 1}, [3]int{128, 1, 1}, y, x, driver.Int(1)))
		}
		if failed = errors.Join(failed, d.Sync()); failed != nil {
			if round == 0 || d.lost != nil {
				return failed
			}
			d.gathered.off = true
			return nil
		}
	}
	out := unsafe.Slice((*byte)(unsafe.Pointer(&got[0])), 8)
	if err := errors.Join(d.Read(out[:4], m, 0), d.Read(out[4:], m, driver.Align)); err != nil {
		return err
	}
	if got[0] != a || got[1] != b {
		d.gathered.off = true
	}
	return nil
}
