package gossip

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/weft-mesh/weft/p2p/host"
)

const (
	packetProtocol protocol.ID = "/weft/member/packet/1"
	streamProtocol protocol.ID = "/weft/member/stream/1"

	maxPacket     = 1<<16 - 1
	queueLength   = 128             // packets waiting for one peer
	inboxLength   = 256             // packets waiting for memberlist
	openTimeout   = 3 * time.Second // dial, security, protocol choice
	writeTimeout  = 2 * time.Second
	retryAfter    = 500 * time.Millisecond // after a failed open
	idleClose     = 2 * time.Minute        // an unused packet stream goes
	maxStreamLife = 30 * time.Second       // of a push/pull
)

// transport is a memberlist.NodeAwareTransport over a host.
//
// Packets to a peer share one long-lived stream that only the sender writes.
// A full queue or a broken stream loses packets, as UDP would. Push/pull and
// fallback pings use one stream each.
type transport struct {
	host    *host.Host
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	packets chan *memberlist.Packet
	streams chan net.Conn
	dropped atomic.Int64
	sent    atomic.Int64 // bytes of packets

	mu      sync.Mutex // guards closed and senders
	closed  bool
	senders map[peer.ID]*sender
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// newTransport takes over the two protocols on h, which it never closes.
func newTransport(h *host.Host) *transport {
	ctx, cancel := context.WithCancel(context.Background())
	t := &transport{
		host: h, ctx: ctx, cancel: cancel,
		packets: make(chan *memberlist.Packet, inboxLength),
		streams: make(chan net.Conn),
		senders: make(map[peer.ID]*sender),
	}
	h.Handle(packetProtocol, t.receivePackets)
	h.Handle(streamProtocol, t.receiveStream)
	return t
}

func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return address{t.host.ID()}.ip(), memberlistPort, nil
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }
func (t *transport) StreamCh() <-chan net.Conn           { return t.streams }

var errNoName = errors.New("gossip: address without a node name")

func (t *transport) WriteTo([]byte, string) (time.Time, error) { return time.Time{}, errNoName }
func (t *transport) DialTimeout(string, time.Duration) (net.Conn, error) {
	return nil, errNoName
}

// WriteToAddress queues b and never blocks. A packet that cannot be queued is
// lost without an error: memberlist takes an unknown error from a ping to mean
// that nothing was learned about the peer, and would never suspect it.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	now := time.Now()
	id, err := peer.Decode(a.Name)
	if err != nil {
		return now, fmt.Errorf("gossip: node name %q: %w", a.Name, err)
	}
	if len(b) > maxPacket {
		return now, fmt.Errorf("gossip: packet of %d bytes", len(b))
	}
	frame := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(b)), uint16(len(b)))
	if s := t.sender(id); s == nil || !s.offer(append(frame, b...)) {
		t.dropped.Add(1)
	}
	return now, nil
}

// DialAddressTimeout opens a stream of its own to the node.
func (t *transport) DialAddressTimeout(a memberlist.Address, d time.Duration) (net.Conn, error) {
	id, err := peer.Decode(a.Name)
	if err != nil {
		return nil, fmt.Errorf("gossip: node name %q: %w", a.Name, err)
	}
	ctx, cancel := context.WithTimeout(t.ctx, d)
	defer cancel()
	s, err := t.host.OpenStream(ctx, id, streamProtocol)
	if err != nil {
		return nil, err
	}
	_ = s.SetDeadline(time.Now().Add(maxStreamLife))
	return conn{s}, nil
}

// Shutdown ends every packet stream and waits for the senders.
func (t *transport) Shutdown() error {
	t.mu.Lock()
	t.closed = true // no sender may start once we wait
	t.mu.Unlock()
	t.host.RemoveHandler(packetProtocol)
	t.host.RemoveHandler(streamProtocol)
	t.cancel()
	t.wg.Wait()
	return nil
}

func (t *transport) receiveStream(s network.Stream) {
	_ = s.SetDeadline(time.Now().Add(maxStreamLife))
	select {
	case t.streams <- conn{s}:
	case <-t.ctx.Done():
		_ = s.Reset()
	}
}

func (t *transport) receivePackets(s network.Stream) {
	stop := context.AfterFunc(t.ctx, func() { _ = s.Reset() })
	defer stop()
	defer func() { _ = s.Reset() }()
	from := address{s.Conn().RemotePeer()}
	r := bufio.NewReaderSize(s, 4096)
	for {
		b, err := readPacket(r)
		if err != nil {
			return
		}
		select {
		case t.packets <- &memberlist.Packet{Buf: b, From: from, Timestamp: time.Now()}:
		case <-t.ctx.Done():
			return
		default:
			t.dropped.Add(1)
		}
	}
}

// readPacket reads one packet: two bytes of length and at most 64 KiB.
func readPacket(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(head[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	return b, nil
}

// sender returns the running sender for a peer, or nil after Shutdown.
func (t *transport) sender(id peer.ID) *sender {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	s := t.senders[id]
	if s == nil {
		s = &sender{t: t, id: id, queue: make(chan []byte, queueLength)}
		t.senders[id] = s
		t.wg.Go(s.run)
	}
	return s
}

// retire forgets a sender that has been idle, unless a packet came meanwhile.
func (t *transport) retire(s *sender) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(s.queue) > 0 {
		return false
	}
	delete(t.senders, s.id)
	return true
}

// sender owns the packet stream to one peer.
type sender struct {
	t      *transport
	id     peer.ID
	queue  chan []byte
	stream network.Stream
}

func (s *sender) offer(b []byte) bool {
	select {
	case s.queue <- b:
		return true
	default:
		return false
	}
}

func (s *sender) run() {
	defer s.drop()
	idle := time.NewTimer(idleClose)
	defer idle.Stop()
	for {
		select {
		case b := <-s.queue:
			idle.Reset(idleClose)
			s.send(s.gather(b))
		case <-idle.C:
			if s.t.retire(s) {
				return
			}
			idle.Reset(idleClose)
		case <-s.t.ctx.Done():
			return
		}
	}
}

// gather joins what waits to one write.
func (s *sender) gather(b []byte) []byte {
	for len(b) < maxPacket {
		select {
		case next := <-s.queue:
			b = append(b, next...)
		default:
			return b
		}
	}
	return b
}

func (s *sender) send(b []byte) {
	if s.stream != nil && !s.t.host.Preferred(s.stream.Conn()) {
		// The peer has come by another way since; what is under way may arrive.
		_ = s.stream.Close()
		s.stream = nil
	}
	fresh := s.stream == nil
	if s.write(b) || !fresh && s.write(b) { // an old stream may have ended unnoticed
		s.t.sent.Add(int64(len(b)))
		return
	}
	s.t.dropped.Add(1)
}

// write writes to the stream, opening one where there is none.
func (s *sender) write(b []byte) bool {
	if s.stream == nil && !s.open() {
		return false
	}
	_ = s.stream.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := s.stream.Write(b); err != nil {
		s.drop()
		return false
	}
	return true
}

// open opens the stream; after a failure it waits a little and throws away
// what has queued up, which is stale by then.
func (s *sender) open() bool {
	ctx, cancel := context.WithTimeout(s.t.ctx, openTimeout)
	defer cancel()
	stream, err := s.t.host.OpenStream(ctx, s.id, packetProtocol)
	if err == nil {
		s.stream = stream
		return true
	}
	select {
	case <-time.After(retryAfter):
	case <-s.t.ctx.Done():
	}
	for {
		select {
		case <-s.queue:
			s.t.dropped.Add(1)
		default:
			return false
		}
	}
}

func (s *sender) drop() {
	if s.stream != nil {
		_ = s.stream.Reset()
		s.stream = nil
	}
}

// conn makes a net.Conn of a stream. Close stays the stream's Close, which
// lets the other side read to the end: memberlist closes right after its
// last write.
type conn struct{ network.Stream }

func (c conn) LocalAddr() net.Addr  { return address{c.Conn().LocalPeer()} }
func (c conn) RemoteAddr() net.Addr { return address{c.Conn().RemotePeer()} }
