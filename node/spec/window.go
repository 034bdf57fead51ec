package spec

import "math"

// MaxRuns is how many runs of one reply are in flight at most.
const MaxRuns = 32

// maxMicro is how many positions a run of the pipeline has at most: wider ones
// tell of a mismatch later and gain little.
const maxMicro = 16

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

// choose gives the window with the least expected time per token.
//
// likely are the likelihoods of the tokens of a draft, each if those before it
// are right. others is how many other replies share the stages: a row of a
// draft then delays them too, so what counts is the tokens of all. With enough
// of them the stages are busy anyway and the window is off.
//
// A synchronous run of k drafted tokens commits 1 + likely[0] + likely[0]·likely[1]
// + … tokens in one latency of its width (section 7 of the design: with the same
// likelihood a for each, (1−a^(k+1))/(1−a)).
//
// The pipeline of runs of m positions commits until a mismatch, and then its
// first answer comes a latency after the next run was sent: with a as above, a
// token takes (1−a)·(L(m) + a^m/(1−a^m)·t(m)), where t is the slowest stage's
// time, which for many runs between mismatches is section 7's bound.
func choose(v *view, likely []float64, others int, mode Mode) Window {
	if mode == ModeOff || len(likely) == 0 {
		return off
	}
	limit := min(MaxWidth, max(firstWidth, 2*v.compute.widest()))
	n := float64(others)
	base := v.latency(1 + others)
	best, least := off, base/(1+n)
	if mode == ModeAuto {
		least /= clearGain
	}
	if mode != ModeAsync {
		reach, gain := 1.0, 1.0
		for k := 1; k <= len(likely) && k+1 <= limit; k++ {
			reach *= likely[k-1]
			gain += reach
			if t := v.latency(k+1+others) / (gain + n); t < least || best == off && mode == ModeSync {
				best, least = Window{Width: k + 1, Runs: 1}, t
			}
		}
	}
	if mode == ModeSync || others > 0 && mode != ModeAsync {
		return best
	}
	a := chance(likely)
	for m := 1; m <= min(maxMicro, limit); m++ {
		short, full := depths(v, m)
		runs, t := short, piped(v, a, m, short)
		if more := piped(v, a, m, full); more < t/clearDepth {
			runs, t = full, more
		}
		if t < least || best == off && mode == ModeAsync {
			best, least = Window{Width: m, Runs: runs}, t
		}
	}
	return best
}

// piped is the expected time per token of a pipeline of so many runs in flight,
// each of m positions.
func piped(v *view, a float64, m, runs int) float64 {
	latency, step := v.latency(m), v.slowest.at(m)
	am := math.Pow(a, float64(m))
	apart := max(step, latency/float64(runs)) // from one answer to the next
	return (1 - a) * (latency + v.late(m, runs) + am/(1-am)*apart)
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

// chance is the likelihood that, were it the same for every token, would bring
// as many right ones in a row as the draft's are expected to; a draft goes on as
// it ends.
func chance(likely []float64) float64 {
	reach, n := 1.0, 0.0
	for _, p := range likely {
		reach *= p
		n += reach
	}
	last := likely[len(likely)-1]
	n += reach * last / (1 - last)
	return min(n/(1+n), surest)
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
