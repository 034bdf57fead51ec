package gossip

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/weft-mesh/weft/p2p/host"
)

const (
	reachTimeout  = 6 * time.Second
	farewellPing  = 1500 * time.Millisecond
	eagerTries    = 30 // at every round; the pause grows after that
	longestPause  = 30 * time.Second
	hearsayTries  = 10 // then a node that was never met is forgotten
	forgetAfter   = 7 * 24 * time.Hour
	peerstoreLife = 10 * time.Minute
	rttWeight     = 4 // a new sample counts a quarter
)

// contact is what this node knows of another. Gossip's mutex guards it.
type contact struct {
	id     peer.ID
	addrs  []ma.Multiaddr
	listed bool // it counts as a member
	alive  bool // memberlist thinks so, which may be some seconds behind
	// departed: it left or died since we last met it in person.
	departed bool
	known    bool // met at least once
	since    time.Time
	lastSeen time.Time
	door     netip.AddrPort // where it was seen to listen

	reaching bool
	tries    int
	next     time.Time // of the next attempt

	meta     meta
	record   *Record
	version  uint64 // of record
	fetching bool
	fresh    Freshness

	rtt        time.Duration
	bandwidth  uint64
	slow       int // how often in a row traffic was far below bandwidth
	probing    bool
	probeTries int
	nextProbe  time.Time
}

// note takes over metadata that gossip believes.
func (c *contact) note(m meta) {
	c.meta = m
	c.fresh.announced(m.version != c.version, time.Now())
	if len(m.addrs) > 0 {
		c.addrs = m.addrs
	}
}

// measured takes a round trip. Load makes one longer, nothing makes one shorter:
// a much shorter one is believed at once, or what was measured while everybody
// joined would wear off for minutes.
func (c *contact) measured(rtt time.Duration) {
	c.fresh.Measured = time.Now()
	if c.rtt == 0 || rtt < c.rtt/2 {
		c.rtt = rtt
		return
	}
	c.rtt += (rtt - c.rtt) / rttWeight
}

func (c *contact) member() Member {
	return Member{ID: c.id, Addrs: c.addrs, Record: c.record, RTT: c.rtt, BytesPerSecond: c.bandwidth, Since: c.since, Freshness: c.fresh}
}

// unmet counts the entries that stand on hearsay. Callers hold mu.
func (g *Gossip) unmet() int {
	n := 0
	for _, c := range g.contacts {
		if !c.known {
			n++
		}
	}
	return n
}

// contact returns the entry of a peer, making one while there is room.
// Callers hold mu.
func (g *Gossip) contact(id peer.ID) *contact {
	c := g.contacts[id]
	if c == nil && len(g.contacts) < maxContacts {
		c = &contact{id: id, lastSeen: time.Now()}
		g.contacts[id] = c
	}
	return c
}

// run handles what memberlist and host report, and retries what is missing.
func (g *Gossip) run(notices <-chan notice, met <-chan host.Event) {
	// Twice in a period, so that an attempt that has just missed the link's
	// return is followed by another within it.
	tick := time.NewTicker(g.cfg.Timing.Rejoin / 2)
	defer tick.Stop()
	for {
		select {
		case <-g.ctx.Done():
			return
		case n := <-notices:
			g.handle(n)
		case e, ok := <-met:
			if !ok {
				met = nil // the host is closed
				continue
			}
			switch e.Kind {
			case host.Connected:
				g.met(e.Member.ID)
			case host.Moved:
				g.markDirty() // the others must learn the new addresses
				g.again(false)
			case host.Woke:
				g.again(true)
			case host.Disconnected:
				g.lost(e.Member.ID) // unless that is plain, memberlist finds out what it means
			}
		case now := <-tick.C:
			g.retry(now)
		}
	}
}

func (g *Gossip) handle(n notice) {
	g.mu.Lock()
	c := g.contacts[n.id]
	if c == nil {
		g.mu.Unlock()
		return
	}
	m := c.member()
	g.mu.Unlock()
	switch n.kind {
	case noticeJoin:
		g.log.Info("member joined", "peer", n.id.String())
		g.events.Emit(Event{Join, m})
		g.fetch(n.id)
		g.measure(n.id)
		g.findDoor(n.id)
	case noticeUpdate:
		g.host.SetAddrs(n.id, m.Addrs, peerstoreLife)
		g.fetch(n.id)
	case noticeLeave:
		g.log.Info("member left", "peer", n.id.String())
		g.events.Emit(Event{Leave, m})
		g.markDirty() // its link is gone
		g.work(func(ctx context.Context) { g.farewell(ctx, n.id) })
	case noticeHearsay:
		g.reachSoon(n.id)
	}
}

// met notes that a member has connected to us or we to it: the only thing
// that makes a departed node a candidate again.
func (g *Gossip) met(id peer.ID) {
	g.mu.Lock()
	c := g.contact(id)
	if c == nil {
		g.mu.Unlock()
		return
	}
	c.departed, c.known, c.lastSeen, c.tries = false, true, time.Now(), 0
	if c.addrs == nil {
		c.addrs = g.host.KnownAddrs(id)
	}
	listed := c.listed
	if !listed && c.alive {
		// It was found gone and is back before memberlist has noticed.
		c.listed, c.since = true, time.Now()
		g.notices.Emit(notice{noticeJoin, id})
	}
	g.mu.Unlock()
	if listed {
		g.findDoor(id) // it may have come another way
		return
	}
	g.reachSoon(id)
}

// farewell closes what is left of the connection to a node that is thought
// lost, unless the node answers on it: then that was wrong. A stale connection
// left open would hold up the rejoining.
func (g *Gossip) farewell(ctx context.Context, id peer.ID) {
	if _, ok := g.host.Member(id); ok {
		ctx, cancel := context.WithTimeout(ctx, farewellPing)
		defer cancel()
		if _, err := g.Ping(ctx, id); err == nil {
			g.met(id)
			return
		}
	}
	if g.ctx.Err() == nil {
		_ = g.host.ClosePeer(id)
	}
}

// again begins anew after a change of this machine: peers that are missing are
// tried at once, and with doubt those that are connected must answer now.
func (g *Gossip) again(doubt bool) {
	g.mu.Lock()
	var check []peer.ID
	for id, c := range g.contacts {
		c.tries, c.next = 0, time.Time{}
		if c.listed {
			check = append(check, id)
		}
	}
	g.mu.Unlock()
	g.retry(time.Now())
	if !doubt {
		return
	}
	for _, id := range check {
		g.work(func(ctx context.Context) { g.farewell(ctx, id) })
	}
}

// retry attends to all that is missing: peers, records, link measurements.
func (g *Gossip) retry(now time.Time) {
	g.mu.Lock()
	var reach, fetch, probe []peer.ID
	for id, c := range g.contacts {
		switch {
		case c.listed:
			c.lastSeen = now
			if c.meta.version != c.version {
				fetch = append(fetch, id)
			}
			if g.unmeasured(c, now) {
				probe = append(probe, id)
			}
		case now.Sub(c.lastSeen) > forgetAfter, !c.known && c.tries > hearsayTries:
			if !c.reaching {
				delete(g.contacts, id)
			}
		case now.After(c.next):
			reach = append(reach, id)
		}
	}
	g.mu.Unlock()
	for _, id := range reach {
		g.reachSoon(id)
	}
	for _, id := range fetch {
		g.fetch(id)
	}
	for _, id := range probe {
		g.measure(id)
	}
}

// reachSoon starts an attempt to meet a peer that is not listed, unless one
// is under way.
func (g *Gossip) reachSoon(id peer.ID) {
	g.mu.Lock()
	c := g.contacts[id]
	if c == nil || c.listed || c.reaching {
		g.mu.Unlock()
		return
	}
	c.reaching = true
	info := peer.AddrInfo{ID: id, Addrs: c.addrs}
	slots := g.reaches
	if !c.known {
		slots = g.hearsay
	}
	g.mu.Unlock()
	g.workIn(slots, func(ctx context.Context) {
		err := g.Reach(ctx, info)
		g.mu.Lock()
		defer g.mu.Unlock()
		c.reaching = false
		c.tries++
		c.next = time.Now().Add(pause(c.tries, g.cfg.Timing.Rejoin))
		if err != nil {
			g.log.Debug("peer not reached", "peer", id.String(), "tries", c.tries, "error", err)
		}
	})
}

// pause is short at first, so that a healed link is used at once, and grows
// for a machine that is switched off.
func pause(tries int, round time.Duration) time.Duration {
	if tries <= eagerTries {
		return round / 2
	}
	return min(longestPause, round<<min(tries-eagerTries, 10))
}

// Reach connects to a member and exchanges all that both know. It blocks
// until that is done or failed, for some seconds at most.
func (g *Gossip) Reach(ctx context.Context, to peer.AddrInfo) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	if err := g.host.ConnectVia(ctx, to, g.relays(to.ID)); err != nil {
		return err
	}
	// The host's own event may come later than this.
	g.mu.Lock()
	if c := g.contact(to.ID); c != nil {
		c.departed, c.known = false, true
	}
	g.mu.Unlock()
	if _, err := g.list.Join([]string{address{to.ID}.joinName()}); err != nil {
		return fmt.Errorf("exchange with %s: %w", to.ID, err)
	}
	return nil
}

// relays returns members that may reach a node, those first that have said so
// lately, nearest first.
func (g *Gossip) relays(to peer.ID) []peer.ID {
	g.mu.Lock()
	defer g.mu.Unlock()
	type relay struct {
		id    peer.ID
		reach bool
		rtt   time.Duration
	}
	var all []relay
	for id, c := range g.contacts {
		if id == to || !c.listed {
			continue
		}
		r := relay{id: id, rtt: c.rtt}
		if c.record != nil {
			r.reach = slices.ContainsFunc(c.record.Links, func(l Link) bool { return l.Peer == to })
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b relay) int {
		if a.reach != b.reach {
			if a.reach {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.rtt, b.rtt), cmp.Compare(a.id, b.id))
	})
	out := make([]peer.ID, 0, len(all))
	for _, r := range all {
		out = append(out, r.id)
	}
	return out
}

// work runs f on a goroutine of its own as soon as a slot is free.
func (g *Gossip) work(f func(context.Context)) { g.workIn(g.slots, f) }

func (g *Gossip) workIn(slots chan struct{}, f func(context.Context)) {
	if g.ctx.Err() != nil {
		return
	}
	g.wg.Go(func() {
		select {
		case slots <- struct{}{}:
		case <-g.ctx.Done():
			return
		}
		defer func() { <-slots }()
		f(g.ctx)
	})
}
