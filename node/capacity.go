package node

import (
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/machine"
	"github.com/weft-mesh/weft/p2p/gossip"
)

// steady keeps figures that wander all the time as they were told last, until
// they have moved by more than a person or a plan would notice: each new record
// is fetched by every other node. What is kept is never above what is.
type steady struct {
	mu        sync.Mutex // guards what follows
	mem, disk int64
	busy      int64 // per cent
	vram      []int64
	gpus      []steadyGPU
	tokens    rate
	positions rate
}

// Figures move in steps of this part of their whole.
const (
	steadyParts = 64
	busyStep    = 10 // per cent
)

// hold gives what to tell of v after kept was told: the multiple of step below v
// once v is under kept or two steps above it.
func hold(kept *int64, v, step int64) int64 {
	step = max(step, 1)
	if v < *kept || v >= *kept+2*step {
		*kept = v - v%step
	}
	return *kept
}

// settle makes facts fit for a record.
func (s *steady) settle(f machine.Info) machine.Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.MemFree = hold(&s.mem, f.MemFree, f.MemTotal/steadyParts)
	f.DiskFree = hold(&s.disk, f.DiskFree, f.DiskTotal/steadyParts)
	f.Busy = float64(hold(&s.busy, int64(math.Round(100*f.Busy)), busyStep)) / 100
	f.GPUs = slices.Clone(f.GPUs)
	for len(s.vram) < len(f.GPUs) {
		s.vram = append(s.vram, 0)
	}
	for i := range f.GPUs {
		g := &f.GPUs[i]
		g.VRAMFree = hold(&s.vram[i], g.VRAMFree, g.VRAMTotal/steadyParts)
	}
	return f
}

// steadyGPU is what was told of a graphics processor.
type steadyGPU struct{ free, room, left, celsius, watts int64 }

// Sensors move in steps.
const (
	celsiusStep = 5
	wattsStep   = 20
)

// settleGPUs makes the figures of graphics processors fit for a record.
func (s *steady) settleGPUs(list []gossip.GPU) []gossip.GPU {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.gpus) < len(list) {
		s.gpus = append(s.gpus, steadyGPU{})
	}
	for i := range list {
		g, kept := &list[i], &s.gpus[i]
		step := int64(g.VRAMTotal / steadyParts)
		g.VRAMFree = uint64(hold(&kept.free, int64(g.VRAMFree), step))
		step = min(step, int64(g.StageBytes/steadyParts))
		g.StageBytes = uint64(hold(&kept.room, int64(g.StageBytes), step))
		g.StageFree = min(g.StageBytes, uint64(hold(&kept.left, int64(g.StageFree), step)))
		g.Celsius = float64(hold(&kept.celsius, int64(g.Celsius), celsiusStep))
		g.Watts = float64(hold(&kept.watts, int64(g.Watts), wattsStep))
	}
	return list
}

// rate turns a total that grows into a rate per second over the time since the
// last look, at least a second ago.
type rate struct {
	at    time.Time
	total float64
	value float64
}

const rateEvery = time.Second

func (r *rate) look(now time.Time, total float64) float64 {
	d := now.Sub(r.at)
	switch {
	case r.at.IsZero():
		r.at, r.total = now, total
	case d >= rateEvery:
		r.value = max(0, total-r.total) / d.Seconds()
		r.at, r.total = now, total
	}
	return r.value
}

// speeds are how fast this node gives tokens as a head and positions as a stage.
func (n *Node) speeds() (tokens, positions float64) {
	rows := uint64(0)
	for _, p := range n.worker.Stats().Plans {
		rows += p.Rows
	}
	n.told.mu.Lock()
	defer n.told.mu.Unlock()
	now := n.now()
	return n.told.tokens.look(now, float64(n.generated.Load())), n.told.positions.look(now, float64(rows))
}

// coarse keeps two digits of a figure, so that a record does not change with
// every breath.
func coarse(v float64) float64 {
	if !(v >= 0.1) {
		return 0
	}
	unit := math.Pow(10, math.Floor(math.Log10(v))-1)
	return math.Round(v/unit) * unit
}

// replies are the replies that this node heads now.
type replies struct {
	mu   sync.Mutex // guards list and what its members hold
	list []*reply
}

type reply struct {
	of     *replies
	model  string
	prompt int
	begin  time.Time
	first  time.Time // of the first token
	last   time.Time
	tokens int
	queued bool // it waits for room
}

func (r *replies) begin(model string, prompt int, now time.Time) *reply {
	one := &reply{of: r, model: model, prompt: prompt, begin: now}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, one)
	return one
}

// add notes committed tokens.
func (one *reply) add(tokens int, now time.Time) {
	one.of.mu.Lock()
	defer one.of.mu.Unlock()
	if one.tokens == 0 {
		one.first = now
	}
	one.queued = false
	one.tokens += tokens
	one.last = now
}

// wait notes that the nodes have no room for the reply yet.
func (one *reply) wait() {
	one.of.mu.Lock()
	defer one.of.mu.Unlock()
	one.queued = true
}

func (one *reply) end() {
	one.of.mu.Lock()
	defer one.of.mu.Unlock()
	one.of.list = slices.DeleteFunc(one.of.list, func(o *reply) bool { return o == one })
}

// queued counts the replies that wait for room.
func (r *replies) queued() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, one := range r.list {
		if one.queued {
			n++
		}
	}
	return n
}

// state lists the replies, the oldest first.
func (r *replies) state(now time.Time) []api.ReplyState {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []api.ReplyState
	for _, one := range r.list {
		s := api.ReplyState{Model: one.model, PromptTokens: one.prompt, Tokens: one.tokens, Queued: one.queued, Age: now.Sub(one.begin)}
		if d := one.last.Sub(one.first).Seconds(); one.tokens > 1 && d > 0 {
			s.TokensPerS = float64(one.tokens-1) / d
		}
		if one.tokens > 0 {
			s.Silent = now.Sub(one.last)
		}
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(a, b api.ReplyState) int {
		if a.Age != b.Age {
			return int(min(1, max(-1, b.Age-a.Age)))
		}
		return strings.Compare(a.Model, b.Model)
	})
	return out
}

// traffic measures how fast weights come from each peer while any are asked
// for: what the link can do at least.
type traffic struct {
	now     func() time.Time
	observe func(peer string, bytesPerSecond float64)

	mu sync.Mutex // guards by and what it holds
	by map[string]*flow
}

// flow is what came from one peer since the last sample.
type flow struct {
	asked int // requests under way
	since time.Time
	span  time.Duration // in which requests were under way
	bytes int64
}

// A sample is at least this long and large, so that it is neither a buffer's
// content nor a round trip's time.
const (
	sampleTime  = 300 * time.Millisecond
	sampleBytes = 4 << 20
)

// begin notes a request to a peer; the function that it returns notes how many
// bytes came.
func (t *traffic) begin(peer string) func(bytes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by == nil {
		t.by = map[string]*flow{}
	}
	f := t.by[peer]
	if f == nil {
		f = &flow{}
		t.by[peer] = f
	}
	if f.asked == 0 {
		f.since = t.now()
	}
	f.asked++
	return func(bytes int) {
		if rate := t.end(peer, f, bytes); rate > 0 {
			t.observe(peer, rate)
		}
	}
}

func (t *traffic) end(peer string, f *flow, bytes int) float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	f.asked--
	f.span += now.Sub(f.since)
	f.since = now
	f.bytes += int64(bytes)
	if bytes <= 0 { // a failure's wait is no transfer
		f.span, f.bytes = 0, 0
	}
	rate := 0.0
	if f.span >= sampleTime && f.bytes >= sampleBytes {
		rate = float64(f.bytes) / f.span.Seconds()
		f.span, f.bytes = 0, 0
	}
	if f.asked == 0 && f.bytes == 0 {
		delete(t.by, peer)
	}
	return rate
}
