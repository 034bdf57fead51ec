// Package scheduler decides which node computes which layers. It is pure: a
// snapshot of the mesh and a model's shape go in, a plan comes out, the same
// one on every node whatever the order of the records. It has no clock, socket
// or goroutine and knows nothing of weft's other rooms.
//
// Start reading at Make. The objective is the expected time per token (TPOT) of
// one session: the sum of all stages and hops, and, as far as drafts are
// accepted, the slowest stage instead. Among plans within Slack of the best one
// over the same nodes, the one with the fastest slowest stage wins, because it
// bounds prefill and many sessions at once. One node that can hold the model is
// the plan unless a split is clearly faster. Few nodes are tried in every order
// and cut (grid.go); among many a beam search looks for good ones (search.go).
package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Costs that the measured speeds do not hold.
const (
	// Slack is how much TPOT may be given up for balance.
	Slack = 1.05
	// Gain is how much faster than the best single node a split has to be: more
	// nodes are more that can fail.
	Gain = 1.05
	// hopOverhead is the software cost of one hop (reference: 35 to 60 µs).
	hopOverhead = 60 * time.Microsecond
	// stageOverhead is the cost of one step beside its weights.
	stageOverhead = 50 * time.Microsecond
	// exactNodes is the number of nodes up to which every order is tried.
	exactNodes = 5
	// maxUnits bounds the layer boundaries that are tried.
	maxUnits = 128
	// promptTokens is the prompt for which TTFT is predicted.
	promptTokens = 128
	// kvTokens is the length of a session whose keys and values a step reads.
	kvTokens = 256
	// tokenBytes is the size of a message with a token.
	tokenBytes = 64
)

// What a step reads where a node's DecodeBps is measured, and where its FarBps is.
const (
	NearBytes = 47_185_920
	FarBytes  = 5 * NearBytes
)

// Node is one machine of a snapshot.
type Node struct {
	ID         string
	Name       string
	MemFree    int64         // bytes that weights, KV and activations may still take; 0 or less: holds nothing
	DecodeBps  float64       // measured: weight bytes per second at width 1, when a step reads NearBytes
	FarBps     float64       // the same when it reads FarBytes, of which caches hold less; 0: not known
	Layer      time.Duration // measured: what a layer of a decode step takes beside reading its weights; 0: not known
	PrefillOps float64       // measured: multiply-adds per second at prefill widths
	Held       int64         // bytes of this model's tensors on its disk
	Excluded   string        // why it may not be used, or ""
	Sessions   int           // replies that it is computing
	// Correction is how long its steps take over what its speed promises, as
	// others measured it; 0: not known.
	Correction float64
	// Devices compute beside the processor, whose memory and speed stand above.
	Devices []Device
}

// speed is how many bytes a second one more session's steps get on the node's
// processor.
func (n *Node) speed() float64 { return n.share(n.DecodeBps) }

// share is what one more session's steps get of a rate.
func (n *Node) share(bps float64) float64 {
	v := bps / float64(1+n.Sessions)
	if n.Correction > 0 {
		v /= n.Correction
	}
	return v
}

// reading is the node with the rate at which it reads the model for DecodeBps. The
// whole model counts, also for a part of it: that a part fits a cache which the
// whole does not is no reason to split, as nodes may share a machine, and what else
// runs there wants its cache too.
func (n Node) reading(m *Model) Node {
	n.DecodeBps = n.rate(m.read(0, len(m.LayerBytes)-1))
	n.FarBps = 0
	return n
}

// rate is how many bytes a second the processor reads when a step reads so many:
// what a byte takes lies on a line between the two sizes that are measured.
func (n *Node) rate(read int64) float64 {
	if n.FarBps <= 0 || n.FarBps >= n.DecodeBps || read <= NearBytes {
		return n.DecodeBps
	}
	far := min(1, float64(read-NearBytes)/(FarBytes-NearBytes))
	return 1 / (1/n.DecodeBps + far*(1/n.FarBps-1/n.DecodeBps))
}

// compute is the predicted time of so many layers on a device of the node that
// read so many bytes in a decode step.
func (n *Node) compute(d Device, read int64, layers int) time.Duration {
	return seconds(float64(read)/n.share(d.DecodeBps) + float64(layers)*d.Layer.Seconds()/n.share(1))
}

// seconds are at most four months, whatever nodes say of themselves: sums of them
// do not overflow.
func seconds(s float64) time.Duration { return time.Duration(min(s, 1e7) * float64(time.Second)) }

// Link is what is known of the way between two nodes.
type Link struct {
	RTT       time.Duration
	Bandwidth float64 // bytes per second; 0: unknown
}

// Model is a model's shape.
type Model struct {
	Name       string
	LayerBytes []int64 // packed weights of each layer
	LayerMacs  []int64 // multiply-adds of each layer for one token
	// Of a model with experts a token reads a part of each layer's weights: LayerReads
	// says how much, LayerMore how much a second token of the same step reads beside.
	// Nil: a token reads all.
	LayerReads, LayerMore []int64
	EmbedBytes            int64 // of the embedding
	HeadBytes             int64 // of the final norm and output matrix; with Tied without the embedding
	Tied                  bool  // the output matrix is the embedding, held once by a node that needs both
	KVBytes               int64 // of one position in one layer
	StepBytes             int64 // activation memory of a stage, whatever its layers
	HiddenBytes           int64 // of one position between stages
	Context               int   // positions that one session may use

	before []int64 // weights before each layer, set by Make
	idle   []int64 // of those, what a token does not read
	more   []int64 // what a second token reads beside, before each layer
}

// Snapshot is what a planner knows at one moment.
type Snapshot struct {
	Head  string // the node that was asked
	Nodes []Node
	Links map[[2]string]Link // by ordered pair of ids, the smaller first
	// Stages, when over 0, is the exact number of stages wanted.
	Stages int
	// Acceptance is the measured share of drafted tokens that are accepted while
	// drafts run ahead, 0 to 1. The more there are, the more the slowest stage
	// alone counts.
	Acceptance float64
}

// Stage is one node's range of layers, Last included.
type Stage struct {
	Node        string
	Name        string
	First, Last int
	Bytes       int64 // weights
	KVBytes     int64 // of KVPositions
	KVPositions int
	Step        time.Duration // predicted, one token
	Hop         time.Duration // predicted, into this stage
	Parts       []Part        // which of the layers lie where, on a node with devices
}

// Plan is an ordered list of stages that covers every layer once.
type Plan struct {
	Stages []Stage
	TPOT   time.Duration // predicted time per token
	TTFT   time.Duration // predicted, for a prompt of 128 tokens
	Back   time.Duration // predicted hop from the last stage to the head
	Row    time.Duration // predicted: how much longer a step takes for each reply beside one
	Why    []string      // in words, a reason each
}

// link is the link between two nodes; a node has no way to itself.
func (s *Snapshot) link(a, b string) Link {
	if a == b {
		return Link{}
	}
	if a > b {
		a, b = b, a
	}
	if l, ok := s.Links[[2]string{a, b}]; ok {
		return l
	}
	// Not measured yet: no longer than by way of the head, else a slow LAN.
	x, fromA := s.Links[ordered(a, s.Head)]
	y, fromB := s.Links[ordered(b, s.Head)]
	if fromA && fromB {
		return Link{RTT: x.RTT + y.RTT}
	}
	return Link{RTT: 2 * time.Millisecond}
}

func ordered(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

// hop is the one-way time for size bytes from a to b.
func (s *Snapshot) hop(a, b string, size int64) time.Duration {
	if a == b {
		return 0
	}
	l := s.link(a, b)
	d := hopOverhead + l.RTT/2
	if l.Bandwidth > 0 {
		d += time.Duration(float64(size) / l.Bandwidth * float64(time.Second))
	}
	return d
}

// weights are the bytes that a node holds for layers first to last.
func (m *Model) weights(first, last int) int64 {
	n := m.before[last+1] - m.before[first]
	begins, ends := first == 0, last == len(m.LayerBytes)-1
	if begins || ends && m.Tied {
		n += m.EmbedBytes
	}
	if ends {
		n += m.HeadBytes
	}
	return n
}

// read are the bytes that one decode step of the layers reads.
func (m *Model) read(first, last int) int64 {
	n := m.weights(first, last)
	if first == 0 && !(m.Tied && last == len(m.LayerBytes)-1) {
		n -= m.EmbedBytes // one row of it is read
	}
	return n - (m.idle[last+1] - m.idle[first]) + int64(last-first+1)*m.KVBytes*int64(min(kvTokens, m.Context))
}

// need is the memory of layers first to last with KV for one session.
func (m *Model) need(first, last int) int64 {
	layers := int64(last - first + 1)
	return m.weights(first, last) + m.StepBytes + layers*m.KVBytes*int64(m.Context)
}

// macs are the multiply-adds of layers first to last for one token.
func (m *Model) macs(first, last int) int64 {
	var macs int64
	for _, v := range m.LayerMacs[first : last+1] {
		macs += v
	}
	return macs
}

// row is what one more position costs a step of a stage's parts that reads the
// weights already, but for the experts that this position alone takes.
func (m *Model) row(n *Node, parts []Part) time.Duration {
	t := m.prefill(n, parts, 1)
	for _, p := range parts {
		t += seconds(float64(m.more[p.Last+1]-m.more[p.First]) / n.share(n.device(p.Device).DecodeBps))
	}
	return min(t, m.step(n, parts))
}

// check refuses shapes and snapshots that make no sense, and sums the layers up.
func check(s *Snapshot, m *Model) error {
	switch {
	case len(m.LayerBytes) == 0 || len(m.LayerMacs) != len(m.LayerBytes):
		return fmt.Errorf("plan %s: the model has %d layer sizes and %d layer costs", m.Name, len(m.LayerBytes), len(m.LayerMacs))
	case !(s.Acceptance >= 0 && s.Acceptance <= 1):
		return fmt.Errorf("plan %s: an acceptance rate of %v", m.Name, s.Acceptance)
	case m.Context <= 0 || m.KVBytes < 0 || m.EmbedBytes < 0 || m.HeadBytes < 0:
		return fmt.Errorf("plan %s: negative sizes or no context", m.Name)
	}
	if err := m.sum(); err != nil {
		return err
	}
	for i := range s.Nodes {
		if s.Nodes[i].ID == "" {
			return fmt.Errorf("plan %s: a node without an id", m.Name)
		}
	}
	return nil
}

// sum adds the layers up.
func (m *Model) sum() error {
	m.before = make([]int64, 1, len(m.LayerBytes)+1)
	for i, b := range m.LayerBytes {
		if b <= 0 {
			return fmt.Errorf("plan %s: layer %d has %d bytes", m.Name, i, b)
		}
		m.before = append(m.before, m.before[i]+b)
	}
	return m.sumReads()
}

// sumReads adds up what tokens read of the layers.
func (m *Model) sumReads() error {
	layers := len(m.LayerBytes)
	m.idle, m.more = make([]int64, layers+1), make([]int64, layers+1)
	if m.LayerReads == nil {
		return nil
	}
	if len(m.LayerReads) != layers || len(m.LayerMore) != layers {
		return fmt.Errorf("plan %s: %d and %d sizes of what tokens read of %d layers", m.Name, len(m.LayerReads), len(m.LayerMore), layers)
	}
	for i, b := range m.LayerBytes {
		read, more := m.LayerReads[i], m.LayerMore[i]
		if read <= 0 || more < 0 || read > b-more {
			return fmt.Errorf("plan %s: of the %d bytes of layer %d a token reads %d, a second one %d more", m.Name, b, i, read, more)
		}
		m.idle[i+1], m.more[i+1] = m.idle[i]+b-read, m.more[i]+more
	}
	return nil
}

// usable gives the nodes that may take layers, fastest first, ties by id, and
// why each other one may not.
func usable(s *Snapshot, m *Model) (nodes []Node, out []string) {
	smallest := slices.Min(m.LayerBytes)
	for _, n := range s.Nodes {
		switch {
		case n.Excluded != "":
			out = append(out, fmt.Sprintf("%s is not used: %s", n.Name, n.Excluded))
		case n.MemFree <= 0:
			out = append(out, fmt.Sprintf("%s is not used: it offers no memory", n.Name))
		case n.DecodeBps <= 0:
			out = append(out, fmt.Sprintf("%s is not used: its speed is not measured yet", n.Name))
		case n.roomiest() < smallest+m.StepBytes+m.KVBytes*int64(m.Context):
			out = append(out, fmt.Sprintf("%s is not used: %s free do not hold one layer", n.Name, Size(n.roomiest())))
		default:
			nodes = append(nodes, n.reading(m))
		}
	}
	slices.SortFunc(nodes, func(a, b Node) int {
		return cmp.Or(cmp.Compare(b.pace(m), a.pace(m)), cmp.Compare(a.ID, b.ID))
	})
	slices.Sort(out)
	return nodes, out
}

// Size writes bytes for people.
func Size(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e9:
		return fmt.Sprintf("%.2f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.0f MB", float64(n)/1e6)
	default:
		return fmt.Sprintf("%.0f kB", float64(n)/1e3)
	}
}
