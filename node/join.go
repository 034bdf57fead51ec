package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/p2p/discovery"
)

// Times of looking for a mesh. On a local network members answer within tens
// of milliseconds; who names a mesh or an address is sure that it is there.
const (
	lookTime   = 1500 * time.Millisecond
	lookLonger = 10 * time.Second
)

// enter makes a node without a mesh a member of one: by its token, by a code
// that it shows to a person, or as the founder. It returns a member to begin
// with, if there is one.
func (m *mesh) enter(ctx context.Context, token *admission.Token, progress func(api.Progress)) (peer.AddrInfo, error) {
	if token != nil {
		progress(api.Progress{Phase: "join", Text: "joining mesh " + token.Mesh.Short()})
		err := whileBusy(ctx, progress, func() error {
			return admission.Join(ctx, m.host, m.admission, token, m.n.name(), joinVersions())
		})
		if err != nil {
			return peer.AddrInfo{}, api.Errorf(api.KindForbidden, "join the mesh: %w", err)
		}
		progress(api.Progress{Phase: "join", Text: "joined " + m.admission.Name()})
		return peer.AddrInfo{ID: token.Inviter, Addrs: token.Addrs}, nil
	}
	var info peer.AddrInfo
	err := whileBusy(ctx, progress, func() (err error) {
		info, err = m.knock(ctx, progress)
		return err
	})
	if errors.Is(err, admission.ErrNoMeshFound) && m.n.cfg.Mesh == "" && len(m.n.cfg.Peers) == 0 {
		return peer.AddrInfo{}, m.found(progress)
	}
	return info, err
}

func joinVersions() admission.Versions {
	return admission.Versions{Wire: WireVersion, Contract: kernels.ContractVersion}
}

// found makes this node the first of a new mesh.
func (m *mesh) found(progress func(api.Progress)) error {
	name := admission.CleanName(m.n.cfg.New)
	if name == "" {
		name = meshName(m.n.name())
	}
	if err := m.admission.Found(name); err != nil {
		return err
	}
	progress(api.Progress{Phase: "join", Text: "founded a new mesh: " + m.admission.Name()})
	return nil
}

// foundsAtOnce says that there is nobody to ask: the user wants a mesh of his
// own, or this node could reach nobody but itself.
func (m *mesh) foundsAtOnce() bool {
	c := m.n.cfg
	return c.New != "" || onlyLoopback(c.Listen) && c.Mesh == "" && len(c.Peers) == 0
}

// checkWish holds what the user wants against what this home is.
func (m *mesh) checkWish() error {
	c := m.n.cfg
	switch {
	case c.New != "" && (c.Join != "" || c.Mesh != "" || len(c.Peers) > 0):
		return api.Errorf(api.KindInvalid, "--new founds a mesh; leave out --join, --mesh and --peer")
	case !m.admission.Joined():
		return nil
	}
	here := m.admission.Name() + " (" + m.admission.ID().Short() + ")"
	switch {
	case c.New != "" && c.New != m.admission.Name():
		return api.Errorf(api.KindConflict, "this node belongs to mesh %s; run `weft leave` before it founds %s, or use another WEFT_HOME", here, c.New)
	case c.Mesh != "" && c.Mesh != m.admission.Name() && !strings.HasPrefix(m.admission.ID().String(), strings.ToLower(c.Mesh)):
		return api.Errorf(api.KindConflict, "this node belongs to mesh %s, not %s; run `weft leave` first, or use another WEFT_HOME", here, c.Mesh)
	}
	return nil
}

// knock looks for a mesh nearby and at the addresses that the user gave, shows
// a code, and waits until somebody types it there.
func (m *mesh) knock(ctx context.Context, progress func(api.Progress)) (peer.AddrInfo, error) {
	c := m.n.cfg
	ctx, cancel := context.WithCancel(ctx)
	candidates := make(chan peer.AddrInfo)
	var wg, ended sync.WaitGroup // ended: closes candidates after wg
	defer ended.Wait()
	defer cancel()
	report := func(info peer.AddrInfo) {
		select {
		case candidates <- info:
		case <-ctx.Done():
		}
	}
	if !onlyLoopback(c.Listen) {
		wg.Go(func() {
			if err := discovery.Nearby(ctx, m.host.ID(), report); err != nil {
				m.n.log.Warn("no look at the local network", "error", err)
			}
		})
	}
	failed := make(chan error, len(c.Peers))
	for _, addr := range c.Peers {
		wg.Go(func() {
			info, err := m.host.Resolve(ctx, addr)
			if err != nil {
				failed <- err
				return
			}
			report(info)
		})
	}
	ended.Go(func() { wg.Wait(); close(candidates) })
	look := lookTime
	if c.Mesh != "" || len(c.Peers) > 0 {
		look = lookLonger
	}
	progress(api.Progress{Phase: "join", Text: "looking for a mesh nearby"})
	shown := ""
	info, err := admission.Ask(ctx, m.host, m.admission, admission.AskOptions{
		Candidates: candidates, Look: look, Want: c.Mesh, Name: m.n.name(), Versions: joinVersions(),
		Show: func(w admission.Waiting) {
			p := api.Progress{Phase: "join", Text: "waiting until somebody types the code"}
			if notice := askNotice(w); notice != shown {
				p.Notice, shown = notice, notice
			}
			progress(p)
		},
	})
	switch {
	case m.admission.Joined(): // also when the first contact as a member failed: it is tried again
		progress(api.Progress{Phase: "join", Text: "joined " + m.admission.Name()})
		return info, nil
	case errors.Is(err, admission.ErrNoMeshFound) && len(failed) > 0:
		return info, api.Errorf(api.KindUnavailable, "join the mesh: %w", <-failed)
	case errors.Is(err, admission.ErrNoMeshFound):
		return info, api.Errorf(api.KindUnavailable, "join the mesh: %w: start weft on a machine of that mesh on this network, or name one with --peer HOST:PORT", err)
	}
	return info, api.Errorf(api.KindForbidden, "join the mesh: %w", err)
}

// askNotice is what a person has to read and do.
func askNotice(w admission.Waiting) string {
	var names []string
	for _, mesh := range w.Meshes {
		names = append(names, fmt.Sprintf("%s (%s)", mesh.Name, mesh.ID.Short()))
	}
	var b strings.Builder
	if w.Note != "" {
		fmt.Fprintf(&b, "%s\nA new code:\n", w.Note)
	}
	if len(names) == 1 {
		fmt.Fprintf(&b, "This machine asks to be let into the mesh %s.\n", names[0])
	} else {
		fmt.Fprintf(&b, "There are %d meshes nearby: %s.\nThis machine joins the one where its code is typed (or say which: weft up --mesh NAME).\n", len(names), strings.Join(names, ", "))
	}
	fmt.Fprintf(&b, "Within two minutes, type on any machine of the mesh:\n\n    weft approve %s\n\n", w.Code)
	b.WriteString("For a mesh of its own instead, press Ctrl-C and run: weft up --new NAME")
	return b.String()
}

// Approve implements api.Trust.
func (n *Node) Approve(ctx context.Context, r api.ApproveRequest) (api.Approval, error) {
	if n.mesh == nil {
		return api.Approval{}, errNoMesh()
	}
	role, err := roleOf(r.Role)
	if err != nil {
		return api.Approval{}, err
	}
	code, err := admission.ParseCode(r.Code)
	if err != nil {
		return api.Approval{}, &api.Error{Kind: api.KindInvalid, Message: err.Error(), Param: "code"}
	}
	got, err := n.mesh.service.Approve(ctx, code, role)
	if err != nil {
		return api.Approval{}, api.Errorf(approveKind(err), "approve: %w", err)
	}
	return api.Approval{Name: got.Name, PeerID: got.Peer.String(), Role: got.Role.String(), Mesh: n.meshLabel()}, nil
}

func approveKind(err error) api.Kind {
	if errors.Is(err, admission.ErrNobodyWaits) {
		return api.KindNotFound
	}
	return api.KindForbidden
}

func errNoMesh() error {
	return api.Errorf(api.KindInvalid, "this node is in no mesh: start it with `weft up`")
}

// roleOf reads a role as a person writes it; compute is the default.
func roleOf(s string) (admission.Role, error) {
	if s == "" {
		return admission.Compute, nil
	}
	role, err := admission.ParseRole(s)
	if err != nil {
		return 0, api.Errorf(api.KindInvalid, "%w", err)
	}
	return role, nil
}

// meshLabel is the mesh's name and short id, for people.
func (n *Node) meshLabel() string {
	return n.mesh.admission.Name() + " (" + n.mesh.admission.ID().Short() + ")"
}
