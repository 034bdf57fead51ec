package discovery

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/weft-mesh/weft/p2p/admission"
)

// Secrets is where the mesh's secret is kept; *admission.Mesh is one.
type Secrets interface {
	// Secret returns it, unless this node has not got it yet.
	Secret() (s admission.Secret, ok bool)
	// LearnSecret checks and keeps what another member has told.
	LearnSecret([]byte) error
}

// secretProtocol hands the mesh's secret from member to member. The root's
// holder has it from the start.
const secretProtocol protocol.ID = "/weft/secret/1"

const (
	secretTimeout = 5 * time.Second
	secretPause   = 5 * time.Second // between two questions
)

func (d *Discovery) serveSecret(s network.Stream) {
	_ = s.SetDeadline(time.Now().Add(secretTimeout))
	secret, ok := d.cfg.Secrets.Secret()
	if !ok {
		_ = s.Reset()
		return
	}
	if _, err := s.Write(secret[:]); err != nil {
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

// learn asks members for the secret until one tells it.
func (d *Discovery) learn() {
	tick := time.NewTicker(d.cfg.Round)
	defer tick.Stop()
	next := time.Time{}
	for {
		if _, ok := d.cfg.Secrets.Secret(); ok {
			return
		}
		members := d.host.Members()
		if len(members) > 0 && !time.Now().Before(next) {
			who := members[rand.N(len(members))]
			if err := d.askSecret(who.ID); err != nil {
				d.log.Debug("mesh secret not told", "peer", who.ID.String(), "error", err)
				next = time.Now().Add(min(secretPause, 5*d.cfg.Round))
			}
			continue
		}
		select {
		case <-d.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (d *Discovery) askSecret(id peer.ID) error {
	ctx, cancel := context.WithTimeout(d.ctx, secretTimeout)
	defer cancel()
	s, err := d.host.OpenStream(ctx, id, secretProtocol)
	if err != nil {
		return err
	}
	defer func() { _ = s.Reset() }()
	_ = s.SetDeadline(time.Now().Add(secretTimeout))
	var b admission.Secret
	if _, err := io.ReadFull(s, b[:]); err != nil {
		return fmt.Errorf("read the mesh secret: %w", err)
	}
	return d.cfg.Secrets.LearnSecret(b[:])
}
