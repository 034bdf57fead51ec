package admission

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protodelim"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

const (
	tellTime = 2 * time.Second
	// The news goes out before connections are cut, so that who was revoked
	// learns why; a member that hangs delays the cut no longer than this.
	tellFirst         = 300 * time.Millisecond
	maxRevokedMessage = 1 << 20
)

// Revoke ends a peer's membership: it signs the statement, tells all
// connected members, and cuts the peer off. role is what the peer is known to
// be, zero when this node does not know. It returns when the statement is on
// disk; connections are cut within a second, here and everywhere that the
// news has reached.
func (s *Service) Revoke(subject peer.ID, role Role, since time.Time) (*Revocation, error) {
	if known := s.net.RoleOf(subject); known > role {
		role = known
	}
	r, err := s.mesh.Revoke(subject, role, since)
	if err != nil {
		return nil, err
	}
	s.log.Info("member revoked", "peer", subject.String(), "role", r.Role.String())
	return r, nil
}

// heard wakes spreadLoop; it does not block.
func (s *Service) heard() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// spreadLoop passes on every revocation that this node learns of.
func (s *Service) spreadLoop() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.news:
			s.spread()
		}
	}
}

// spread tells all connected members and disconnects those that are none now.
func (s *Service) spread() {
	ctx, cancel := context.WithTimeout(s.ctx, tellTime)
	defer cancel()
	m := &weftv1.Revocations{Statements: s.mesh.Revocations()}
	var telling sync.WaitGroup
	for _, id := range s.net.Peers() {
		telling.Go(func() {
			if err := s.tell(ctx, id, m); err != nil {
				s.log.Debug("revocation not told", "peer", id.String(), "error", err)
			}
		})
	}
	told := make(chan struct{})
	go func() { telling.Wait(); close(told) }()
	select {
	case <-told:
	case <-time.After(tellFirst):
	}
	if _, err := s.mesh.Self(); err != nil {
		s.log.Warn("this node is no member now", "error", err)
	}
	s.net.Recheck()
	<-told
}

func (s *Service) tell(ctx context.Context, to peer.ID, m *weftv1.Revocations) error {
	st, err := s.net.OpenStream(ctx, to, RevokedProtocol)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer stop()
	if err := send(st, m); err != nil {
		_ = st.Reset()
		return err
	}
	if err := st.CloseWrite(); err != nil {
		return err
	}
	_, err = st.Read(make([]byte, 1)) // the end comes when the news was taken in
	_ = st.Close()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// serveRevoked takes in what another member tells.
func (s *Service) serveRevoked(st network.Stream) {
	defer st.Close()
	_ = st.SetDeadline(time.Now().Add(renewTimeout))
	stop := context.AfterFunc(s.ctx, func() { _ = st.Reset() })
	defer stop()
	by := st.Conn().RemotePeer().String()
	m, err := receiveRevocations(bufio.NewReaderSize(st, 4096))
	if err != nil {
		_ = st.Reset()
		return
	}
	changed, err := s.mesh.TakeRevocations(m.GetStatements())
	if err != nil {
		s.log.Warn("a member tells of a revocation that is none", "peer", by, "error", err)
	}
	if changed {
		s.log.Info("revocations learned", "peer", by)
	}
}

func receiveRevocations(r *bufio.Reader) (*weftv1.Revocations, error) {
	var m weftv1.Revocations
	if err := (protodelim.UnmarshalOptions{MaxSize: maxRevokedMessage}).UnmarshalFrom(r, &m); err != nil {
		return nil, fmt.Errorf("the other side broke off: %w", err)
	}
	return &m, nil
}
