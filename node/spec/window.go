package spec

import "math"

// MaxRuns is how many runs of one reply are in flight at most.
const MaxRuns = 32

// micros are the widths that runs of a pipeline may have.
var micros = [...]int{1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, MaxWidth}

// Window is how far a reply runs ahead.
type Window struct {
	Width int // positions of a run at most, the last committed token's included; 1: no drafts
	Runs  int // runs in flight at most; 1: each answer is awaited
}

// off is a window without drafts.
var off = Window{Width: 1, Runs: 1}

// clearGain is how much better than plain decoding a window must be expected to
// be: below, the doubts of the estimates are larger than the gain.
const clearGain = 1.01

// firstWidth is how wide a run may be before wide ones were measured; from then
// on it may be twice as wide as any was.
const firstWidth = 4

// offer is what a source proposes, or would when it is given time.
type offer struct {
	likely []float64 // of each token, if those before it are right
	cost   float64   // seconds that a token takes to draft
	ready  int       // tokens that are drafted already
	room   int       // tokens that the reply may still get
}

// wait is how long the head waits for k tokens of the offer.
func (o offer) wait(k int) float64 { return o.cost * float64(max(0, k-o.ready)) }

// chosen is a window and the time per token that is expected of it, in seconds.
type chosen struct {
	Window
	time float64
}

// settled is how much better one run at a time must be expected to be before a
// pipe is let run dry for it, which costs most of a latency.
const settled = 1.05

// choose gives the window with the least expected time per token.
//
// others is how many other replies share the stages: a row of a draft then
// delays them too, so what counts is the tokens of all. With enough of them the
// stages are busy anyway and the window is off. running says that runs are in
// flight.
func choose(v *view, o offer, others int, mode Mode, running bool) chosen {
	plain := chosen{off, v.latency(1+others) / float64(1+others)}
	if mode == ModeOff || len(o.likely) == 0 {
		return plain
	}
	limit := min(MaxWidth, max(firstWidth, 2*v.compute.widest()))
	best := bestSingle(v, o, others, limit)
	if mode == ModeAsync || mode == ModeAuto && others == 0 {
		p := bestPipe(v, o, limit)
		if running && p.time < settled*best.time || p.time < best.time {
			best = p
		}
	}
	if mode == ModeAuto && best.time >= plain.time/clearGain {
		return plain
	}
	return best
}

// bestSingle is the best window of one run at a time.
//
// A run of k drafted tokens commits 1 + likely[0] + likely[0]·likely[1] + …
// tokens in one latency of its width (section 7 of the design: with the same
// likelihood a for each, (1−a^(k+1))/(1−a)).
func bestSingle(v *view, o offer, others, limit int) chosen {
	best := chosen{time: math.Inf(1)}
	reach, gain := 1.0, 1.0
	for k := 1; k <= len(o.likely) && k+1 <= limit; k++ {
		reach *= o.likely[k-1]
		gain += reach
		if t := (v.latency(k+1+others) + o.wait(k)) / (gain + float64(others)); t < best.time {
			best = chosen{Window{Width: k + 1, Runs: 1}, t}
		}
	}
	return best
}

// bestPipe is the best window of several runs in flight.
func bestPipe(v *view, o offer, limit int) chosen {
	best := chosen{time: math.Inf(1)}
	h := horizonOf(o)
	for _, m := range micros {
		if m > limit {
			break
		}
		short, full := depths(v, m)
		runs, t := short, piped(v, o, h, m, short)
		if more := piped(v, o, h, m, full); more < t/clearDepth {
			runs, t = full, more
		}
		if t < best.time {
			best = chosen{Window{Width: m, Runs: runs}, t}
		}
	}
	return best
}

// piped is the expected time per token of a pipeline of so many runs in flight,
// each of m positions.
//
// It commits until a mismatch or the reply's end, and then its first answer comes
// a latency after the next run was sent. Of the runs behind the first those count
// whose tokens before them and whose first token are right. So where each token
// is right with likelihood a, a token takes (1−a)·(L(m) + a^m/(1−a^m)·t(m)),
// where t is the slowest stage's time, or the draft's where that takes longer; for
// many runs between mismatches that is section 7's bound.
func piped(v *view, o offer, h horizon, m, runs int) float64 {
	latency, step := v.latency(m), v.slowest.at(m)
	apart := max(step, latency/float64(runs), o.cost*float64(m)) // from one answer to the next
	return (latency + o.cost*float64(m-1) + v.late(m, runs) + h.each(m)*apart) / (1 + h.each(1))
}

// horizon is how far a draft reaches, which goes on as it ends until the reply
// does.
type horizon struct {
	reach []float64 // likelihood that the first i+1 tokens are right
	last  float64   // likelihood of each token behind them
	room  int
}

func horizonOf(o offer) horizon {
	h := horizon{last: min(o.likely[len(o.likely)-1], surest), room: max(o.room, len(o.likely))}
	reach := 1.0
	for _, p := range o.likely {
		reach *= p
		h.reach = append(h.reach, reach)
	}
	return h
}

// each is how many of the tokens m, 2m, 3m and on are expected to be right with
// all before them.
func (h horizon) each(m int) float64 {
	n, k := 0.0, m
	for ; k <= len(h.reach); k += m {
		n += h.reach[k-1]
	}
	if k > h.room {
		return n
	}
	known := len(h.reach)
	first := h.reach[known-1] * math.Pow(h.last, float64(k-known))
	more := float64(1 + (h.room-k)/m)
	every := math.Pow(h.last, float64(m))
	return n + first*(1-math.Pow(every, more))/(1-every)
}

// late is how long the run after a mismatch waits for the first stage: with more
// in flight than fit the pipe, it is in the midst of one that is not wanted any
// more, which ends within a step. Those behind it are dropped. The last stage
// knows of a mismatch at once, so where it is the only one nothing is late.
func (v *view) late(m, runs int) float64 {
	step, all := v.slowest.at(m), v.compute.at(m)
	if all < 1.05*step {
		return 0
	}
	return min(step, max(0, float64(runs)*step-all-v.hops))
}

// clearDepth is how much better a pipe must be expected to be with one more run
// than just fits: that run makes every mismatch dearer.
const clearDepth = 1.03

// depths are how many runs may be in flight: those that just do not fill the pipe,
// and those that do.
func depths(v *view, m int) (short, full int) {
	step := v.slowest.at(m)
	if step <= 0 {
		return 2, 2
	}
	n := v.latency(m) / step
	return max(2, min(int(n), MaxRuns)), max(2, min(int(math.Ceil(n)), MaxRuns))
}

// leastReach is the likelihood of being wanted below which a run is not sent: it
// would keep machines busy for nothing.
const leastReach = 0.02

// worthwhile says whether a run of m positions should be sent now behind others
// when its tokens count with the likelihood reach that all before them are
// right. If it counts, it saves about a latency; if not, it makes the run after
// the mismatch late.
func worthwhile(v *view, reach float64, m, runs int) bool {
	return reach >= leastReach && reach*v.latency(m) > (1-reach)*v.late(m, runs+1)
}
