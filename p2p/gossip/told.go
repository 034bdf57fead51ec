package gossip

import (
	"cmp"
	"slices"
	"time"
)

// told are the links as the others know them. Each change makes a new record,
// which every member fetches, so in a mesh of n nodes it costs n messages of
// each: what changes often must not be told often. A link that comes or goes,
// or is measured for the first time, is told within a few seconds, a round trip
// that has clearly changed within half a minute, and noise when the record is
// renewed anyway.
type told struct {
	links []Link
	at    time.Time
}

const (
	// A round trip has clearly changed when it is this many times another, by at
	// least this much: on a busy machine a fresh one is easily late by
	// milliseconds.
	clearFactor = 2
	clearChange = 3 * time.Millisecond
	// steadyTime is the least between two records that tell changed round trips.
	steadyTime = 30 * time.Second
)

// update takes the links as measured now and returns those to tell. every is
// the least time between two changes of any kind, renew the time after which
// all are told as they are.
func (t *told) update(now time.Time, links []Link, every, renew time.Duration) []Link {
	age := now.Sub(t.at)
	switch {
	case t.at.IsZero(), age >= renew,
		age >= every && changedLinks(t.links, links),
		age >= steadyTime && changedTimes(t.links, links):
		t.links, t.at = links, now
	}
	return t.links
}

// changedLinks says whether a link has come, gone, or been measured.
func changedLinks(old, now []Link) bool {
	return !slices.EqualFunc(old, now, func(a, b Link) bool {
		return a.Peer == b.Peer && (a.BytesPerSecond == 0) == (b.BytesPerSecond == 0)
	})
}

// changedTimes says whether a round trip of the same links has clearly changed.
func changedTimes(old, now []Link) bool {
	return !slices.EqualFunc(old, now, func(a, b Link) bool {
		least, most := min(a.RTT, b.RTT), max(a.RTT, b.RTT)
		return most < clearFactor*least || most-least < clearChange
	})
}

// links returns the links to members as they are told. Callers hold mu.
func (g *Gossip) links() []Link {
	var out []Link
	for id, c := range g.contacts {
		if c.listed && c.rtt > 0 {
			out = append(out, Link{Peer: id, RTT: c.rtt, BytesPerSecond: c.bandwidth})
		}
	}
	slices.SortFunc(out, func(a, b Link) int { return cmp.Compare(a.Peer, b.Peer) })
	// Measuring many links takes minutes, in which each node would tell of each:
	// the more there are, the more are told at once.
	rarer := max(linksEvery, 2*len(out))
	return g.told.update(time.Now(), out, time.Duration(rarer)*g.cfg.Timing.Record, g.cfg.Timing.Renew)
}

// linksEvery is how many times rarer links are told than other changes, at the
// least.
const linksEvery = 10
