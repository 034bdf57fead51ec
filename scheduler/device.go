package scheduler

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"
)

// Device is a graphics processor of a node, or whatever else computes beside its
// processor.
type Device struct {
	Name       string
	MemFree    int64   // bytes that weights, KV and activations may still take
	MemTotal   int64   // bytes that they may take in all
	DecodeBps  float64 // as of Node, but of as much as its caches do not hold
	Layer      time.Duration
	PrefillOps float64
	Shared     bool // its memory is the node's, whose MemFree bounds it too
	First      bool // it is filled before others, whatever its speed: somebody wants it
}

// Host is the processor as the Device of a Part.
const Host = -1

// Part is a run of a stage's layers on one of its node's devices.
type Part struct {
	Device      int // index into Node.Devices, or Host
	First, Last int // layers, Last included
	Bytes       int64
	KVBytes     int64
}

// partOverhead is the cost of handing a step's hidden states to another device
// of the node.
const partOverhead = 30 * time.Microsecond

// ErrNoRoom means that a node's devices together do not hold a stage.
var ErrNoRoom = errors.New("the layers do not fit")

// Lay lays layers first to last, with KV for so many positions, over a node's
// devices and its processor: the fastest one is filled first. The parts are in the
// order of their layers. The error wraps ErrNoRoom where they do not fit.
func Lay(n Node, m Model, first, last, positions int) ([]Part, error) {
	if err := m.sum(); err != nil {
		return nil, err
	}
	if first < 0 || last < first || last >= len(m.LayerBytes) || positions < 0 {
		return nil, fmt.Errorf("lay layers %d to %d of %s, which has %d", first, last, m.Name, len(m.LayerBytes))
	}
	n = n.reading(&m)
	parts, ok := m.lay(&n, first, last, positions, false)
	if !ok {
		return nil, fmt.Errorf("%w: layers %d to %d of %s need %s, %s are free", ErrNoRoom, first, last, m.Name, Size(m.needs(first, last, positions)), Size(n.memory()))
	}
	return parts, nil
}

// device is one of the node's, the processor as Host.
func (n *Node) device(i int) Device {
	if i == Host {
		return Device{MemFree: n.MemFree, DecodeBps: n.DecodeBps, Layer: n.Layer, PrefillOps: n.PrefillOps, Shared: true}
	}
	return n.Devices[i]
}

// bySpeed lists the devices and the processor, the fastest first for layers of so
// many bytes.
func (n *Node) bySpeed(bytes int64) []int {
	order := make([]int, 0, len(n.Devices)+1)
	order = append(order, Host)
	for i, d := range n.Devices {
		if d.DecodeBps > 0 && max(d.MemFree, d.MemTotal) > 0 {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := n.device(a), n.device(b)
		if x.First != y.First {
			if x.First {
				return -1
			}
			return 1
		}
		return cmp.Compare(n.compute(x, bytes, 1), n.compute(y, bytes, 1))
	})
	return order
}

// memory is what is free on all devices together.
func (n *Node) memory() int64 {
	all := n.MemFree
	for _, d := range n.Devices {
		if !d.Shared {
			all += max(d.MemFree, 0)
		}
	}
	return all
}

// roomiest is what is free on the device with most.
func (n *Node) roomiest() int64 {
	most := n.MemFree
	for _, d := range n.Devices {
		if !d.Shared {
			most = max(most, d.MemFree)
		}
	}
	return most
}

// top is the speed of the fastest device for one more session.
func (n *Node) top() float64 {
	most := n.DecodeBps
	for _, d := range n.Devices {
		most = max(most, d.DecodeBps)
	}
	return n.share(most)
}

// pace is the speed at which the node reads a model, or as much of it as it can
// hold: what ranks nodes.
func (n *Node) pace(m *Model) float64 {
	if len(n.Devices) == 0 {
		return n.speed()
	}
	left := m.need(0, len(m.LayerBytes)-1)
	read, took := 0.0, 0.0
	for _, i := range n.bySpeed(m.layer()) {
		d := n.device(i)
		bytes := min(left, d.MemFree)
		left -= bytes
		read += float64(bytes)
		took += float64(bytes) / n.share(d.DecodeBps)
	}
	if took <= 0 {
		return n.speed()
	}
	return read / took
}

// Return gives back what a plan had on the node: where it lay is not known, so the
// fastest device that can have had it has it back first.
func (n *Node) Return(bytes int64) {
	if len(n.Devices) > 0 {
		n.Devices = slices.Clone(n.Devices)
	}
	for _, i := range n.bySpeed(bytes) {
		if i == Host || n.Devices[i].Shared {
			continue
		}
		d := &n.Devices[i]
		back := min(bytes, max(0, d.MemTotal-d.MemFree))
		d.MemFree, bytes = d.MemFree+back, bytes-back
	}
	n.MemFree += bytes
}

// whole is the node with nothing on its devices.
func (n *Node) whole() Node {
	w := *n
	w.Devices = slices.Clone(n.Devices)
	for i := range w.Devices {
		w.Devices[i].MemFree = max(w.Devices[i].MemFree, w.Devices[i].MemTotal)
	}
	return w
}

// needs is the memory of layers first to last with KV for so many positions on
// one device.
func (m *Model) needs(first, last, positions int) int64 {
	return m.weights(first, last) + m.StepBytes + int64(last-first+1)*m.KVBytes*int64(positions)
}

// lay lays layers over a node's devices. The fastest takes as many of the last
// layers as it holds, with the output matrix, which is much to read, the next one
// those before, and so on: the embedding, of which a row is read, comes to lie on
// the slowest. Where that does not fit or is slower, the fastest begins with the
// first layer instead. loose means that the processor takes what is left whether
// it has room or not.
func (m *Model) lay(n *Node, first, last, positions int, loose bool) ([]Part, bool) {
	if len(n.Devices) == 0 {
		return []Part{m.part(Host, first, last, positions)}, loose || m.needs(first, last, positions) <= n.MemFree
	}
	order := n.bySpeed(m.layer())
	back, okBack := m.layBackwards(n, order, first, last, positions, false)
	front, okFront := m.layForwards(n, order, first, last, positions, false)
	if !okBack && !okFront && loose {
		order = append(slices.DeleteFunc(order, func(i int) bool { return i == Host }), Host)
		back, okBack = m.layBackwards(n, order, first, last, positions, true)
	}
	best, ok := back, okBack
	if okFront && (!ok || m.prefer(n, front, best)) {
		best, ok = front, true
	}
	// Which of two is the faster hangs on how much an output matrix weighs, too.
	if alone := []Part{m.part(Host, first, last, positions)}; ok && m.needs(first, last, positions) <= n.MemFree && m.prefer(n, alone, best) {
		best = alone
	}
	return best, ok
}

// layer is what the weights of a layer have on average.
func (m *Model) layer() int64 { return m.before[len(m.LayerBytes)] / int64(len(m.LayerBytes)) }

// prefer says whether parts are laid better than others: with more layers where
// somebody wants them, else with a faster step.
func (m *Model) prefer(n *Node, parts, than []Part) bool {
	wanted := func(parts []Part) int {
		layers := 0
		for _, p := range parts {
			if n.device(p.Device).First {
				layers += p.Last - p.First + 1
			}
		}
		return layers
	}
	if a, b := wanted(parts), wanted(than); a+b > 0 {
		return a > b
	}
	return m.step(n, parts) < m.step(n, than)
}

func (m *Model) part(device, first, last, positions int) Part {
	return Part{
		Device: device, First: first, Last: last, Bytes: m.weights(first, last),
		KVBytes: int64(last-first+1) * m.KVBytes * int64(positions),
	}
}

// pool is what is free while layers are laid: the memory of a device, and of the
// node where the device has none of its own.
type pool struct {
	n     *Node
	host  int64
	loose bool
}

// room is what a device can take.
func (p *pool) room(device int) int64 {
	switch d := p.n.device(device); {
	case device == Host && p.loose:
		return 1 << 62
	case device == Host:
		return p.host
	case d.Shared:
		return min(d.MemFree, p.host)
	default:
		return d.MemFree
	}
}

// take counts what a device has taken.
func (p *pool) take(device int, bytes int64) {
	if p.n.device(device).Shared {
		p.host -= bytes
	}
}

func (m *Model) layBackwards(n *Node, order []int, first, last, positions int, loose bool) ([]Part, bool) {
	var parts []Part
	free := pool{n, n.MemFree, loose}
	end := last
	for _, d := range order {
		room := free.room(d)
		// How many layers up to end fit: more never need less.
		k := sort.Search(end-first+1, func(k int) bool { return m.needs(end-k, end, positions) > room })
		if k == 0 {
			continue
		}
		parts = append(parts, m.part(d, end-k+1, end, positions))
		free.take(d, m.needs(end-k+1, end, positions))
		if end -= k; end < first {
			slices.Reverse(parts)
			return parts, true
		}
	}
	return nil, false
}

func (m *Model) layForwards(n *Node, order []int, first, last, positions int, loose bool) ([]Part, bool) {
	var parts []Part
	free := pool{n, n.MemFree, loose}
	begin := first
	for _, d := range order {
		room := free.room(d)
		k := sort.Search(last-begin+1, func(k int) bool { return m.needs(begin, begin+k, positions) > room })
		if k == 0 {
			continue
		}
		parts = append(parts, m.part(d, begin, begin+k-1, positions))
		free.take(d, m.needs(begin, begin+k-1, positions))
		if begin += k; begin > last {
			return parts, true
		}
	}
	return nil, false
}

// step is the predicted time of one decode step of a stage's parts.
func (m *Model) step(n *Node, parts []Part) time.Duration {
	t := stageOverhead
	for i, p := range parts {
		if i > 0 {
			t += partOverhead
		}
		t += n.compute(n.device(p.Device), m.read(p.First, p.Last), p.Last-p.First+1)
	}
	return t
}

// prefill is the predicted time of tokens prompt tokens through a stage's parts.
func (m *Model) prefill(n *Node, parts []Part, tokens int) time.Duration {
	t := 0.0
	for _, p := range parts {
		d := n.device(p.Device)
		if d.PrefillOps <= 0 {
			return time.Duration(tokens) * m.step(n, parts)
		}
		t += float64(m.macs(p.First, p.Last)) * float64(tokens) / d.PrefillOps
	}
	if n.Correction > 0 {
		t *= n.Correction
	}
	return seconds(t)
}
