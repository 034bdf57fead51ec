package gossip

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"golang.org/x/time/rate"
)

const (
	recordProtocol protocol.ID = "/weft/record/1"

	recordTimeout = 5 * time.Second
	recordHeader  = 12 // version 8, length 4
	// A member that asks for records more often than this is held off.
	recordRate  = 20
	recordBurst = 40
)

// serveLimits keeps one member from occupying another.
type serveLimits struct {
	mu sync.Mutex // guards by
	by map[peer.ID]*peerLimits
}

type peerLimits struct{ record, ping, probe *rate.Limiter }

func newServeLimits() *serveLimits { return &serveLimits{by: make(map[peer.ID]*peerLimits)} }

// of returns the limits of a member. Only members get here, so the map is
// bounded by their number; forgetting it is harmless.
func (l *serveLimits) of(id peer.ID) *peerLimits {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.by[id]
	if p == nil {
		if len(l.by) >= maxContacts {
			clear(l.by)
		}
		p = &peerLimits{
			record: rate.NewLimiter(recordRate, recordBurst),
			ping:   rate.NewLimiter(pingRate, pingBurst),
			probe:  rate.NewLimiter(probeRate, probeBurst),
		}
		l.by[id] = p
	}
	return p
}

func (g *Gossip) serve() {
	g.host.Handle(recordProtocol, g.serveRecord)
	g.host.Handle(pingProtocol, g.servePing)
	g.host.Handle(probeProtocol, g.serveProbe)
}

func (g *Gossip) unserve() {
	g.host.RemoveHandler(recordProtocol)
	g.host.RemoveHandler(pingProtocol)
	g.host.RemoveHandler(probeProtocol)
}

// serveRecord sends the own record as it is now, which may be newer than what
// was announced: version, length, content. The request is the opening of the
// stream.
func (g *Gossip) serveRecord(s network.Stream) {
	if !g.serving.of(s.Conn().RemotePeer()).record.Allow() {
		_ = s.Reset()
		return
	}
	g.refresh()
	g.mu.Lock()
	b := binary.BigEndian.AppendUint64(make([]byte, 0, recordHeader+len(g.encoded)), g.meta.version)
	b = binary.BigEndian.AppendUint32(b, uint32(len(g.encoded)))
	b = append(b, g.encoded...)
	g.mu.Unlock()
	_ = s.SetDeadline(time.Now().Add(recordTimeout))
	if _, err := s.Write(b); err != nil {
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

// fetch gets a member's record when its announced version is not the one we
// have, unless that is under way. What fails is tried again by retry.
func (g *Gossip) fetch(id peer.ID) {
	g.mu.Lock()
	c := g.contacts[id]
	if c == nil || !c.listed || c.fetching || c.meta.version == c.version {
		g.mu.Unlock()
		return
	}
	c.fetching = true
	g.mu.Unlock()
	g.work(func(ctx context.Context) {
		version, b, r, err := g.ask(ctx, id)
		g.take(id, version, b, r, err)
	})
}

// Refresh asks every connected member for its record instead of waiting for
// news of it, and blocks until all have answered or failed, or ctx ends. It is
// for a node that has just come and is asked about the mesh at once.
func (g *Gossip) Refresh(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, m := range g.host.Members() {
		wg.Go(func() {
			version, b, r, err := g.ask(ctx, m.ID)
			g.mu.Lock()
			c := g.contacts[m.ID]
			// Its news may have come by itself meanwhile.
			old := c == nil || c.version >= version
			g.mu.Unlock()
			if err != nil || !old {
				g.take(m.ID, version, b, r, err)
			}
		})
	}
}

// take stores a fetched record.
func (g *Gossip) take(id peer.ID, version uint64, b []byte, r *Record, err error) {
	host, connected := g.host.Member(id)
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.contacts[id]
	if c == nil {
		return
	}
	c.fetching = false
	switch {
	case err != nil:
	case r.Peer != id:
		err = fmt.Errorf("%w: it describes %s", ErrRecord, r.Peer)
	case version < c.meta.version:
		err = fmt.Errorf("%w: version %d is older than the announced %d", ErrRecord, version, c.meta.version)
	case version == c.meta.version && digestOf(b) != c.meta.digest:
		err = fmt.Errorf("%w: it is not the one that was announced", ErrRecord)
	}
	if err != nil {
		if g.ctx.Err() == nil {
			g.log.Debug("record not fetched", "peer", id.String(), "error", err)
		}
		return
	}
	// The role is what the certificate says, not what the node says.
	r.Role = ""
	if connected {
		r.Role = host.Role.String()
	}
	c.record, c.version = r, version
	c.fresh.Received = time.Now()
	// A newer one than was announced counts as announced: the news is on
	// its way and must not make us fetch again.
	if version > c.meta.version {
		c.meta.version, c.meta.digest = version, digestOf(b)
	}
	c.fresh.announced(c.meta.version != c.version, time.Now())
	if c.listed {
		g.events.Emit(Event{Update, c.member()})
	}
}

// ask gets a member's record: its version, encoded and decoded.
func (g *Gossip) ask(ctx context.Context, id peer.ID) (version uint64, b []byte, r *Record, err error) {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	s, err := g.host.OpenStream(ctx, id, recordProtocol)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = s.Reset() }()
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	if version, b, err = readRecord(s); err == nil {
		r, err = DecodeRecord(b)
	}
	return version, b, r, err
}

// readRecord reads version, length and content, at most MaxRecord bytes.
func readRecord(r io.Reader) (version uint64, record []byte, err error) {
	var head [recordHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, fmt.Errorf("read record: %w", err)
	}
	n := binary.BigEndian.Uint32(head[8:])
	if n > MaxRecord {
		return 0, nil, fmt.Errorf("%w: %d bytes are more than %d", ErrRecord, n, MaxRecord)
	}
	record = make([]byte, n)
	if _, err := io.ReadFull(r, record); err != nil {
		return 0, nil, fmt.Errorf("read record: %w", err)
	}
	return binary.BigEndian.Uint64(head[:]), record, nil
}

func digestOf(b []byte) (d [digestSize]byte) {
	h := sha256.Sum256(b)
	copy(d[:], h[:])
	return d
}
