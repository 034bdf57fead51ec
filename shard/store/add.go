package store

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/store/manifest"
	"github.com/weft-mesh/weft/shard/store/packed"
)

// AddOptions say how a model is entered.
type AddOptions struct {
	Name     string        // "" makes one from the file's name
	Profile  model.Profile // zero fields take their defaults: 8 bits, f16, min(trained, 8192)
	Origin   *Origin       // where the files can be downloaded from; nil if that is not known
	Pinned   bool          // MakeRoom shall never delete the weights
	Progress Progress      // of hashing, then of packing where that belongs to the call
}

// Add enters the model in the file at path, or in all files of the split that it belongs to. The files stay where they
// are and are read from there. Hashing takes the time of reading them once, unless they were hashed before and have not
// changed. Adding the same model again under its name renews the files; a name that another model or profile has is an
// error that wraps ErrClash.
func (s *Store) Add(ctx context.Context, path string, o AddOptions) (Entry, error) {
	e, m, err := s.identify(ctx, path, o)
	if err == nil {
		err = s.enter(&e, m)
	}
	if err != nil {
		return Entry{}, fmt.Errorf("add %s: %w", path, err)
	}
	return e, nil
}

// Adopt enters the model in a file under DownloadDir, which belongs to the store, packs all its tensors, and then removes the files: it is
// kept packed only. When it fails the files are still there, and calling it again goes on.
func (s *Store) Adopt(ctx context.Context, path string, o AddOptions) (Entry, error) {
	e, m, err := s.identify(ctx, path, o)
	if err != nil {
		return Entry{}, fmt.Errorf("adopt %s: %w", path, err)
	}
	files := e.Files
	for _, f := range files {
		if !s.ownsFile(f.Path) {
			return Entry{}, fmt.Errorf("adopt %s: only files under %s are the store's to delete", path, s.DownloadDir())
		}
	}
	if err := s.enter(&e, m); err != nil {
		return Entry{}, fmt.Errorf("adopt %s: %w", path, err)
	}
	whole := s.openModel(e, m)
	defer func() { _ = whole.Close() }()
	all := make([]*manifest.Tensor, len(m.Tensors))
	for i := range m.Tensors {
		all[i] = &m.Tensors[i]
	}
	if err := whole.prepare(ctx, all, true, o.Progress); err != nil {
		return Entry{}, fmt.Errorf("adopt %s: %w", path, err)
	}
	for _, f := range files { // before the entry forgets them: what a crash leaves between is mended by Sweep
		if err := s.removeDownload(f.Path); err != nil {
			return e, fmt.Errorf("the model is in the store, but its download cannot be removed: %w", err)
		}
	}
	e.Files = nil
	if err := s.enter(&e, m); err != nil {
		return Entry{}, fmt.Errorf("adopt %s: %w", path, err)
	}
	return e, nil
}

// Enroll enters a model of which the store has the manifest alone, under a name that must be free as for Add. Its weights
// are fetched when they are needed.
func (s *Store) Enroll(m *manifest.Manifest, o AddOptions) (Entry, error) {
	e := Entry{Name: o.Name, Model: m.ID(), Origin: o.Origin, Pinned: o.Pinned, Added: s.opt.Now().UTC()}
	err := CheckName(e.Name)
	if err == nil {
		e.Profile, err = completeProfile(o.Profile, m.Header.Meta)
	}
	if err == nil && e.Origin != nil {
		err = e.Origin.Validate()
	}
	if err == nil {
		var r *registry
		if r, err = s.read(); err == nil {
			if i := r.find(e.Name, e.Model); i >= 0 { // a file that holds it as well stays in use
				e.Files = r.Entries[i].Files
			}
			err = s.enter(&e, m)
		}
	}
	if err != nil {
		return Entry{}, fmt.Errorf("enter %s: %w", o.Name, err)
	}
	return e, nil
}

// Import enters a model whose manifest came from a peer: b must be the manifest with the identity want. Nothing of its
// weights is here yet; package fetch gets them. Another model of the same name is no clash here, since names of other
// nodes are not ours to choose; Resolve asks which one is meant.
func (s *Store) Import(b []byte, want manifest.Hash, o AddOptions) (Entry, error) {
	m, err := manifest.DecodeAs(b, want)
	if err != nil {
		return Entry{}, fmt.Errorf("import model %s: %w", want.Short(), err)
	}
	e := Entry{Name: o.Name, Model: want, Added: s.opt.Now().UTC()}
	if err := CheckName(e.Name); err != nil {
		return Entry{}, fmt.Errorf("import model %s: %w", want.Short(), err)
	}
	if e.Profile, err = completeProfile(o.Profile, m.Header.Meta); err != nil {
		return Entry{}, fmt.Errorf("import model %s: %w", e.Ref(), err)
	}
	err = s.change(func(r *registry) error {
		if err := s.saveManifest(m); err != nil { // here, so that no collection comes between
			return err
		}
		if i := r.find(e.Name, e.Model); i >= 0 {
			return keepEntry(r, i, &e)
		}
		r.put(e)
		return nil
	})
	if err != nil {
		return Entry{}, fmt.Errorf("import model %s: %w", e.Ref(), err)
	}
	return e, nil
}

// keepEntry makes e the entry i that is already there, unless their profiles differ.
func keepEntry(r *registry, i int, e *Entry) error {
	if r.Entries[i].Profile != e.Profile.String() {
		return fmt.Errorf("%w: %s has the numeric profile %s here, %s there; remove it here with weft rm, or run both with one profile",
			ErrClash, e.Ref(), r.Entries[i].Profile, e.Profile)
	}
	have := &r.Entries[i]
	e.Files, e.Origin, e.Pinned, e.Added = have.Files, have.Origin, have.Pinned, have.Added
	return nil
}

// identify reads the file's header and finds out which model it is.
func (s *Store) identify(ctx context.Context, path string, o AddOptions) (Entry, *manifest.Manifest, error) {
	g, err := gguf.Open(path)
	if err != nil {
		return Entry{}, nil, err
	}
	defer func() { _ = g.Close() }()
	e := Entry{Name: o.Name, Origin: o.Origin, Pinned: o.Pinned, Added: s.opt.Now().UTC()}
	if e.Name == "" {
		e.Name = NameOf(path)
	}
	if err := CheckName(e.Name); err != nil {
		return Entry{}, nil, err
	}
	if e.Profile, err = completeProfile(o.Profile, g.Meta); err != nil {
		return Entry{}, nil, err
	}
	for i, p := range g.Paths() {
		ref, err := refFile(p)
		if err != nil {
			return Entry{}, nil, err
		}
		if ref.Size != g.Parts()[i].Size {
			return Entry{}, nil, fmt.Errorf("%w: %s is being written to; wait until it is whole", ErrSource, p)
		}
		e.Files = append(e.Files, ref)
	}
	m, err := s.manifestOf(ctx, g, e.Files, o.Progress)
	if err != nil {
		return Entry{}, nil, err
	}
	e.Model = m.ID()
	return e, m, nil
}

// manifestOf gives the manifest of files, from memory if they have not changed since they were hashed.
func (s *Store) manifestOf(ctx context.Context, g *gguf.File, files []FileRef, progress Progress) (*manifest.Manifest, error) {
	if r, err := s.read(); err == nil {
		if id, ok := r.known(files); ok {
			if m, err := s.Manifest(id); err == nil {
				return m, nil
			}
		}
	}
	m, err := s.hashFiles(ctx, g, files, progress)
	if err != nil {
		return nil, err
	}
	if err := s.saveManifest(m); err != nil {
		return nil, err
	}
	return m, s.change(func(r *registry) error {
		r.remember(files, m.ID())
		return nil
	})
}

// enter writes a user's entry. The name must be free, or be this very model's.
func (s *Store) enter(e *Entry, m *manifest.Manifest) error {
	return s.change(func(r *registry) error {
		if err := s.saveManifest(m); err != nil { // here, so that no collection comes between
			return err
		}
		all := r.entries()
		for i := range all {
			have := &all[i]
			if have.Name != e.Name {
				continue
			}
			if have.Model != e.Model || have.Profile != e.Profile {
				return fmt.Errorf("%w: %s is here, %s was to be added; give it another name with --name, or remove the old one with weft rm",
					ErrClash, have.describe(), e.describe())
			}
			e.Added, e.Pinned = have.Added, e.Pinned || have.Pinned
			if e.Origin == nil {
				e.Origin = have.Origin
			}
		}
		r.put(*e)
		return nil
	})
}

// manifestPath is where a manifest is kept.
func (s *Store) manifestPath(id manifest.Hash) string {
	return s.manifestDir() + string(os.PathSeparator) + id.String()
}

// saveManifest keeps a manifest on disk and in memory.
func (s *Store) saveManifest(m *manifest.Manifest) error {
	path := s.manifestPath(m.ID())
	if _, err := os.Stat(path); err != nil {
		if err := packed.ReplaceFile(s.opt.FS, path, m.Encode()); err != nil {
			return fmt.Errorf("keep the manifest: %w", err)
		}
	}
	s.know(m)
	return nil
}

// know makes a manifest's tensors findable.
func (s *Store) know(m *manifest.Manifest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.manifests[m.ID()] != nil {
		return
	}
	s.manifests[m.ID()] = m
	for i := range m.Tensors {
		t := &m.Tensors[i]
		s.places[t.Hash] = append(s.places[t.Hash], place{m.ID(), t})
	}
}

// Manifest gives a model's manifest. It is shared: do not change it.
func (s *Store) Manifest(id manifest.Hash) (*manifest.Manifest, error) {
	s.mu.Lock()
	m := s.manifests[id]
	s.mu.Unlock()
	if m != nil {
		return m, nil
	}
	b, err := readBounded(s.manifestPath(id), manifest.MaxBytes)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: the store has no manifest %s; add or pull the model again", ErrNotFound, id.Short())
	}
	if err == nil {
		m, err = manifest.DecodeAs(b, id)
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", id.Short(), err)
	}
	s.know(m)
	return m, nil
}

// readBounded reads a file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d were expected", path, st.Size(), limit)
	}
	return os.ReadFile(path)
}
