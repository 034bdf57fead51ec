package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	libhost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Two members that cannot reach each other are connected through a third that
// reaches both (libp2p's circuit relay). Every member is a relay for members;
// none is for strangers. A relay sees who talks to whom and how much, not what:
// the ends encrypt as on any connection. Members that got together like this go
// on trying to reach each other without help, at once by punching (QUIC from
// and to the listening ports, or what routers make of them, both at the same
// time) and by a plain attempt every upgradeEvery.

const (
	// Each node holds a place at that many members, so that others can reach it
	// through them: all of a small mesh.
	maxPlaces      = 16
	placeLife      = 30 * time.Minute
	placeTimeout   = 5 * time.Second
	placesEvery    = 2 * time.Second
	upgradeEvery   = 10 * time.Second
	upgradeTimeout = 5 * time.Second

	maxRelayed     = 256 // places given to others
	maxCircuits    = 64  // of one member at once
	relayBuffer    = 32 << 10
	relaysPerVia   = 8
	maxUpgradesNow = 4
)

// relayed says that an address leads through another node.
func relayed(a ma.Multiaddr) bool {
	_, err := a.ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}

// relayOf returns the node that an address leads through.
func relayOf(a ma.Multiaddr) (peer.ID, bool) {
	text, err := a.ValueForProtocol(ma.P_P2P)
	if err != nil || !relayed(a) {
		return "", false
	}
	id, err := peer.Decode(text)
	return id, err == nil
}

// membersOnly is the host as libp2p's relay asks it: whom to serve.
type membersOnly Host

func (m *membersOnly) AllowReserve(p peer.ID, a ma.Multiaddr) bool {
	_, ok := (*Host)(m).Member(p)
	return ok && !relayed(a)
}

func (m *membersOnly) AllowConnect(src peer.ID, _ ma.Multiaddr, dest peer.ID) bool {
	_, from := (*Host)(m).Member(src)
	_, to := (*Host)(m).Member(dest)
	return from && to
}

// relaying is what a host needs to serve and use relays.
type relaying struct {
	relay *relay.Relay
	punch *holepunch.Service
}

func (h *Host) startRelaying(lib libhost.Host) (*relaying, error) {
	r, err := relay.New(lib, relay.WithACL((*membersOnly)(h)), relay.WithInfiniteLimits(),
		relay.WithResources(relay.Resources{
			ReservationTTL: 2 * placeLife, MaxReservations: maxRelayed, MaxCircuits: maxCircuits, BufferSize: relayBuffer,
			MaxReservationsPerIP: maxRelayed, MaxReservationsPerASN: maxRelayed,
		}))
	if err != nil {
		return nil, fmt.Errorf("start relay: %w", err)
	}
	ids, ok := lib.(interface{ IDService() identify.IDService })
	if !ok {
		return nil, errors.Join(errors.New("start relay: libp2p's host has no identify service"), r.Close())
	}
	punch, err := holepunch.NewService(lib, ids.IDService(), h.outerAddrs)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start hole punching: %w", err), r.Close())
	}
	return &relaying{r, punch}, nil
}

func (r *relaying) close() error {
	if r == nil {
		return nil
	}
	return errors.Join(r.punch.Close(), r.relay.Close())
}

// outerAddrs are the addresses at which another machine may reach this one.
func (h *Host) outerAddrs() []ma.Multiaddr {
	addrs := slices.DeleteFunc(h.DialAddrs(), manet.IsIPLoopback)
	if seen := h.outside.get(time.Now()); seen != nil && !slices.ContainsFunc(addrs, seen.Equal) {
		addrs = append(addrs, seen)
	}
	return addrs
}

// ConnectVia is Connect, and where a member is not reached directly within a
// moment, it is tried through others at the same time: members that may reach
// it, best first, of which up to eight are asked.
func (h *Host) ConnectVia(ctx context.Context, to peer.AddrInfo, relays []peer.ID) error {
	to.Addrs = slices.Clone(to.Addrs)
	asked := 0
	for _, r := range relays {
		if _, ok := h.Member(r); !ok || r == to.ID || asked == relaysPerVia {
			continue
		}
		a, err := ma.NewMultiaddr("/p2p/" + r.String() + "/p2p-circuit")
		if err != nil {
			return err
		}
		to.Addrs = append(to.Addrs, a)
		asked++
	}
	return h.Connect(ctx, to)
}

// SetRelays names the members that may reach a peer, best first, for streams to
// one that is not connected. Without it none is tried.
func (h *Host) SetRelays(to func(peer.ID) []peer.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.relays = to
}

func (h *Host) relaysTo(id peer.ID) []peer.ID {
	h.mu.Lock()
	to := h.relays
	h.mu.Unlock()
	if to == nil {
		return nil
	}
	return to(id)
}

// Relayed says whether the connection that a stream to the member takes leads
// through another.
func (h *Host) Relayed(id peer.ID) bool {
	conns := h.lib.Network().ConnsToPeer(id)
	return len(conns) > 0 && relayed(best(conns).RemoteMultiaddr())
}

// broughtIn says whether a member has come through a relay, in which case this
// side leads the punching.
func (h *Host) broughtIn(id peer.ID) bool {
	conns := h.lib.Network().ConnsToPeer(id)
	return len(conns) > 0 && !slices.ContainsFunc(conns, func(c network.Conn) bool {
		return !relayed(c.RemoteMultiaddr()) || c.Stat().Direction != network.DirInbound
	})
}

// relayLoop holds places at other members and tries to do without relays.
func (h *Host) relayLoop() {
	tick := time.NewTicker(placesEvery)
	defer tick.Stop()
	held := places{at: map[peer.ID]place{}}
	tried := map[peer.ID]time.Time{}
	slots := make(chan struct{}, maxUpgradesNow)
	for {
		select {
		case <-h.ctx.Done():
			return
		case now := <-tick.C:
			h.keepPlaces(&held, now)
			h.upgrade(tried, slots, now)
		}
	}
}

// place is one that a member gives, or is asked for.
type place struct {
	since time.Time // when the member connected: it forgets the place when that ends
	due   time.Time // when to ask again
}

type places struct {
	mu sync.Mutex // guards at
	at map[peer.ID]place
}

// due returns the members to ask at now, of those that are here since the times
// given, and counts them as asked: others are not asked in their stead.
func (p *places) due(here map[peer.ID]time.Time, now time.Time) []peer.ID {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, at := range p.at {
		if since, ok := here[id]; !ok || !since.Equal(at.since) {
			delete(p.at, id)
		}
	}
	var out []peer.ID
	for id, since := range here {
		at, held := p.at[id]
		if held && now.Before(at.due) || !held && len(p.at) >= maxPlaces {
			continue
		}
		p.at[id] = place{since, now.Add(placeLife)}
		out = append(out, id)
	}
	return out
}

// refused notes that a member that was asked gives none for now.
func (p *places) refused(id peer.ID, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at, ok := p.at[id]; ok {
		at.due = now.Add(upgradeEvery)
		p.at[id] = at
	}
}

// keepPlaces asks members for places until there are enough. It does not wait for
// their answers: one that hangs must not keep the others.
func (h *Host) keepPlaces(held *places, now time.Time) {
	for _, id := range held.due(h.direct(), now) {
		h.wg.Go(func() {
			ctx, cancel := context.WithTimeout(h.ctx, placeTimeout)
			defer cancel()
			if _, err := client.Reserve(ctx, h.lib, peer.AddrInfo{ID: id}); err != nil {
				held.refused(id, now)
				h.log.Debug("no place at a relay", "peer", id.String(), "error", err)
			}
		})
	}
}

// direct returns since when the members are connected that no relay leads to.
func (h *Host) direct() map[peer.ID]time.Time {
	here := map[peer.ID]time.Time{}
	h.mu.Lock()
	for id, st := range h.peers {
		if st.member != nil {
			here[id] = st.since
		}
	}
	h.mu.Unlock()
	maps.DeleteFunc(here, func(id peer.ID, _ time.Time) bool { return h.Relayed(id) })
	return here
}

// upgrade tries to reach relayed members directly.
func (h *Host) upgrade(tried map[peer.ID]time.Time, slots chan struct{}, now time.Time) {
	for id, at := range tried {
		if now.Sub(at) > upgradeEvery {
			delete(tried, id)
		}
	}
	for _, m := range h.Members() {
		if _, ok := tried[m.ID]; ok || !h.Relayed(m.ID) {
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			return
		}
		tried[m.ID] = now
		h.wg.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(network.WithForceDirectDial(h.ctx, "relayed"), upgradeTimeout)
			defer cancel()
			h.lookOutside(ctx) // the other side may punch and ask
			err := h.Dial(ctx, peer.AddrInfo{ID: m.ID})
			if err != nil && h.broughtIn(m.ID) {
				err = h.relaying.punch.DirectConnect(m.ID)
			}
			h.log.Debug("direct connection to a relayed member", "peer", m.ID.String(), "error", err)
		})
	}
}
