package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/chat"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/store"
	"github.com/weft-mesh/weft/shard/store/manifest"
	"github.com/weft-mesh/weft/shard/vocab"
)

// opened is a model whose header was read: all that a head needs of it. A stage
// needs less, and a node that only computes spares the time and the memory of
// the vocabulary: it is nil until library.read has given the model out.
type opened struct {
	entry    store.Entry
	manifest *manifest.Manifest
	config   *model.Config
	sizes    model.Sizes

	vocabOnce sync.Once
	vocab     *vocab.Vocab
	vocabErr  error

	tmplOnce sync.Once
	tmpl     *chat.Template
	tmplErr  error
}

// template compiles the model's chat template once.
func (o *opened) template() (*chat.Template, error) {
	o.tmplOnce.Do(func() {
		src, _ := o.vocab.ChatTemplate()
		o.tmpl, o.tmplErr = chat.ForModel(src, func(text string) bool {
			_, ok := o.vocab.ID(text)
			return ok
		})
	})
	return o.tmpl, o.tmplErr
}

// openVocab loads the tokenizer once.
func (o *opened) openVocab() error {
	o.vocabOnce.Do(func() {
		v, err := vocab.Load(o.manifest.Header.Meta)
		switch {
		case err != nil:
			o.vocabErr = api.Errorf(api.KindInvalid, "open model %s: %w", o.entry.Ref(), err)
		case v.Size() > o.config.Vocab:
			o.vocabErr = api.Errorf(api.KindInvalid, "open model %s: the tokenizer has %d tokens, the embedding %d rows", o.entry.Ref(), v.Size(), o.config.Vocab)
		default:
			o.vocab = v
		}
	})
	return o.vocabErr
}

// library opens models by name and keeps what it opened.
type library struct {
	store *store.Store
	// fetch gets a model's manifest from whoever has it; nil without a mesh.
	fetch func(ctx context.Context, id manifest.Hash) ([]byte, error)
	// learn notes where a model of the store comes from; nil without a mesh.
	learn func(ctx context.Context, id manifest.Hash)
	// offered lists the models that other nodes hold; nil without a mesh.
	offered func() []remoteModel
	// refresh asks the other nodes what they hold; nil without a mesh.
	refresh func(ctx context.Context)

	// mu guards cache.
	mu    sync.Mutex
	cache map[string]*opened // by model hash and profile
}

// remoteModel is a model that another node holds.
type remoteModel struct {
	name    string
	id      manifest.Hash
	profile model.Profile
	holders []string // names of nodes that have tensors of it
	tellers []string // names of nodes that have at least its header
}

func (r remoteModel) ref() string { return r.name + "@" + r.id.Short() }

func slotOf(id manifest.Hash, p model.Profile) string { return id.String() + " " + p.String() }

// open finds the model that ref means, here or in the mesh, and reads its
// header. A path of a GGUF file adds the file first.
func (l *library) open(ctx context.Context, ref string, progress func(api.Progress)) (*opened, error) {
	e, err := l.find(ctx, ref, progress)
	if err != nil {
		return nil, err
	}
	return l.read(e)
}

// read opens the header of an entry, with its vocabulary.
func (l *library) read(e store.Entry) (*opened, error) {
	o, err := l.shape(e)
	if err != nil {
		return nil, err
	}
	if err := o.openVocab(); err != nil {
		return nil, err
	}
	return o, nil
}

// shape opens the header of an entry as far as a stage needs it: without the
// vocabulary.
func (l *library) shape(e store.Entry) (*opened, error) {
	if o := l.cached(e); o != nil {
		return o, nil
	}
	m, err := l.store.Manifest(e.Model)
	if err != nil {
		return nil, fmt.Errorf("open model %s: %w", e.Ref(), err)
	}
	return l.keep(e, m)
}

// borrow is shape for a model that may not be in the store: its manifest comes
// from another node then, and stays in memory.
func (l *library) borrow(ctx context.Context, e store.Entry) (*opened, error) {
	o, err := l.shape(e)
	if err == nil || l.fetch == nil {
		return o, err
	}
	b, err := l.fetch(ctx, e.Model)
	if err != nil {
		return nil, fmt.Errorf("get the header of %s: %w", e.Ref(), err)
	}
	m, err := manifest.DecodeAs(b, e.Model)
	if err != nil {
		return nil, fmt.Errorf("get the header of %s: %w", e.Ref(), err)
	}
	return l.keep(e, m)
}

// keyOf tells opened headers apart.
func keyOf(e store.Entry) string { return e.Name + " " + slotOf(e.Model, e.Profile) }

func (l *library) cached(e store.Entry) *opened {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cache[keyOf(e)]
}

// keep reads the configuration in a manifest and remembers it.
func (l *library) keep(e store.Entry, m *manifest.Manifest) (*opened, error) {
	var err error
	o := &opened{entry: e, manifest: m}
	if o.config, err = model.Parse(m.Header.Meta, m.Header.Tensors); err != nil {
		return nil, api.Errorf(api.KindInvalid, "open model %s: %w", e.Ref(), err)
	}
	if o.sizes, err = o.config.Sizes(m.Header.Tensors); err != nil {
		return nil, api.Errorf(api.KindInvalid, "open model %s: %w", e.Ref(), err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.cache) >= 8 { // headers are a few MB each
		clear(l.cache)
	}
	l.cache[keyOf(e)] = o
	return o, nil
}

// find gives the entry that ref means, making one for a file or a model of the mesh.
func (l *library) find(ctx context.Context, ref string, progress func(api.Progress)) (store.Entry, error) {
	if isFile(ref) {
		return l.addFile(ctx, ref, progress)
	}
	e, err := l.store.Resolve(ref)
	if err == nil {
		return e, nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return store.Entry{}, api.Errorf(api.KindConflict, "%w", err)
	}
	remote, rerr := l.match(ref)
	if remote == nil && rerr == nil && l.refresh != nil {
		// A node that has just joined, or a model that was just added: the news
		// may be on its way.
		rctx, cancel := context.WithTimeout(ctx, refreshTime)
		l.refresh(rctx)
		cancel()
		remote, rerr = l.match(ref)
	}
	if rerr != nil {
		return store.Entry{}, rerr
	}
	if remote == nil {
		return store.Entry{}, l.unknown(ref, err)
	}
	progress(api.Progress{Phase: "fetch", Text: "getting the header of " + remote.ref() + " from " + remote.tellers[0]})
	b, err := l.fetch(ctx, remote.id)
	if err != nil {
		return store.Entry{}, api.Errorf(api.KindUnavailable, "get the header of %s: %w", remote.ref(), err)
	}
	e, err = l.store.Import(b, remote.id, store.AddOptions{Name: remote.name, Profile: remote.profile})
	if err != nil {
		return store.Entry{}, fmt.Errorf("enter %s: %w", remote.ref(), err)
	}
	if l.learn != nil {
		l.learn(ctx, e.Model)
	}
	return e, nil
}

// refreshTime bounds the asking of all nodes for a model that nobody is known
// to have.
const refreshTime = 2 * time.Second

func isFile(ref string) bool {
	if !strings.ContainsRune(ref, filepath.Separator) && !strings.HasSuffix(strings.ToLower(ref), ".gguf") {
		return false
	}
	st, err := os.Stat(ref)
	return err == nil && st.Mode().IsRegular()
}

func (l *library) addFile(ctx context.Context, path string, progress func(api.Progress)) (store.Entry, error) {
	e, err := l.store.Add(ctx, path, store.AddOptions{Progress: func(done, total uint64) {
		progress(api.Progress{Phase: "hash", Text: "reading " + filepath.Base(path), Done: int64(done), Total: int64(total), Unit: "bytes"})
	}})
	if err != nil {
		return store.Entry{}, storeError(err)
	}
	return e, nil
}

// match finds the model of the mesh that ref means; nil when none does.
func (l *library) match(ref string) (*remoteModel, error) {
	if l.offered == nil {
		return nil, nil
	}
	name, hash, _ := strings.Cut(ref, "@")
	var fits []remoteModel
	for _, r := range l.offered() {
		if (name == "" || r.name == name) && strings.HasPrefix(r.id.String(), strings.ToLower(hash)) {
			fits = append(fits, r)
		}
	}
	if len(fits) > 1 {
		var refs []string
		for _, r := range fits {
			refs = append(refs, r.ref()+" ("+r.profile.String()+")")
		}
		return nil, api.Errorf(api.KindConflict, "%q fits several models of the mesh: %s; name one of them", ref, strings.Join(refs, ", "))
	}
	if len(fits) == 0 {
		return nil, nil
	}
	return &fits[0], nil
}

func (l *library) unknown(ref string, err error) error {
	var names []string
	if l.offered != nil {
		for _, r := range l.offered() {
			names = append(names, r.name)
		}
	}
	if len(names) == 0 {
		return api.Errorf(api.KindNotFound, "%w", err)
	}
	slices.Sort(names)
	return api.Errorf(api.KindNotFound, "no model %q here or in the mesh, which has: %s", ref, strings.Join(slices.Compact(names), ", "))
}

// storeError gives a store's error its kind.
func storeError(err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return api.Errorf(api.KindNotFound, "%w", err)
	case errors.Is(err, store.ErrAmbiguous), errors.Is(err, store.ErrClash):
		return api.Errorf(api.KindConflict, "%w", err)
	case errors.Is(err, os.ErrNotExist):
		return api.Errorf(api.KindNotFound, "%w", err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	default:
		return api.Errorf(api.KindInvalid, "%w", err)
	}
}

// saltOf is the prefix cache's salt of a tenant.
func saltOf(tenant string) []byte {
	if tenant == "" {
		return nil
	}
	b, err := hex.DecodeString(tenant)
	if err != nil || len(b) > 32 {
		h := manifest.Sum([]byte(tenant))
		return h[:]
	}
	return b
}
