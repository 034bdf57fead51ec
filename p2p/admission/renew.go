package admission

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// askRenewal gets a fresh certificate from an admitter. The request has no
// content: the admitter knows who asks and with which certificate.
func (s *Service) askRenewal(ctx context.Context, admitter peer.ID) error {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	st, err := s.net.OpenStream(ctx, admitter, RenewProtocol)
	if err != nil {
		return err
	}
	defer st.Close()
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer stop()
	own := s.mesh.Credential()
	if err := send(st, &weftv1.Renewal{Credential: own}); err != nil {
		return err
	}
	var answer weftv1.Renewal
	if err := receive(bufio.NewReaderSize(st, 512), &answer); err != nil {
		return err
	}
	if reason := cleanReason(answer.GetReason()); reason != "" {
		return fmt.Errorf("refused: %s", reason)
	}
	return s.mesh.Adopt(s.mesh.ID(), "", answer.GetCredential())
}

// serveRenew issues a fresh certificate with the role that the old one has.
func (s *Service) serveRenew(st network.Stream) {
	defer st.Close()
	_ = st.SetDeadline(time.Now().Add(renewTimeout))
	stop := context.AfterFunc(s.ctx, func() { _ = st.Reset() })
	defer stop()
	who := st.Conn().RemotePeer()
	var ask, answer weftv1.Renewal
	if err := receive(bufio.NewReaderSize(st, 512), &ask); err != nil {
		return
	}
	credential, err := s.renewFor(who, ask.GetCredential())
	if err != nil {
		s.log.Warn("renewal refused", "peer", who.String(), "error", err)
		answer.Reason = cleanReason(err.Error())
	} else {
		s.log.Info("certificate renewed for member", "peer", who.String())
		answer.Credential = credential
	}
	_ = send(st, &answer)
}

// renewFor issues a successor for a member's valid credential. Asking early
// gains nothing, so it is refused to keep issuing rare.
func (s *Service) renewFor(who peer.ID, credential []byte) ([]byte, error) {
	m, err := s.mesh.Verify(who, credential)
	if err != nil {
		return nil, err
	}
	if s.mesh.cfg.Now().Sub(m.Issued) < time.Hour {
		return nil, errors.New("the certificate is fresh")
	}
	return s.mesh.Issue(who, m.Role)
}
