package scheduler

import "time"

const (
	// nearly is how much longer than over the quickest copy a reply may take over
	// another one, where that spreads replies: heads that know the same figures
	// must not all choose the same copy.
	nearly = 1.1
	// growGain is how much sooner a reply has to be done over a copy that is yet
	// to be made: it takes memory that other models may want.
	growGain = 1.15
	// growLeast is how much sooner at least: making a copy takes a moment, too.
	growLeast = 50 * time.Millisecond
	// leastRow is what a reply beside another one costs its steps at least, as a
	// part of them: its attention, and drawing its tokens, are its own.
	leastRow = 0.05
)

// Reply is what is known of a reply before it begins.
type Reply struct {
	Prompt    int // tokens that have to be read
	Tokens    int // that it is expected to have
	Positions int // KV that it reserves
}

// Copy is one of the plans of a model that could answer the next reply.
type Copy struct {
	TTFT time.Duration // predicted for a prompt of 128 tokens, alone
	TPOT time.Duration // predicted, alone
	// Row is how much longer a step takes for each reply beside one, which share
	// the reading of the weights.
	Row     time.Duration
	Replies int // that it has now, those of other heads included
	KV      int // positions that it holds for all replies together; 0: not known
}

// CopyOf is a plan as a copy of its model with so many replies.
func CopyOf(p Plan, replies int) Copy {
	c := Copy{TTFT: p.TTFT, TPOT: p.TPOT, Row: p.Row, Replies: replies}
	if len(p.Stages) > 0 {
		c.KV = p.Stages[0].KVPositions
	}
	return c
}

// Takes predicts when a reply is done over the copy: the wait for room, the
// prompt, and its share of every step.
func (c Copy) Takes(r Reply) time.Duration {
	beside, waits := c.Replies, 0.0
	if c.KV > 0 && r.Positions > 0 {
		// Replies like this one: they end one after the other, in the time of one
		// as many as there is room for.
		room := max(1, c.KV/r.Positions)
		if c.Replies >= room {
			beside, waits = room-1, float64(c.Replies-room+1)/float64(room)
		}
	}
	step := float64(c.TPOT) + float64(beside)*max(float64(c.Row), leastRow*float64(c.TPOT))
	alone := float64(c.TTFT)*float64(r.Prompt)/promptTokens + float64(max(r.Tokens, 1))*step
	return time.Duration(alone * (1 + waits))
}

// quickest is the least that a reply takes over any of the copies.
func quickest(list []Copy, r Reply) time.Duration {
	least := list[0].Takes(r)
	for _, c := range list[1:] {
		least = min(least, c.Takes(r))
	}
	return least
}

// Choose gives the copy for the next reply; list is not empty, and its first is
// the plan that stands. While that one has no reply it gets this one, unless
// another copy is clearly quicker: what it has read before is in its prefix
// cache. Else, of the copies that are nearly as quick as the quickest, two are
// drawn, and the one with fewer replies wins: figures are seconds old, and after
// the best of them alone all heads would run together (the power of two
// choices). draw gives a number from 0 to n-1.
func Choose(list []Copy, r Reply, draw func(n int) int) int {
	least := float64(quickest(list, r))
	if list[0].Replies == 0 && float64(list[0].Takes(r)) <= growGain*least {
		return 0
	}
	var near []int
	for i, c := range list {
		if float64(c.Takes(r)) <= nearly*least {
			near = append(near, i)
		}
	}
	if len(near) == 1 {
		return near[0]
	}
	a, b := draw(len(near)), draw(len(near)-1)
	if b >= a {
		b++
	}
	one, other := near[a], near[b]
	x, y := list[one], list[other]
	if y.Replies < x.Replies || y.Replies == x.Replies && y.Takes(r) < x.Takes(r) {
		return other
	}
	return one
}

// Pays says whether a copy that is yet to be made would have the next reply done
// clearly sooner than any of those that there are.
func Pays(list []Copy, made Copy, r Reply) bool {
	takes, least := made.Takes(r), quickest(list, r)
	return float64(takes)*growGain < float64(least) && least-takes >= growLeast
}
