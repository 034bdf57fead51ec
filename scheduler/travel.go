package scheduler

import "time"

// Weights that travel for a copy.

const (
	// travelShare is the part of a link that weights get while replies cross it.
	travelShare = 0.5
	// unmeasured is taken for a link whose bandwidth nobody knows: a slow LAN.
	unmeasured = 12.5e6
	// wantRest is how long a load counts as lasting without a reply that suffers.
	wantRest = time.Minute
)

// Travel predicts how long the weights of a plan take to come to those of its
// nodes that lack them, one after the other, each from the holder with the best
// link at the pace that running replies leave. It is 0 when all are there; false
// means that some have no way to come.
func Travel(s Snapshot, p Plan, holds func(node string) bool) (time.Duration, bool) {
	var all float64
	for _, st := range p.Stages {
		if holds(st.Node) {
			continue
		}
		best := 0.0
		for _, n := range s.Nodes {
			if n.ID == st.Node || !holds(n.ID) {
				continue
			}
			rate := s.link(n.ID, st.Node).Bandwidth
			if rate <= 0 {
				rate = unmeasured
			}
			best = max(best, rate)
		}
		if best == 0 {
			return 0, false
		}
		all += float64(st.Bytes) / (travelShare * best)
	}
	return seconds(all), true
}

// Want is how much replies have lost for want of a copy whose weights would have
// to travel, while a load lasts. The zero value is no load.
type Want struct {
	lost time.Duration
	last time.Time
}

// Add counts so many replies that a copy would have had done that much sooner each.
// A load that was not heard of for a minute is over, and a new one begins.
func (w *Want) Add(sooner time.Duration, replies int, now time.Time) {
	if now.Sub(w.last) > wantRest {
		w.lost = 0
	}
	w.lost, w.last = w.lost+max(0, sooner)*time.Duration(max(0, replies)), now
}

// Pays says whether the weights should travel: when replies have lost as much as
// the way takes. Nobody knows how long a load will last; so nothing is begun for a
// short one, and whatever follows, replies and the way together cost at most twice
// what they would have cost somebody who had known.
func (w *Want) Pays(travel time.Duration) bool { return w.lost > 0 && w.lost >= travel }

// Sooner is how much sooner the next reply would be done over a copy that is yet
// to be made; 0 where that does not pay.
func Sooner(list []Copy, made Copy, r Reply) time.Duration {
	if !Pays(list, made, r) {
		return 0
	}
	return quickest(list, r) - made.Takes(r)
}
