package node

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/p2p/gossip"
)

// rosterEvery is how often the members that are connected are remembered.
const rosterEvery = 10 * time.Second

// keepRoster remembers the members that this node meets until it stops: when
// one comes or tells something new, and from time to time.
func (n *Node) keepRoster() {
	events, unwatch := n.mesh.gossip.Watch()
	defer unwatch()
	t := time.NewTicker(rosterEvery)
	defer t.Stop()
	for {
		select {
		case e, ok := <-events:
			switch {
			case !ok:
				events = nil
			case e.Kind != gossip.Leave:
				n.noteMembers()
			}
		case <-t.C:
			n.noteMembers()
		case <-n.ctx.Done():
			return
		}
	}
}

// noteMembers writes down who is connected, and this node itself.
func (n *Node) noteMembers() {
	now := n.now()
	met := []admission.Known{{Peer: n.mesh.host.ID(), Name: n.name(), Credential: n.mesh.admission.Credential(), Seen: now}}
	for _, m := range n.mesh.host.Members() {
		name := ""
		if g, ok := n.mesh.gossip.Member(m.ID); ok && g.Record != nil {
			name = g.Record.Name
		}
		if c := n.mesh.host.Credential(m.ID); c != nil {
			met = append(met, admission.Known{Peer: m.ID, Name: name, Credential: c, Seen: now})
		}
	}
	if err := n.mesh.roster.Note(met); err != nil {
		n.log.Warn("members are not remembered", "error", err)
	}
}

// Trusted implements api.Trust: this node first, then the others by name.
func (n *Node) Trusted(context.Context) ([]api.Member, error) {
	if n.mesh == nil {
		return nil, errNoMesh()
	}
	n.noteMembers()
	all := n.mesh.admission.Standings(n.mesh.roster.List())
	names := map[peer.ID]string{}
	for _, s := range all {
		names[s.Peer] = s.Name
	}
	var out []api.Member
	for _, s := range all {
		m := api.Member{
			Name: s.Name, PeerID: s.Peer.String(), Self: s.Peer == n.mesh.host.ID(), State: standingWord(s), Seen: s.Seen,
			Issued: s.Issued, Expires: s.Expires, RevokedAt: s.RevokedAt, AdmittedBy: "the root",
		}
		if s.Role != 0 {
			m.Role = s.Role.String()
		}
		if s.Issuer != "" {
			m.AdmittedBy, m.AdmittedByID = names[s.Issuer], s.Issuer.String()
		}
		_, m.Connected = n.mesh.host.Member(s.Peer)
		out = append(out, m)
	}
	slices.SortStableFunc(out, func(a, b api.Member) int {
		if a.Self != b.Self {
			if a.Self {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Name, b.Name)
	})
	return out, nil
}

// standingWord says in a word what a member is now.
func standingWord(s admission.Standing) string {
	switch {
	case s.Why == nil:
		return "member"
	case errors.Is(s.Why, admission.ErrRevoked):
		return "revoked"
	case errors.Is(s.Why, admission.ErrExpired):
		return "expired"
	}
	return "invalid: " + s.Why.Error()
}

// Revoke implements api.Trust.
func (n *Node) Revoke(ctx context.Context, r api.RevokeRequest) (api.Member, error) {
	if n.mesh == nil {
		return api.Member{}, errNoMesh()
	}
	id, err := n.findMember(ctx, r.Peer)
	if err != nil {
		return api.Member{}, err
	}
	var role admission.Role
	for _, s := range n.mesh.admission.Standings(n.mesh.roster.List()) {
		if s.Peer == id {
			role = s.Role
		}
	}
	var since time.Time
	if r.Since > 0 {
		since = n.now().Add(-r.Since)
	}
	done, err := n.mesh.service.Revoke(id, role, since)
	if err != nil {
		return api.Member{}, api.Errorf(api.KindForbidden, "%w", err)
	}
	all, err := n.Trusted(ctx)
	if err != nil {
		return api.Member{}, err
	}
	for _, m := range all {
		if m.PeerID == id.String() {
			return m, nil
		}
	}
	return api.Member{PeerID: id.String(), State: "revoked", RevokedAt: done.At}, nil
}

// findMember finds a member by its name or its peer id, of which the
// beginning or the end is enough where only one fits.
func (n *Node) findMember(ctx context.Context, text string) (peer.ID, error) {
	if id, err := peer.Decode(text); err == nil {
		return id, nil
	}
	all, err := n.Trusted(ctx)
	if err != nil {
		return "", err
	}
	var fit []api.Member
	for _, m := range all {
		if m.Name == text || len(text) >= 6 && (strings.HasSuffix(m.PeerID, text) || strings.HasPrefix(m.PeerID, text)) {
			fit = append(fit, m)
		}
	}
	switch len(fit) {
	case 0:
		return "", api.Errorf(api.KindNotFound, "no member is called %q or has a peer id that begins or ends so; `weft trust` lists them", text)
	case 1:
		return peer.Decode(fit[0].PeerID)
	}
	var ids []string
	for _, m := range fit {
		ids = append(ids, m.Name+" "+m.PeerID)
	}
	return "", api.Errorf(api.KindConflict, "%q is more than one member: %s; give the peer id", text, strings.Join(ids, ", "))
}
