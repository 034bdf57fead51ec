package host

import (
	"context"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Connections counts the open connections.
func (h *Host) Connections() int { return len(h.lib.Network().Conns()) }

// Answers says whether a peer answers on all of its connections.
func (h *Host) Answers(id peer.ID) bool {
	for _, c := range h.lib.Network().ConnsToPeer(id) {
		if !h.answers(c) {
			return false
		}
	}
	return true
}

// Forget forgets where a peer is.
func (h *Host) Forget(id peer.ID) { h.lib.Peerstore().ClearAddrs(id) }

// LookOutside asks members where they see this node.
func (h *Host) LookOutside(ctx context.Context) ma.Multiaddr {
	h.lookOutside(ctx)
	return h.outside.get(time.Now())
}

// ReadSeen reads a member's answer to that.
func ReadSeen(r io.Reader) (ma.Multiaddr, error) { return readSeen(r) }
