package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/weft-mesh/weft/kernels/quant"
	"github.com/weft-mesh/weft/shard/store/fetch"
	"github.com/weft-mesh/weft/shard/store/manifest"
	"github.com/weft-mesh/weft/shard/store/packed"
)

// Model gives the tensors of one entry; it is the model.Source of a stage. Any number of goroutines may use it. What
// Matrix returned stays valid until Close.
type Model struct {
	store    *Store
	entry    Entry
	manifest *manifest.Manifest

	mu     sync.Mutex // guards the fields below
	held   map[string]*packed.File
	wanted map[string]bool // names of files that somebody asked for; nil before anybody did: all are needed
	closed bool
}

// ErrClosed is wrapped by the errors of a closed Model.
var ErrClosed = errors.New("the model is closed")

// Model opens an entry's model, whose weights MakeRoom leaves alone until Close. It reads the manifest only.
func (s *Store) Model(e Entry) (*Model, error) {
	m, err := s.Manifest(e.Model)
	if err != nil {
		return nil, fmt.Errorf("open model %s: %w", e.Ref(), err)
	}
	return s.openModel(e, m), nil
}

func (s *Store) openModel(e Entry, m *manifest.Manifest) *Model {
	s.begin(e.Model)
	out := &Model{store: s, entry: e, manifest: m, held: make(map[string]*packed.File)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.models[out] = struct{}{}
	return out
}

// want notes that tensors are needed until Close.
func (m *Model) want(tensors []*manifest.Tensor) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wanted == nil {
		m.wanted = make(map[string]bool)
	}
	for _, t := range tensors {
		addNames(m.wanted, packed.SpecOf(t))
	}
}

// addNames adds the names of the files of a tensor, packed and partial.
func addNames(out map[string]bool, spec packed.Spec) {
	part := filepath.Base(fetch.PartPath("", spec.Tensor))
	out[spec.Name()], out[part], out[strings.TrimSuffix(part, ".part")+".map"] = true, true, true
}

// needs adds the names of the files that must stay.
func (m *Model) needs(out map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	for name := range m.wanted {
		out[name] = true
	}
	if m.wanted != nil {
		return
	}
	for i := range m.manifest.Tensors {
		addNames(out, packed.SpecOf(&m.manifest.Tensors[i]))
	}
}

// Entry is what the model was opened as.
func (m *Model) Entry() Entry { return m.entry }

// Manifest describes the model. It is shared: do not change it.
func (m *Model) Manifest() *manifest.Manifest { return m.manifest }

func (m *Model) tensor(name string) (*manifest.Tensor, error) {
	t, ok := m.manifest.Tensor(name)
	if !ok {
		return nil, fmt.Errorf("model %s has no tensor %s", m.entry.Ref(), name)
	}
	return t, nil
}

// Matrix gives a tensor's packed weights in mapped memory, read-only and valid until Close. It packs the tensor if nobody
// did before, which takes about as long as reading it; Prepare does that for many at once. The error says what is
// missing, e.g. ErrMissing for weights that must be fetched first.
func (m *Model) Matrix(name string) (*quant.Packed, error) {
	t, err := m.tensor(name)
	if err != nil {
		return nil, err
	}
	spec := packed.SpecOf(t)
	if spec.Raw {
		return nil, m.notMatrix(t)
	}
	file, err := m.open(t, spec)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", m.entry.Ref(), err)
	}
	return file.Matrix(), nil
}

// notMatrix says why a tensor has no packed form.
func (m *Model) notMatrix(t *manifest.Tensor) error {
	if len(t.Dims) < 2 {
		return fmt.Errorf("model %s: tensor %s has one dimension; a matrix was expected", m.entry.Ref(), t.Name)
	}
	_, err := quant.Type(t.Type).Bytes(clampDim(t.Rows()), clampDim(t.Cols()))
	if err == nil {
		err = quant.ErrShape
	}
	return fmt.Errorf("model %s: tensor %s: %w; get the model in another quantisation, e.g. Q4_K_M", m.entry.Ref(), t.Name, err)
}

func clampDim(n uint64) int { return int(min(n, 1<<40)) }

// open maps the tensor's packed file, making it first if it is not there, and counts it as held.
func (m *Model) open(t *manifest.Tensor, spec packed.Spec) (*packed.File, error) {
	key := spec.Name()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	if f, ok := m.held[key]; ok {
		return f, nil
	}
	f, err := m.store.acquire(spec)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, packed.ErrDamaged) { // acquire has removed a damaged one
		if err = m.store.ensure(context.Background(), t, m.store.packOptions(false, nil)); err == nil {
			f, err = m.store.acquire(spec)
		}
	}
	if err != nil {
		return nil, err
	}
	m.held[key] = f
	return f, nil
}

// Vector gives the floats of an F32, F16 or BF16 tensor of one row. The slice is the caller's.
func (m *Model) Vector(name string) ([]float32, error) {
	t, err := m.tensor(name)
	if err != nil {
		return nil, err
	}
	if t.Rows() != 1 {
		return nil, fmt.Errorf("model %s: tensor %s has %d dimensions; a vector was expected", m.entry.Ref(), name, len(t.Dims))
	}
	b := make([]byte, 0, min(t.Size, 1<<20))
	for i := range t.Chunks {
		c, err := m.store.chunk(nil, t, i)
		if err != nil {
			return nil, fmt.Errorf("model %s: %w", m.entry.Ref(), err)
		}
		b = append(b, c...)
	}
	v, err := packed.Floats(quant.Type(t.Type), b)
	if err != nil {
		return nil, fmt.Errorf("model %s: tensor %s: %w", m.entry.Ref(), name, err)
	}
	return v, nil
}

// packOptions are the options of packing from a user's file.
func (s *Store) packOptions(verify bool, done func(int64)) packed.Options {
	return packed.Options{FS: s.opt.FS, Slots: s.slots, Parallel: s.opt.Workers, Verify: verify, Done: done}
}

// Prepare packs those of the named tensors that are not packed yet, in parallel, so that Matrix answers at once. Vectors
// of a user's file need no packing. It checks first that the disk has room, and that all weights are on this machine.
func (m *Model) Prepare(ctx context.Context, names []string, progress Progress) error {
	tensors, err := m.tensors(names)
	if err != nil {
		return err
	}
	if err := m.prepare(ctx, tensors, false, progress); err != nil {
		return fmt.Errorf("prepare model %s: %w", m.entry.Ref(), err)
	}
	return nil
}

// tensors are those that are named. From now on they are needed.
func (m *Model) tensors(names []string) ([]*manifest.Tensor, error) {
	out := make([]*manifest.Tensor, 0, len(names))
	for _, name := range names {
		t, err := m.tensor(name)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	m.want(out)
	return out, nil
}

// prepare packs tensors. With whole, also those that a user's file could give as they are, and what was packed is
// compared with its source.
func (m *Model) prepare(ctx context.Context, tensors []*manifest.Tensor, whole bool, progress Progress) error {
	var pending []*manifest.Tensor
	var specs []packed.Spec
	var size uint64
	seen := make(map[string]bool)
	for _, t := range tensors {
		spec := packed.SpecOf(t)
		name := spec.Name()
		if seen[name] || m.store.hasPacked(spec) {
			continue
		}
		seen[name] = true
		src, err := m.store.openSource(t)
		if err != nil {
			return err
		}
		_ = src.Close()
		if whole || !spec.Raw {
			pending = append(pending, t)
			size += t.Size
			specs = append(specs, spec)
		}
	}
	if len(pending) == 0 {
		return nil
	}
	release, err := m.store.reserve(specs, 0)
	if err != nil {
		return err
	}
	defer release()
	meter := newMeter(size, progress, m.store.opt.Now)
	if err := m.store.ensureAll(ctx, pending, m.store.packOptions(whole, meter.add)); err != nil {
		return err
	}
	meter.finish()
	if whole {
		return m.store.opt.FS.SyncDir(m.store.packed)
	}
	return nil
}

// ensureAll packs many tensors, several at a time; all of them share the store's slots.
func (s *Store) ensureAll(ctx context.Context, tensors []*manifest.Tensor, o packed.Options) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan *manifest.Tensor)
	var wg sync.WaitGroup
	for range min(s.opt.Workers, len(tensors)) {
		wg.Go(func() {
			for t := range work {
				if err := s.ensure(ctx, t, o); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, t := range tensors {
		if ctx.Err() != nil {
			break
		}
		work <- t
	}
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}

// Missing gives those of the named tensors whose weights are not on this machine: what a fetch must get.
func (m *Model) Missing(names []string) ([]*manifest.Tensor, error) {
	all, err := m.tensors(names)
	if err != nil {
		return nil, err
	}
	var out []*manifest.Tensor
	for _, t := range all {
		if !m.store.Has(t) {
			out = append(out, t)
		}
	}
	return out, nil
}

// WillNeed asks the system to read a tensor that Matrix gave into memory before it is used. It does not wait.
func (m *Model) WillNeed(name string) { m.advise(name, (*packed.File).WillNeed) }

// Evict gives the resident memory of a tensor that Matrix gave back, e.g. after a device has copied it. Reading it stays
// possible and loads it again.
func (m *Model) Evict(name string) { m.advise(name, (*packed.File).Evict) }

func (m *Model) advise(name string, how func(*packed.File)) {
	t, ok := m.manifest.Tensor(name)
	if !ok {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if f, ok := m.held[packed.SpecOf(t).Name()]; ok {
		how(f)
	}
}

// closeModel ends a model's use.
func (s *Store) closeModel(m *Model) {
	s.mu.Lock()
	delete(s.models, m)
	s.mu.Unlock()
	s.end(m.entry.Model)
}

// Close gives all mapped memory back. What Matrix returned must not be read any more. A second Close does nothing.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	m.store.closeModel(m)
	var err error
	for _, f := range m.held {
		err = errors.Join(err, m.store.release(f.Spec()))
	}
	m.held = nil
	return err
}
