package node

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/machine"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/store"
)

// Models implements api.Node: the store's entries, then what only others hold.
func (n *Node) Models(ctx context.Context) ([]api.Model, error) {
	entries, err := n.store.List()
	if err != nil {
		return nil, err
	}
	remote := map[string]remoteModel{}
	if n.lib.offered != nil {
		for _, r := range n.lib.offered() {
			remote[r.name+" "+slotOf(r.id, r.profile)] = r
		}
	}
	last, lastErr := n.store.Resolve("")
	var out []api.Model
	for _, e := range entries {
		m := n.modelOf(e)
		m.Default = lastErr == nil && last.Name == e.Name && last.Model == e.Model
		key := e.Name + " " + slotOf(e.Model, e.Profile)
		if h, err := n.store.Held(e); err == nil && h.Bytes > 0 {
			m.Holders = append(m.Holders, n.name())
		}
		m.Holders = append(m.Holders, remote[key].holders...)
		delete(remote, key)
		out = append(out, m)
	}
	var others []api.Model
	for _, r := range remote {
		others = append(others, api.Model{
			Name: r.name, Hash: r.id.String(), Context: r.profile.Context, KV: kvName(r.profile.KV), ActBits: int(r.profile.Act),
			Source: "peer", State: n.stateOf(r.id, r.profile), Holders: r.holders, Default: len(entries) == 0 && len(remote) == 1,
		})
	}
	slices.SortFunc(others, func(a, b api.Model) int { return strings.Compare(a.Name+a.Hash, b.Name+b.Hash) })
	return append(out, others...), nil
}

func kvName(t kernels.KVType) string {
	if t == kernels.KVF32 {
		return "f32"
	}
	return "f16"
}

// modelOf describes an entry; what its header does not tell stays empty.
func (n *Node) modelOf(e store.Entry) api.Model {
	m := api.Model{
		Name: e.Name, Hash: e.Model.String(), Context: e.Profile.Context, KV: kvName(e.Profile.KV), ActBits: int(e.Profile.Act), Added: e.Added, Source: "pulled",
	}
	if e.Origin != nil {
		m.Source = "hf:" + e.Origin.Repo
	}
	if len(e.Files) > 0 {
		m.Source = e.Files[0].Path
	}
	m.Pinned = e.Pinned
	if k, err := n.store.Kept(e); err == nil {
		m.DiskBytes, m.InUse = int64(k.Bytes), k.InUse
		if !k.LastUsed.IsZero() {
			m.LastUsed = &k.LastUsed
		}
	}
	m.State = n.stateOf(e.Model, e.Profile)
	o, err := n.lib.shape(e)
	if err != nil {
		m.State = err.Error()
		return m
	}
	m.Arch, m.Layers, m.TrainedCtx = o.config.Arch, o.config.Layers, o.config.TrainedCtx
	m.FileBytes = int64(o.manifest.Size())
	for i := range o.manifest.Tensors {
		t := &o.manifest.Tensors[i]
		m.Params += int64(t.Rows() * t.Cols())
	}
	return m
}

// profileWish turns a request's settings into a profile; zero fields take the
// store's defaults.
func profileWish(ctx int, kv string, act int) (model.Profile, error) {
	p := model.Profile{Context: ctx, Act: kernels.ActBits(act)}
	if ctx < 0 || act < 0 || act > 255 {
		return p, api.Errorf(api.KindInvalid, "context %d and activations %d must not be negative", ctx, act)
	}
	if act != 0 && act != 8 && act != 16 {
		return p, api.Errorf(api.KindInvalid, "activations are %d bits; 8 (fast) or 16 (closer to float) are possible", act)
	}
	switch kv {
	case "", "f16":
	case "f32":
		p.KV = kernels.KVF32
	default:
		return p, api.Errorf(api.KindInvalid, "KV type %q is unknown; f16 or f32 are possible", kv)
	}
	return p, nil
}

// AddModel implements api.Node.
func (n *Node) AddModel(ctx context.Context, r api.AddRequest, progress func(api.Progress)) (api.Model, error) {
	p, err := profileWish(r.Context, r.KV, r.ActBits)
	if err != nil {
		return api.Model{}, err
	}
	e, err := n.store.Add(ctx, r.Path, store.AddOptions{Name: r.Name, Profile: p, Progress: func(done, total uint64) {
		progress(api.Progress{Phase: "hash", Text: "reading " + filepath.Base(r.Path), Done: int64(done), Total: int64(total), Unit: "bytes"})
	}})
	if err != nil {
		return api.Model{}, storeError(err)
	}
	return n.entered(e)
}

// entered opens a new entry, so that a model weft cannot run is refused now.
func (n *Node) entered(e store.Entry) (api.Model, error) {
	defer machine.ReturnMemory() // the file's buffers, and the vocabulary
	if _, err := n.lib.read(e); err != nil {
		_, _ = n.store.Remove(e.Ref())
		return api.Model{}, err
	}
	n.lib.forget(e)
	n.changed()
	return n.modelOf(e), nil
}

// RemoveModel implements api.Node. A model in use is not removed.
func (n *Node) RemoveModel(ctx context.Context, ref string) (api.Model, error) {
	e, err := n.store.Resolve(ref)
	if err != nil {
		return api.Model{}, storeError(err)
	}
	for _, p := range n.worker.Stats().Plans {
		if string(p.Plan.Id.Model) == string(e.Model[:]) && p.Sessions > 0 {
			return api.Model{}, api.Errorf(api.KindConflict, "%s is answering %d replies; try again when they have ended", e.Ref(), p.Sessions)
		}
	}
	m := n.modelOf(e)
	for _, a := range n.plans.list() {
		if a.model.entry.Model == e.Model {
			n.plans.retire(a, "its model is removed")
		}
	}
	removed, err := n.store.Remove(e.Ref())
	if err != nil {
		return api.Model{}, storeError(err)
	}
	m.DiskBytes = removed.Bytes
	n.lib.forget(e)
	n.grams.Forget(slotOf(e.Model, e.Profile))
	n.changed()
	return m, nil
}

// PinModel implements api.Node.
func (n *Node) PinModel(_ context.Context, r api.PinRequest) (api.Model, error) {
	e, err := n.store.Pin(r.Model, r.Pinned)
	if err != nil {
		return api.Model{}, storeError(err)
	}
	return n.modelOf(e), nil
}

// invite makes an invitation; only an admitter can.
func (m *mesh) invite(r api.InviteRequest) (api.Invite, error) {
	if r.Uses == 0 {
		r.Uses = 1
	}
	if r.Expires == 0 {
		r.Expires = time.Hour
	}
	role, err := roleOf(r.Role)
	if err != nil {
		return api.Invite{}, err
	}
	var addrs []ma.Multiaddr
	addrs = append(addrs, m.host.DialAddrs()...)
	t, err := m.service.Invite(role, r.Uses, r.Expires, addrs)
	if err != nil {
		return api.Invite{}, api.Errorf(api.KindForbidden, "invite: %w", err)
	}
	return api.Invite{Token: t.String(), Uses: r.Uses, Expires: t.Expires}, nil
}

// forget drops an entry's opened header.
func (l *library) forget(e store.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.cache, keyOf(e))
}

// retire gives a plan back that works: nobody needs it any more.
func (p *planner) retire(a *active, reason string) {
	p.giving.RLock()
	defer p.giving.RUnlock()
	p.forget(a)
	select {
	case <-a.ready:
	default:
		return // still in the making: it fails when its model is gone
	}
	if a.path == nil {
		return
	}
	a.path.Close()
	ctx, cancel := context.WithTimeout(p.ctx, farewell)
	defer cancel()
	p.giveBack(ctx, a.spec, reason)
}
