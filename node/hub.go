package node

import (
	"context"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/weft-mesh/weft/node/api"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/store"
	"github.com/weft-mesh/weft/shard/store/fetch"
	"github.com/weft-mesh/weft/shard/store/hub"
	"github.com/weft-mesh/weft/shard/store/manifest"
)

// originTime bounds how long other nodes may take to say where a model comes from.
const originTime = 3 * time.Second

// hubClient makes a client of the hub that this machine's environment names.
func (n *Node) hubClient() (*hub.Client, error) {
	o := hub.FromEnv(os.Getenv)
	o.Logger, o.SpaceFactor, o.Room, o.Pace = n.log, 2.1, n.store.MakeRoom, n.hubPace.Wait
	return hub.New(o)
}

// PullModel implements api.Node.
func (n *Node) PullModel(ctx context.Context, r api.PullRequest, progress func(api.Progress)) (api.Model, error) {
	p, err := profileWish(r.Context, r.KV, r.ActBits)
	if err != nil {
		return api.Model{}, err
	}
	c, err := n.hubClient()
	if err != nil {
		return api.Model{}, api.Errorf(api.KindInvalid, "%w", err)
	}
	defer c.Close()
	var e store.Entry
	if r.Lazy {
		e, err = n.pullLazy(ctx, c, r, p, progress)
	} else {
		e, err = n.pullWhole(ctx, c, r, p, progress)
	}
	if err != nil {
		return api.Model{}, err
	}
	return n.entered(e)
}

// pullWhole downloads a model and keeps all of it packed.
func (n *Node) pullWhole(ctx context.Context, c *hub.Client, r api.PullRequest, p model.Profile, progress func(api.Progress)) (store.Entry, error) {
	path, origin, err := n.download(ctx, c, r, progress)
	if err != nil {
		return store.Entry{}, err
	}
	e, err := n.store.Adopt(ctx, path, store.AddOptions{Name: r.Name, Profile: p, Origin: origin, Pinned: true, Progress: func(done, total uint64) {
		progress(api.Progress{Phase: "pack", Text: "packing " + filepath.Base(path), Done: int64(done), Total: int64(total), Unit: "bytes"})
	}})
	if err != nil {
		return store.Entry{}, storeError(err)
	}
	return e, nil
}

func (n *Node) download(ctx context.Context, c *hub.Client, r api.PullRequest, progress func(api.Progress)) (string, *store.Origin, error) {
	report := reportHub("downloading", progress)
	switch {
	case hub.IsRef(r.Ref):
		rel, err := resolve(ctx, c, r.Ref)
		if err != nil {
			return "", nil, err
		}
		files, err := c.PullRelease(ctx, rel, n.store.DownloadDir(), report)
		if err != nil {
			return "", nil, api.Errorf(api.KindUnavailable, "%w", err)
		}
		return files[0], originOf(rel), nil
	case strings.HasPrefix(r.Ref, "https://"), strings.HasPrefix(r.Ref, "http://"):
		path, err := c.PullURL(ctx, r.Ref, r.SHA256, n.store.DownloadDir(), report)
		if err != nil {
			return "", nil, api.Errorf(api.KindUnavailable, "%w", err)
		}
		return path, nil, nil
	}
	return "", nil, api.Errorf(api.KindInvalid, "%q cannot be pulled: write hf:owner/repo[:quant] or an http(s) address; a file of this machine is added with `weft add`", r.Ref)
}

// pullLazy reads a model at the hub once without keeping it. Each node fetches its
// own layers from there later.
func (n *Node) pullLazy(ctx context.Context, c *hub.Client, r api.PullRequest, p model.Profile, progress func(api.Progress)) (store.Entry, error) {
	if !hub.IsRef(r.Ref) {
		return store.Entry{}, api.Errorf(api.KindInvalid, "%q cannot be pulled with --lazy: other nodes would not know where to fetch their layers; write hf:owner/repo[:quant]", r.Ref)
	}
	rel, err := resolve(ctx, c, r.Ref)
	if err != nil {
		return store.Entry{}, err
	}
	origin := originOf(rel)
	m, err := n.scanned(ctx, c, rel, origin, progress)
	if err != nil {
		return store.Entry{}, err
	}
	name := r.Name
	if name == "" {
		name = store.NameOf(rel.Files[0].Path)
	}
	e, err := n.store.Enroll(m, store.AddOptions{Name: name, Profile: p, Origin: origin})
	if err != nil {
		return store.Entry{}, storeError(err)
	}
	return e, nil
}

// scanned gives the manifest of a release: of a model that came from there before,
// or by reading it.
func (n *Node) scanned(ctx context.Context, c *hub.Client, rel hub.Release, origin *store.Origin, progress func(api.Progress)) (*manifest.Manifest, error) {
	entries, err := n.store.List()
	if err != nil {
		return nil, err
	}
	for i := range entries {
		if reflect.DeepEqual(entries[i].Origin, origin) {
			return n.store.Manifest(entries[i].Model)
		}
	}
	dir := rel.Dir(n.store.DownloadDir())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(dir) }() // fails as long as anything is in it
	m, err := c.Scan(ctx, rel, filepath.Join(dir, path.Base(rel.Files[0].Path)+".scan"), reportHub("reading", progress))
	if err != nil {
		return nil, api.Errorf(api.KindUnavailable, "%w", err)
	}
	return m, nil
}

func resolve(ctx context.Context, c *hub.Client, text string) (hub.Release, error) {
	ref, err := hub.ParseRef(text)
	if err != nil {
		return hub.Release{}, api.Errorf(api.KindInvalid, "%w", err)
	}
	rel, err := c.Resolve(ctx, ref)
	if err != nil {
		return hub.Release{}, api.Errorf(api.KindUnavailable, "pull %s: %w", ref, err)
	}
	return rel, nil
}

func reportHub(doing string, progress func(api.Progress)) hub.Progress {
	return func(s hub.Status) {
		progress(api.Progress{Phase: "download", Text: doing + " " + s.File, Done: int64(s.Done), Total: int64(s.Total), Unit: "bytes", Rate: s.Rate})
	}
}

func originOf(rel hub.Release) *store.Origin {
	o := &store.Origin{Repo: rel.Repo, Revision: rel.Revision}
	for _, f := range rel.Files {
		o.Files = append(o.Files, store.OriginFile{Path: f.Path, Size: uint64(f.Size), SHA256: f.SHA256})
	}
	return o
}

// hubSource is the hub as a source of a model's tensors, for those that no peer
// has; nil where nobody knows that the model is there. Close the client after use.
func (n *Node) hubSource(ctx context.Context, man *manifest.Manifest) (fetch.Source, *hub.Client) {
	o := n.store.Origin(man.ID())
	if o == nil && n.mesh != nil {
		n.mesh.learn(ctx, man.ID())
		o = n.store.Origin(man.ID())
	}
	if o == nil {
		return nil, nil
	}
	rel := hub.Release{Repo: o.Repo, Revision: o.Revision}
	for _, f := range o.Files {
		rel.Files = append(rel.Files, hub.File{Path: f.Path, Size: int64(f.Size), SHA256: f.SHA256})
	}
	c, err := n.hubClient()
	if err != nil {
		n.log.Warn("the hub is not asked for weights", "error", err)
		return nil, nil
	}
	rel, err = c.At(rel)
	if err == nil {
		var s *hub.Source
		if s, err = c.NewSource(man, rel.Files); err == nil {
			return countedHub{s, n}, c
		}
	}
	c.Close()
	n.log.Warn("the hub is not asked for weights", "repo", o.Repo, "error", err)
	return nil, nil
}

// countedHub counts what comes from the hub.
type countedHub struct {
	*hub.Source
	n *Node
}

// Chunk implements fetch.Source.
func (s countedHub) Chunk(ctx context.Context, t manifest.Hash, index int) ([]byte, error) {
	b, err := s.Source.Chunk(ctx, t, index)
	s.n.moved.fromHub.Add(uint64(len(b)))
	return b, err
}

// learn asks the nodes that have a model where it comes from and notes the first
// answer that makes sense, so that its weights can be had when those nodes are
// gone. The weights are checked wherever they come from.
func (m *mesh) learn(ctx context.Context, id manifest.Hash) {
	if m.n.store.Origin(id) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, originTime)
	defer cancel()
	holders := m.holders(id)
	answers := make([]*weftv1.Origin, len(holders))
	var wg sync.WaitGroup
	for i, p := range holders {
		wg.Go(func() {
			var err error
			if answers[i], err = m.weights.Origin(ctx, p.String(), id); err != nil {
				m.n.log.Debug("node does not say where a model comes from", "peer", p, "error", err)
			}
		})
	}
	wg.Wait()
	for i, a := range answers {
		if a == nil {
			continue
		}
		o := &store.Origin{Repo: a.Repo, Revision: a.Revision}
		for _, f := range a.Files {
			o.Files = append(o.Files, store.OriginFile{Path: f.GetPath(), Size: f.GetSize(), SHA256: f.GetSha256()})
		}
		if err := m.n.store.SetOrigin(id, o); err != nil {
			m.n.log.Warn("what a node says of a model's origin is of no use", "peer", holders[i], "error", err)
			continue
		}
		return
	}
}
