package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/p2p/host"
)

// Config makes a Discovery.
type Config struct {
	Host *host.Host
	// Dir is the node's home, where the cache lives.
	Dir string
	// Mesh names the mDNS service, so that only its members find each other.
	Mesh admission.ID
	// Static are addresses that end in a peer id; they are tried for ever.
	Static []ma.Multiaddr
	// Secrets hands the mesh's secret on; nil leaves it out.
	Secrets Secrets
	// Outside is a DHT to find members of other networks at, which takes
	// Secrets; nil for none.
	Outside *Outside
	// NoMDNS leaves out mDNS.
	NoMDNS bool
	// Round is the time between looks at what is due; 1 s.
	Round time.Duration
	// Logger may be nil.
	Logger *slog.Logger
}

const (
	maxCandidates  = 1024
	maxAtOnce      = 8
	connectTimeout = 10 * time.Second
	firstPause     = time.Second
	longestPause   = time.Minute
	// A node that refused us, or is of another mesh, is asked rarely.
	refusedPause = 5 * time.Minute
	saveEvery    = 30 * time.Second
	forgetTries  = 20 // of a candidate that mDNS alone named
)

// Discovery runs until Close. Its methods are safe for use by several
// goroutines.
type Discovery struct {
	cfg    Config
	host   *host.Host
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	slots  chan struct{}

	mu         sync.Mutex // guards candidates and sightings
	candidates map[peer.ID]*candidate
	sightings  map[peer.ID]sighting
}

// candidate is a peer that might be a member.
type candidate struct {
	info   peer.AddrInfo
	keep   bool // from the user or the cache
	busy   bool
	tries  int
	next   time.Time
	failed error
}

// Run starts discovery. Nothing it does later is an error to the caller: a
// network without mDNS or a damaged cache is logged.
func Run(cfg Config) (*Discovery, error) {
	if cfg.Host == nil || cfg.Mesh.IsZero() {
		return nil, errors.New("start discovery: a host and a mesh are needed")
	}
	static, err := peer.AddrInfosFromP2pAddrs(cfg.Static...)
	if err != nil {
		return nil, fmt.Errorf("start discovery: a static address must end in /p2p/PEER: %w", err)
	}
	if cfg.Outside != nil {
		if cfg.Secrets == nil || cfg.Outside.Key == nil || len(cfg.Outside.Bootstrap) == 0 {
			return nil, errors.New("start discovery: a DHT takes bootstrap nodes, the node's key and the mesh's secret")
		}
		if cfg.Outside.Every <= 0 {
			cfg.Outside.Every = time.Hour
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Round <= 0 {
		cfg.Round = time.Second
	}
	d := &Discovery{
		cfg: cfg, host: cfg.Host, log: cfg.Logger, slots: make(chan struct{}, maxAtOnce),
		candidates: make(map[peer.ID]*candidate), sightings: make(map[peer.ID]sighting),
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	cached, err := loadCache(cfg.Dir, time.Now())
	if err != nil {
		d.log.Warn("peer cache ignored", "error", err)
	}
	for _, s := range cached {
		d.sightings[s.info.ID] = s
		d.add(s.info, true)
	}
	for _, info := range static {
		d.add(info, true)
	}
	d.wg.Go(d.loop)
	if cfg.Secrets != nil {
		d.host.Handle(secretProtocol, d.serveSecret)
		d.wg.Go(d.learn)
	}
	if cfg.Outside != nil {
		d.wg.Go(d.visits)
	}
	if !cfg.NoMDNS {
		d.wg.Go(d.announce)
	}
	return d, nil
}

// Add names a peer that is to be tried for ever.
func (d *Discovery) Add(info peer.AddrInfo) { d.add(info, true) }

// Failures says why candidates could not be connected, by peer. It holds
// those that are not connected now.
func (d *Discovery) Failures() map[peer.ID]error {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make(map[peer.ID]error)
	for id, c := range d.candidates {
		if c.failed != nil {
			out[id] = c.failed
		}
	}
	return out
}

// Forget removes the cache and the static addresses from disk and memory; for
// leaving a mesh.
func (d *Discovery) Forget() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.sightings)
	clear(d.candidates)
	return errors.Join(storeCache(d.cfg.Dir, nil), KeepStatic(d.cfg.Dir, nil))
}

// Close ends discovery, waits for its goroutines and saves the cache.
func (d *Discovery) Close() error {
	if d.cfg.Secrets != nil {
		d.host.RemoveHandler(secretProtocol)
	}
	d.cancel()
	d.wg.Wait()
	return d.save()
}

func (d *Discovery) add(info peer.AddrInfo, keep bool) {
	if info.ID == d.host.ID() || len(info.Addrs) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.candidates[info.ID]
	if c == nil {
		if len(d.candidates) >= maxCandidates {
			return
		}
		c = &candidate{info: peer.AddrInfo{ID: info.ID}}
		d.candidates[info.ID] = c
	}
	c.keep = c.keep || keep
	for _, a := range info.Addrs {
		if !slices.ContainsFunc(c.info.Addrs, a.Equal) {
			// The newest first; the oldest go.
			c.info.Addrs = slices.Insert(c.info.Addrs, 0, a)
		}
	}
	c.info.Addrs = c.info.Addrs[:min(len(c.info.Addrs), maxPeerAddrs)]
}

func (d *Discovery) loop() {
	round := time.NewTicker(d.cfg.Round)
	defer round.Stop()
	save := time.NewTicker(saveEvery)
	defer save.Stop()
	for {
		d.look()
		select {
		case <-d.ctx.Done():
			return
		case <-round.C:
		case <-save.C:
			if err := d.save(); err != nil {
				d.log.Warn("peer cache not saved", "error", err)
			}
		}
	}
}

// look notes who is connected and tries the candidates that are due.
func (d *Discovery) look() {
	now := time.Now()
	members := d.host.Members()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range members {
		// What leads through others is not the member's own.
		addrs := slices.DeleteFunc(d.host.KnownAddrs(m.ID), func(a ma.Multiaddr) bool { return !isDirect(a) })
		if len(addrs) > 0 {
			d.sightings[m.ID] = sighting{peer.AddrInfo{ID: m.ID, Addrs: addrs}, now}
		}
		if c := d.candidates[m.ID]; c != nil {
			c.tries, c.failed, c.next = 0, nil, now.Add(firstPause)
		}
	}
	for id, c := range d.candidates {
		if c.busy || now.Before(c.next) {
			continue
		}
		if !c.keep && c.tries > forgetTries {
			delete(d.candidates, id) // mDNS will name it again if it is there
			continue
		}
		c.busy = true
		info := peer.AddrInfo{ID: id, Addrs: slices.Clone(c.info.Addrs)}
		d.wg.Go(func() { d.try(c, info) })
	}
}

func (d *Discovery) try(c *candidate, info peer.AddrInfo) {
	var err error
	select {
	case d.slots <- struct{}{}:
		ctx, cancel := context.WithTimeout(d.ctx, connectTimeout)
		err = d.host.Connect(ctx, info)
		cancel()
		<-d.slots
	case <-d.ctx.Done():
		err = d.ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c.busy = false
	c.failed = err
	var pause time.Duration
	switch {
	case err == nil:
		c.tries, pause = 0, firstPause
	case errors.Is(err, host.ErrRefused), errors.Is(err, host.ErrStranger):
		c.tries++
		pause = refusedPause
		if d.ctx.Err() == nil {
			d.log.Info("candidate is no member", "peer", info.ID.String(), "error", err)
		}
	default:
		c.tries++
		pause = min(firstPause<<min(c.tries-1, 10), longestPause)
		d.log.Debug("candidate not reached", "peer", info.ID.String(), "tries", c.tries, "error", err)
	}
	c.next = time.Now().Add(pause/2 + rand.N(pause/2))
}

func (d *Discovery) save() error {
	d.mu.Lock()
	all := make([]sighting, 0, len(d.sightings))
	for _, s := range d.sightings {
		all = append(all, s)
	}
	d.mu.Unlock()
	return storeCache(d.cfg.Dir, all)
}
