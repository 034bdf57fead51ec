package host

import (
	"bufio"
	"fmt"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protodelim"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

const maxRevocations = 1 << 20 // bytes, from a member

// tellRevocations sends all that this node knows of who is no member any
// more; hearRevocations takes in what the other side knows.
func (h *Host) tellRevocations(s network.Stream) error {
	if err := write(s, &weftv1.Revocations{Statements: h.cfg.Authority.Revocations()}); err != nil {
		return fmt.Errorf("hello: tell revocations: %w", err)
	}
	return nil
}

func (h *Host) hearRevocations(r *bufio.Reader) error {
	var m weftv1.Revocations
	if err := (protodelim.UnmarshalOptions{MaxSize: maxRevocations}).UnmarshalFrom(r, &m); err != nil {
		return fmt.Errorf("hello: hear revocations: %w", err)
	}
	if _, err := h.cfg.Authority.TakeRevocations(m.GetStatements()); err != nil {
		h.log.Warn("a member tells of a revocation that is none", "error", err)
	}
	return nil
}

// acceptOrVet notes a member when both sides know the same revocations; else
// it says only whether the other side may tell and hear them.
func (h *Host) acceptOrVet(who peer.ID, ask *weftv1.Hello, same bool) error {
	if same {
		return h.accept(who, ask)
	}
	_, err := h.vet(who, ask)
	return err
}

// swapRevocations exchanges what both sides know, and only then takes the
// other side for a member. It is one when it hears the last message.
func (h *Host) swapRevocations(s network.Stream, r *bufio.Reader, who peer.ID, ask *weftv1.Hello) error {
	if err := h.hearRevocations(r); err != nil {
		return err
	}
	if err := h.accept(who, ask); err != nil {
		return err
	}
	return h.tellRevocations(s)
}
