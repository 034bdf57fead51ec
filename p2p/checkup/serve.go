package checkup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/time/rate"

	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/p2p/host"
	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

const protocolID protocol.ID = "/weft/checkup/1"

// Bounds of what one member may ask of another.
const (
	maxRequests = 16 // on one stream
	maxPorts    = 4
	maxEcho     = 32 << 10
	maxAtOnce   = 4
	perMinute   = 6 // streams of one member
	burst       = 6
	maxPeers    = 1024 // whose rate is remembered

	idleTime = 10 * time.Second
	dialTime = 2 * time.Second
)

// Server answers members.
type Server struct {
	host   *host.Host
	slots  chan struct{}
	cancel context.CancelFunc
	ctx    context.Context
	wg     sync.WaitGroup

	mu sync.Mutex // guards by
	by map[peer.ID]*rate.Limiter
}

// Serve begins to answer the checkups of other members.
func Serve(h *host.Host) *Server {
	s := &Server{host: h, slots: make(chan struct{}, maxAtOnce), by: map[peer.ID]*rate.Limiter{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	h.Handle(protocolID, s.serve)
	return s
}

// Close ends the answering and waits for what runs.
func (s *Server) Close() {
	s.host.RemoveHandler(protocolID)
	s.cancel()
	s.wg.Wait()
}

func (s *Server) allow(id peer.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.by[id]
	if l == nil {
		if len(s.by) >= maxPeers {
			clear(s.by)
		}
		l = rate.NewLimiter(rate.Limit(perMinute)/60, burst)
		s.by[id] = l
	}
	return l.Allow()
}

func (s *Server) serve(stream network.Stream) {
	if s.ctx.Err() != nil || !s.allow(stream.Conn().RemotePeer()) {
		_ = stream.Reset()
		return
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		_ = stream.Reset()
		return
	}
	s.wg.Add(1)
	defer s.wg.Done()
	x := wire.NewExchange(s.ctx, stream, idleTime)
	for range maxRequests {
		var q weftv1.CheckupRequest
		err := x.Receive(&q)
		if errors.Is(err, io.EOF) {
			_ = x.Close()
			return
		}
		if err == nil {
			err = x.Send(s.answer(stream.Conn().RemoteMultiaddr(), &q))
		}
		if err != nil {
			x.Abort()
			return
		}
	}
	_ = x.Close()
}

func (s *Server) answer(from ma.Multiaddr, q *weftv1.CheckupRequest) *weftv1.CheckupReply {
	r := &weftv1.CheckupReply{}
	switch b := q.Body.(type) {
	case *weftv1.CheckupRequest_Clock:
	case *weftv1.CheckupRequest_Dial:
		r.Dialed, r.Error = s.dialBack(from, b.Dial.GetPorts())
	case *weftv1.CheckupRequest_Echo:
		if r.Payload = b.Echo.GetPayload(); len(r.Payload) > maxEcho {
			r.Payload, r.Error = nil, fmt.Sprintf("%d bytes to send back are more than %d", len(r.Payload), maxEcho)
		}
	default:
		r.Error = "this node does not know the question: upgrade it"
	}
	r.TimeUnixUs = time.Now().UnixMicro()
	return r
}

// dialBack connects to ports of the address that a request came from.
func (s *Server) dialBack(from ma.Multiaddr, ports []uint32) ([]*weftv1.CheckupDialed, string) {
	ip, err := manet.ToIP(from)
	if err != nil {
		return nil, "the request came through a relay"
	}
	if _, err := from.ValueForProtocol(ma.P_CIRCUIT); err == nil {
		return nil, "the request came through a relay"
	}
	if len(ports) == 0 || len(ports) > maxPorts {
		return nil, fmt.Sprintf("%d ports to dial; give 1 to %d", len(ports), maxPorts)
	}
	out := make([]*weftv1.CheckupDialed, len(ports))
	var wg sync.WaitGroup
	for i, port := range ports {
		out[i] = &weftv1.CheckupDialed{Address: net.JoinHostPort(ip.String(), strconv.FormatUint(uint64(port), 10))}
		if port == 0 || port > 65535 {
			out[i].Error = "no such port"
			continue
		}
		wg.Go(func() {
			if err := greet(s.ctx, out[i].Address); err != nil {
				out[i].Error = admission.Printable(err.Error(), maxReason)
			}
		})
	}
	wg.Wait()
	return out, ""
}

// hail is what both sides of a libp2p connection say first.
const hail = "\x13/multistream/1.0.0\n"

var errOther = errors.New("something else than weft answers there")

// greet connects and exchanges the first words of libp2p, nothing else.
func greet(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		// The dialer's own deadline may come a moment before the context's.
		var timed net.Error
		if ctx.Err() != nil || errors.As(err, &timed) && timed.Timeout() {
			return errors.New("nothing answers: the connection timed out")
		}
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(dialTime))
	if _, err := io.WriteString(c, hail); err != nil {
		return err
	}
	got := make([]byte, len(hail))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != hail {
		return errOther
	}
	return nil
}
