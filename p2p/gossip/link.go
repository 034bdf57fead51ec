package gossip

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

const (
	pingProtocol  protocol.ID = "/weft/ping/1"
	probeProtocol protocol.ID = "/weft/probe/1"

	pingSize    = 8
	pingCount   = 3  // of one measurement; the least counts
	maxPings    = 16 // on one stream
	pingTimeout = 3 * time.Second
	pingRate    = 5 // streams a second from one member
	pingBurst   = 20

	// A probe sends until one of these is reached, so that it cannot hold up
	// a reply for long.
	probeBytes   = 4 << 20
	probeTime    = 200 * time.Millisecond
	probeTimeout = 3 * time.Second
	probeChunk   = 64 << 10
	probeRate    = 0.1
	probeBurst   = 3
	probeWait    = time.Second     // of a caller while another is probing
	probePause   = 2 * time.Second // after a first failure; then it doubles
	probeSlowest = time.Minute     // longest pause
)

var (
	errEcho  = errors.New("the answer to a ping is wrong")
	errProbe = errors.New("the bandwidth probe brought too little")
)

// Ping measures the round trip to a member on an existing or new connection:
// the least of three.
func (g *Gossip) Ping(ctx context.Context, to peer.ID) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	s, err := g.host.OpenStream(ctx, to, pingProtocol)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	var least time.Duration
	for i := range pingCount {
		var out, in [pingSize]byte
		_, _ = rand.Read(out[:]) // never fails; see crypto/rand
		start := time.Now()
		if _, err := s.Write(out[:]); err != nil {
			return 0, fmt.Errorf("ping %s: %w", to, err)
		}
		if _, err := io.ReadFull(s, in[:]); err != nil {
			return 0, fmt.Errorf("ping %s: %w", to, err)
		}
		rtt := time.Since(start)
		if !bytes.Equal(in[:], out[:]) {
			return 0, fmt.Errorf("ping %s: %w", to, errEcho)
		}
		if i == 0 || rtt < least {
			least = rtt
		}
	}
	return least, nil
}

func (g *Gossip) servePing(s network.Stream) {
	defer s.Close()
	if !g.serving.of(s.Conn().RemotePeer()).ping.Allow() {
		_ = s.Reset()
		return
	}
	stop := context.AfterFunc(g.ctx, func() { _ = s.Reset() })
	defer stop()
	_ = s.SetDeadline(time.Now().Add(pingTimeout))
	var b [pingSize]byte
	for range maxPings {
		if _, err := io.ReadFull(s, b[:]); err != nil {
			return
		}
		if _, err := s.Write(b[:]); err != nil {
			return
		}
	}
}

// serveProbe sends as many bytes as were asked for, within the bounds. One
// probe is served at a time: two would measure each other.
func (g *Gossip) serveProbe(s network.Stream) {
	if !g.serving.of(s.Conn().RemotePeer()).probe.Allow() {
		_ = s.Reset()
		return
	}
	select {
	case g.served <- struct{}{}:
		defer func() { <-g.served }()
	case <-time.After(probeWait):
		_ = s.Reset()
		return
	case <-g.ctx.Done():
		_ = s.Reset()
		return
	}
	stop := context.AfterFunc(g.ctx, func() { _ = s.Reset() })
	defer stop()
	_ = s.SetDeadline(time.Now().Add(probeTimeout))
	var want [4]byte
	if _, err := io.ReadFull(s, want[:]); err != nil {
		_ = s.Reset()
		return
	}
	left := min(int(binary.BigEndian.Uint32(want[:])), probeBytes)
	chunk := make([]byte, probeChunk)
	_, _ = rand.Read(chunk) // a link that compresses must not look faster
	for end := time.Now().Add(probeTime); left > 0 && time.Now().Before(end); {
		n, err := s.Write(chunk[:min(left, len(chunk))])
		if err != nil {
			_ = s.Reset()
			return
		}
		left -= n
	}
	_ = s.Close()
}

// probe measures how many bytes a second arrive from a member.
func (g *Gossip) probe(ctx context.Context, from peer.ID) (uint64, error) {
	select {
	case g.probing <- struct{}{}:
		defer func() { <-g.probing }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	s, err := g.host.OpenStream(ctx, from, probeProtocol)
	if err != nil {
		return 0, err
	}
	defer func() { _ = s.Reset() }()
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	if _, err := s.Write(binary.BigEndian.AppendUint32(nil, probeBytes)); err != nil {
		return 0, err
	}
	return arrivalRate(s, time.Now)
}

// arrivalRate reads to the end and returns bytes a second over the later
// three quarters, when the transport has found its pace.
func arrivalRate(r io.Reader, now func() time.Time) (uint64, error) {
	type mark struct {
		at    time.Time
		total int
	}
	marks := []mark{{at: now()}}
	buf := make([]byte, probeChunk)
	total := 0
	for total < 2*probeBytes {
		n, err := r.Read(buf)
		if n > 0 {
			total += n
			marks = append(marks, mark{now(), total})
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	last := marks[len(marks)-1]
	from, _ := slices.BinarySearchFunc(marks, last.total/4, func(m mark, n int) int { return cmp.Compare(m.total, n) })
	span := last.at.Sub(marks[from].at)
	if bytes := last.total - marks[from].total; bytes > 0 && span > 0 {
		return uint64(float64(bytes) / span.Seconds()), nil
	}
	return 0, errProbe
}

// unmeasured says that a link lacks a measurement that is due.
func (g *Gossip) unmeasured(c *contact, now time.Time) bool {
	return c.listed && !c.probing && !now.Before(c.nextProbe) && (c.rtt == 0 || c.unprobed() && !g.cfg.NoBandwidth)
}

// measure finds out round trip and bandwidth of a new link; afterwards
// memberlist's own probes keep the round trip fresh.
func (g *Gossip) measure(id peer.ID) {
	g.mu.Lock()
	c := g.contacts[id]
	if c == nil || !g.unmeasured(c, time.Now()) {
		g.mu.Unlock()
		return
	}
	c.probing = true
	wantBandwidth := c.unprobed() && !g.cfg.NoBandwidth
	g.mu.Unlock()
	g.work(func(ctx context.Context) {
		rtt, err := g.Ping(ctx, id)
		var bandwidth uint64
		if err == nil && wantBandwidth {
			bandwidth, err = g.probe(ctx, id)
		}
		if err != nil && g.ctx.Err() == nil {
			g.log.Debug("link not measured", "peer", id.String(), "error", err)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		c.probing = false
		c.nextProbe = time.Now().Add(min(probePause<<min(c.probeTries, 10), probeSlowest))
		c.probeTries++
		if rtt > 0 {
			c.measured(rtt)
		}
		if bandwidth > 0 {
			c.bandwidth, c.slow = bandwidth, 0
		}
		g.markDirty()
	})
}
