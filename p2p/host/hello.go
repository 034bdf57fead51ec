package host

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/weft-mesh/weft/p2p/admission"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

const (
	helloProtocol protocol.ID = "/weft/hello/1"

	helloTimeout    = 5 * time.Second
	maxHelloMessage = 2048
	maxHellos       = 256 // answered at once
	maxPeerHellos   = 2   // of one peer, so that slow strangers leave room
	maxSoftware     = 64
	maxRefusal      = 300
)

// Reasons why a hello fails.
var (
	// ErrStranger means that the other side proved no membership.
	ErrStranger = errors.New("the other node is not a member of this mesh")
	// ErrRefused means that the other side did not accept this node.
	ErrRefused = errors.New("the other node refused this one")
)

// startHello introduces this node on a connection. Callers hold mu.
func (h *Host) startHello(st *peerState, c network.Conn) {
	if h.closed {
		return
	}
	st.hellos++
	h.wg.Go(func() {
		err := h.hello(c)
		h.mu.Lock()
		st.hellos--
		if err != nil {
			st.err = err
			h.noteFailure(c.RemotePeer(), err)
		}
		st.notify()
		h.mu.Unlock()
		if err != nil && h.ctx.Err() == nil {
			h.log.Debug("hello failed", "peer", c.RemotePeer().String(), "error", err)
			_ = c.Close()
		}
	})
}

// failure is why a hello failed; it outlives the connection, so that whoever
// asked for the connection learns it however fast that was closed.
type failure struct {
	err error
	at  time.Time
}

const maxFailures = 256

// noteFailure keeps a failure. Callers hold mu.
func (h *Host) noteFailure(id peer.ID, err error) {
	if len(h.failures) >= maxFailures {
		clear(h.failures)
	}
	h.failures[id] = failure{err, time.Now()}
}

// gone returns why a peer that was connected after since is no longer.
// Callers hold mu.
func (h *Host) gone(id peer.ID, since time.Time) error {
	if f, ok := h.failures[id]; ok && !f.at.Before(since) {
		return f.err
	}
	return errGone
}

// hello shows this node's certificate and checks the other's.
func (h *Host) hello(c network.Conn) error {
	ctx, cancel := context.WithTimeout(h.ctx, helloTimeout)
	defer cancel()
	s, err := openOn(ctx, c, helloProtocol)
	if err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	own, r := h.introduction(), bufio.NewReaderSize(s, 512)
	if err := write(s, own); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	var answer weftv1.Hello
	if err := readHello(r, &answer); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	if reason := admission.Printable(answer.GetRefusal(), maxRefusal); reason != "" {
		return fmt.Errorf("%w: %s", ErrRefused, reason)
	}
	if !bytes.Equal(own.GetRevocations(), answer.GetRevocations()) {
		// Only a member gets as far as this.
		if _, err := h.vet(c.RemotePeer(), &answer); err != nil {
			return err
		}
		if err := h.tellRevocations(s); err != nil {
			return err
		}
		if err := h.hearRevocations(r); err != nil {
			return err
		}
	}
	return h.accept(c.RemotePeer(), &answer)
}

// serveHello answers the other side's certificate with this node's own.
func (h *Host) serveHello(s network.Stream) {
	defer s.Close()
	select {
	case h.helloS <- struct{}{}:
		defer func() { <-h.helloS }()
	default:
		_ = s.Reset()
		return
	}
	if !h.mayAsk(s.Conn().RemotePeer()) {
		_ = s.Reset()
		return
	}
	defer h.hasAsked(s.Conn().RemotePeer())
	_ = s.SetDeadline(time.Now().Add(helloTimeout))
	stop := context.AfterFunc(h.ctx, func() { _ = s.Reset() })
	defer stop()
	var ask weftv1.Hello
	r := bufio.NewReaderSize(s, 512)
	if err := readHello(r, &ask); err != nil {
		_ = s.Reset()
		return
	}
	who := s.Conn().RemotePeer()
	answer := h.introduction()
	same := bytes.Equal(ask.GetRevocations(), answer.GetRevocations())
	err := h.acceptOrVet(who, &ask, same)
	if err != nil {
		h.log.Warn("stranger refused", "peer", who.String(), "addr", s.Conn().RemoteMultiaddr().String(), "error", err)
		answer = &weftv1.Hello{Refusal: admission.Printable(err.Error(), maxRefusal)}
	}
	if write(s, answer) != nil {
		_ = s.Reset()
		return
	}
	if err != nil || same {
		return
	}
	if err := h.swapRevocations(s, r, who, &ask); err != nil {
		h.log.Warn("peer refused", "peer", who.String(), "error", err)
		_ = s.Reset()
	}
}

// mayAsk counts a peer's hello in, unless others of it are being answered.
func (h *Host) mayAsk(id peer.ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.peers[id]
	if st == nil || st.answering >= maxPeerHellos {
		return false
	}
	st.answering++
	return true
}

func (h *Host) hasAsked(id peer.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if st := h.peers[id]; st != nil && st.answering > 0 {
		st.answering--
	}
}

func (h *Host) introduction() *weftv1.Hello {
	id := h.cfg.Authority.ID()
	return &weftv1.Hello{
		Mesh: id[:], Credential: h.cfg.Authority.Credential(),
		WireVersion: h.cfg.Wire, ContractVersion: h.cfg.Contract, Software: h.cfg.Software,
		Revocations: h.cfg.Authority.RevocationDigest(),
	}
}

// vet checks what a peer has shown.
func (h *Host) vet(who peer.ID, m *weftv1.Hello) (admission.Member, error) {
	id := h.cfg.Authority.ID()
	if id.IsZero() {
		return admission.Member{}, fmt.Errorf("%w: %w", ErrStranger, admission.ErrNoMesh)
	}
	if string(m.GetMesh()) != string(id[:]) {
		return admission.Member{}, fmt.Errorf("%w: %w", ErrStranger, admission.ErrOtherMesh)
	}
	member, err := h.cfg.Authority.Verify(who, m.GetCredential())
	if err != nil {
		return member, fmt.Errorf("%w: %w", ErrStranger, err)
	}
	return member, nil
}

// accept checks what a peer has shown and notes it as a member.
func (h *Host) accept(who peer.ID, m *weftv1.Hello) error {
	member, err := h.vet(who, m)
	if err != nil {
		return err
	}
	h.verified(who, Member{
		Member: member, Wire: m.GetWireVersion(), Contract: m.GetContractVersion(),
		Software: admission.Printable(m.GetSoftware(), maxSoftware),
	}, m.GetCredential())
	// A revocation that came meanwhile has looked at the members before.
	if _, err := h.vet(who, m); err != nil {
		_ = h.ClosePeer(who)
		return err
	}
	return nil
}

// write sends length and message in one write.
func write(s network.Stream, m proto.Message) error {
	var b bytes.Buffer
	if _, err := protodelim.MarshalTo(&b, m); err != nil {
		return err
	}
	_, err := s.Write(b.Bytes())
	return err
}

// readHello reads one message of at most maxHelloMessage bytes.
func readHello(r *bufio.Reader, m *weftv1.Hello) error {
	return protodelim.UnmarshalOptions{MaxSize: maxHelloMessage}.UnmarshalFrom(r, m)
}

// Refresh introduces this node again to all connected peers, after its
// certificate has changed. It does not wait for their answers.
func (h *Host) Refresh() {
	for _, c := range h.lib.Network().Conns() {
		h.mu.Lock()
		if st := h.peers[c.RemotePeer()]; st != nil {
			h.startHello(st, c)
		}
		h.mu.Unlock()
	}
}
