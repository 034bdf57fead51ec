package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/weft-mesh/weft/p2p/host"
	"github.com/weft-mesh/weft/p2p/internal/feed"
)

// Timing are the intervals of gossip. The zero value of a field means its
// default, which suits a local network; for round trips near 100 ms use
// WideTiming.
type Timing struct {
	Probe        time.Duration // between liveness probes; 300 ms
	ProbeTimeout time.Duration // 150 ms
	Gossip       time.Duration // between rounds of gossip; 100 ms
	PushPull     time.Duration // between full exchanges; 15 s
	Rejoin       time.Duration // between attempts to reach missing peers; 2 s
	Record       time.Duration // least time between two records; 500 ms
	Links        time.Duration // between looks at the links; 10 s
	Renew        time.Duration // longest between two records, also of a node that rests; 1 min
}

// WideTiming suits links with round trips up to a few hundred milliseconds.
func WideTiming() Timing {
	return Timing{Probe: time.Second, ProbeTimeout: 500 * time.Millisecond}
}

func (t *Timing) fill() {
	for _, f := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&t.Probe, 300 * time.Millisecond},
		{&t.ProbeTimeout, 150 * time.Millisecond},
		{&t.Gossip, 100 * time.Millisecond},
		{&t.PushPull, 15 * time.Second},
		{&t.Rejoin, 2 * time.Second},
		{&t.Record, 500 * time.Millisecond},
		{&t.Links, 10 * time.Second},
		{&t.Renew, time.Minute},
	} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
}

// Config makes a Gossip.
type Config struct {
	Host   *host.Host
	Timing Timing
	// NoBandwidth leaves out the bandwidth probe after joining.
	NoBandwidth bool
	// Logger may be nil.
	Logger *slog.Logger
	// Now is the clock of the stamps on records; nil means time.Now.
	Now func() time.Time
}

// Gossip is this node's part in the mesh's picture of itself. All methods
// are safe for use by several goroutines.
type Gossip struct {
	cfg  Config
	host *host.Host
	log  *slog.Logger
	list *memberlist.Memberlist
	net  *transport

	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	slots   chan struct{} // one for each outgoing piece of work
	reaches chan struct{} // one for each attempt at a missing peer: it may take seconds
	hearsay chan struct{} // one for each attempt at a node that was never met
	doors   chan struct{} // one for each search for a listening port
	probing chan struct{} // one bandwidth probe of ours at a time
	served  chan struct{} // one bandwidth probe of others at a time
	dirty   chan struct{} // the own record has changed
	notices *feed.Feed[notice]
	events  *feed.Feed[Event]
	serving *serveLimits

	mu       sync.Mutex // guards all below
	contacts map[peer.ID]*contact
	own      Record // as set; Peer, Role, Links and Stamp are not in it
	current  Record // as published
	encoded  []byte // current
	meta     meta
	unsaid   bool // meta has changed since memberlist was told
	told     told
	// published is when the own record last got a version, by the monotonic clock.
	published time.Time
}

const (
	maxContacts = 1024
	maxAtOnce   = 16 // outgoing connections, fetches and pings
	leaveTime   = time.Second

	// What a member says about nodes that were never met may fill only a part
	// of the table and of the attempts: it may be invented.
	maxHearsay       = 256
	maxHearsayAtOnce = 8
)

// EventKind says what happened to a member.
type EventKind uint8

// Kinds of events.
const (
	Join   EventKind = iota + 1 // a member has come; its record follows by Update
	Leave                       // a member has left or died
	Update                      // a member's record has changed
)

// Event is a change in the picture.
type Event struct {
	Kind   EventKind
	Member Member
}

// Member is another node that is alive as far as gossip knows.
type Member struct {
	ID    peer.ID
	Addrs []ma.Multiaddr
	// Record is nil until it was fetched. It is shared: read only.
	Record *Record
	// RTT is a moving average, 0 when not measured yet; BytesPerSecond
	// arrived from the peer when the link was probed, 0 when it was not.
	RTT            time.Duration
	BytesPerSecond uint64
	Since          time.Time
	Freshness
}

// New starts gossip on a host whose node belongs to a mesh. It finds nobody
// by itself: members come in when they connect to the host or by Reach.
func New(cfg Config) (*Gossip, error) {
	cfg.Timing.fill()
	if cfg.Host == nil {
		return nil, errors.New("start gossip: a host is needed")
	}
	if _, err := cfg.Host.Self(); err != nil {
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	g := &Gossip{
		cfg: cfg, host: cfg.Host, log: cfg.Logger,
		slots: make(chan struct{}, maxAtOnce), reaches: make(chan struct{}, maxAtOnce), hearsay: make(chan struct{}, maxHearsayAtOnce), doors: make(chan struct{}, maxDoorsAtOnce), probing: make(chan struct{}, 1), served: make(chan struct{}, 1), dirty: make(chan struct{}, 1),
		notices: feed.New[notice](), events: feed.New[Event](), serving: newServeLimits(),
		contacts: make(map[peer.ID]*contact),
		meta:     meta{addrs: cfg.Host.DialAddrs()},
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	notices, _ := g.notices.Watch()
	met, unwatch := g.host.Watch()
	tr := newTransport(g.host)
	g.net = tr
	var err error
	if g.list, err = memberlist.Create(g.listConfig(tr)); err != nil {
		unwatch()
		g.cancel()
		return nil, errors.Join(fmt.Errorf("start gossip: %w", err), tr.Shutdown())
	}
	g.serve()
	g.host.SetRelays(g.relays)
	g.wg.Go(func() { defer unwatch(); g.run(notices, met) })
	g.wg.Go(g.publishLoop)
	for _, m := range g.host.Members() {
		g.met(m.ID)
	}
	return g, nil
}

func (g *Gossip) listConfig(tr *transport) *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = g.host.ID().String()
	c.Transport = tr
	c.ProbeInterval, c.ProbeTimeout = g.cfg.Timing.Probe, g.cfg.Timing.ProbeTimeout
	c.SuspicionMult = 3
	c.GossipInterval, c.PushPullInterval = g.cfg.Timing.Gossip, g.cfg.Timing.PushPull
	c.TCPTimeout = 3 * time.Second
	c.EnableCompression = false
	c.RequireNodeNames = true
	c.LogOutput = logWriter{g.log}
	d := (*delegate)(g)
	c.Delegate, c.Alive, c.Events, c.Ping = d, d, d, d
	return c
}

// Close tells the others that this node leaves, and stops. It waits for all
// goroutines but memberlist's last probes, which end by themselves within a
// second.
func (g *Gossip) Close() error {
	g.unserve() // nobody shall find us alive once we say goodbye
	err := g.list.Leave(leaveTime)
	if err != nil {
		err = fmt.Errorf("leave: %w", err)
	}
	return errors.Join(err, g.halt())
}

// halt stops without a word.
func (g *Gossip) halt() error {
	g.unserve()
	g.cancel()
	err := g.list.Shutdown()
	g.wg.Wait()
	g.notices.Close()
	g.events.Close()
	return err
}

// Watch returns a channel of the events from now on, in order, none lost, and
// a function that ends it. The reader must keep up.
func (g *Gossip) Watch() (<-chan Event, func()) { return g.events.Watch() }

// Traffic is what this node has sent as gossip since it began.
type Traffic struct {
	SentBytes int64 // of packets; full exchanges, records and headers are not in it
	Dropped   int64 // packets that were not sent: a peer is gone, or a stream is full
}

// Traffic counts since New.
func (g *Gossip) Traffic() Traffic {
	return Traffic{SentBytes: g.net.sent.Load(), Dropped: g.net.dropped.Load()}
}

// Members returns the other nodes that are alive, ordered by peer id.
func (g *Gossip) Members() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []Member
	for _, c := range g.contacts {
		if c.listed {
			out = append(out, c.member())
		}
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out
}

// Member returns one node that is alive.
func (g *Gossip) Member(id peer.ID) (Member, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.contacts[id]; c != nil && c.listed {
		return c.member(), true
	}
	return Member{}, false
}

// Self returns this node's own record as others have it or will have it.
func (g *Gossip) Self() Record {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.compose()
}

// SetRecord replaces this node's record. Peer, Role, Links and Stamp are
// filled in here. The record and its slices must not change afterwards. It
// does not block: the others learn of it within about Timing.Record plus a
// few rounds of gossip.
func (g *Gossip) SetRecord(r Record) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.own
	g.own = r
	next := g.compose()
	if _, err := EncodeRecord(&next); err != nil {
		g.own = before
		return fmt.Errorf("set record: %w", err)
	}
	g.markDirty()
	return nil
}

func (g *Gossip) markDirty() {
	select {
	case g.dirty <- struct{}{}:
	default:
	}
}

// compose returns the own record with what gossip knows. Callers hold mu.
func (g *Gossip) compose() Record {
	r := g.own
	r.Peer, r.Links = g.host.ID(), g.links()
	if self, err := g.host.Self(); err == nil {
		r.Role = self.Role.String()
	}
	r.Stamp = g.current.Stamp
	return r
}

// publishLoop makes changes of the own record and addresses known, each twice:
// the packets that carry them may be lost, and full exchanges are far apart.
func (g *Gossip) publishLoop() {
	look := time.NewTicker(g.cfg.Timing.Links)
	defer look.Stop()
	var repeat <-chan time.Time
	for {
		due := false
		select {
		case <-g.ctx.Done():
			return
		case <-g.dirty:
		case <-look.C:
		case <-repeat:
			due, repeat = true, nil
		}
		g.refresh()
		news := g.say()
		if news || due {
			// Waits until the news is out or the time is over; it is out
			// later then.
			_ = g.list.UpdateNode(g.cfg.Timing.Record)
		}
		if news {
			repeat = time.After(2 * g.cfg.Timing.Record)
		}
		select {
		case <-g.ctx.Done():
			return
		case <-time.After(g.cfg.Timing.Record):
		}
	}
}

// say reports whether there is something to announce, which counts as
// announced from here on.
func (g *Gossip) say() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	unsaid := g.unsaid
	g.unsaid = false
	return unsaid
}

// refresh brings metadata and encoded record up to date.
func (g *Gossip) refresh() {
	addrs := g.host.DialAddrs()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.EqualFunc(addrs, g.meta.addrs, func(a, b ma.Multiaddr) bool { return a.Equal(b) }) {
		g.meta.addrs, g.unsaid = addrs, true
	}
	r := g.compose()
	b, err := EncodeRecord(&r)
	if err != nil {
		g.log.Error("own record not published", "error", err)
		return
	}
	if g.meta.version != 0 && bytes.Equal(b, g.encoded) && time.Since(g.published) < g.cfg.Timing.Renew {
		return
	}
	g.published = time.Now()
	r.Stamp = g.cfg.Now()
	if b, err = EncodeRecord(&r); err != nil {
		return
	}
	// Time makes the version grow across restarts.
	g.meta.version = max(g.meta.version+1, uint64(r.Stamp.UnixMilli()))
	g.meta.digest = digestOf(b)
	r.Stamp = time.UnixMilli(r.Stamp.UnixMilli())
	g.current, g.encoded, g.unsaid = r, b, true
}
