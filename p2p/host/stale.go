package host

import (
	"context"
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"
)

// A peer that comes anew may have lost its connection where this side has not
// noticed: its router has forgotten it, or its address has changed. What is sent
// on the old one then vanishes for most of a minute, and a relay would still lead
// others there.

// staleTimeout is how long an older connection may take to answer.
const staleTimeout = 3 * time.Second

// doubt makes the connections that a peer had before c answer, and closes those
// that do not. Callers hold mu.
func (h *Host) doubt(c network.Conn) {
	if h.cfg.Authority.Credential() == nil {
		return
	}
	h.wg.Go(func() {
		for _, old := range h.lib.Network().ConnsToPeer(c.RemotePeer()) {
			if old.ID() == c.ID() || old.Stat().Opened.After(c.Stat().Opened) {
				continue
			}
			if !h.answers(old) && h.ctx.Err() == nil {
				h.log.Debug("connection is stale: the peer has come anew", "peer", c.RemotePeer().String())
				_ = old.Close()
			}
		}
	})
}

// aliveProtocol is one that nobody has: to say so takes a peer that lives, and
// counts for nothing there.
const aliveProtocol protocol.ID = "/weft/alive/1"

// answers says whether a peer answers on the connection.
func (h *Host) answers(c network.Conn) bool {
	ctx, cancel := context.WithTimeout(h.ctx, staleTimeout)
	defer cancel()
	s, err := openOn(ctx, c, aliveProtocol)
	if err == nil {
		_ = s.Reset()
		return true
	}
	var unknown multistream.ErrNotSupported[protocol.ID]
	return errors.As(err, &unknown)
}
