package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/store/manifest"
	"github.com/weft-mesh/weft/shard/store/packed"
)

// registry is the store's list of entries, as it stands in models.json.
type registry struct {
	Version int         `json:"version"`
	Last    string      `json:"last_used,omitempty"` // name@hash of the entry that was used last
	Entries []entryJSON `json:"entries"`
	Hashed  []hashed    `json:"hashed,omitempty"` // what files are known to hold; newest last
}

// hashed remembers the model in unchanged files, so that they are not hashed twice.
type hashed struct {
	Files []FileRef     `json:"files"`
	Model manifest.Hash `json:"model"`
}

type entryJSON struct {
	Name    string        `json:"name"`
	Model   manifest.Hash `json:"model"`
	Profile string        `json:"profile"`
	Files   []FileRef     `json:"files,omitempty"`
	Origin  *Origin       `json:"origin,omitempty"`
	Pinned  bool          `json:"pinned,omitempty"`
	Added   time.Time     `json:"added"`
}

const (
	registryVersion = 1
	maxHashed       = 1024
	maxRegistry     = 64 << 20
)

func (s *Store) registryPath() string { return filepath.Join(s.dir, "models.json") }

// read reads the registry. One that is not there is empty.
func (s *Store) read() (*registry, error) {
	path := s.registryPath()
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return &registry{Version: registryVersion}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the list of models: %w", err)
	}
	if st.Size() > maxRegistry {
		return nil, fmt.Errorf("read the list of models: %s has %d bytes, which cannot be right; move it away and add the models again", path, st.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the list of models: %w", err)
	}
	var r registry
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("read the list of models: %s is damaged (%w); move it away and add the models again", path, err)
	}
	if r.Version != registryVersion {
		return nil, fmt.Errorf("read the list of models: %s is of version %d, this build reads %d; use the weft that wrote it", path, r.Version, registryVersion)
	}
	return &r, nil
}

// view gives the registry for reading only: the one that was read last, if the file is the same. It serves every chunk.
func (s *Store) view() (*registry, error) {
	st, err := os.Stat(s.registryPath())
	if err != nil {
		return s.read()
	}
	s.mu.Lock()
	seen, old := s.seen, s.seenAs
	s.mu.Unlock()
	if seen != nil && os.SameFile(old, st) && old.ModTime().Equal(st.ModTime()) && old.Size() == st.Size() {
		return seen, nil
	}
	r, err := s.read()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen, s.seenAs = r, st // looked at before it was read: a newer one is read again
	return r, nil
}

// change reads the registry, lets fn change it, and writes it back, while no other process does so.
func (s *Store) change(fn func(*registry) error) error {
	return s.locked(func(r *registry) error {
		if err := fn(r); err != nil {
			return err
		}
		b, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return fmt.Errorf("write the list of models: %w", err)
		}
		if err := packed.ReplaceFile(s.opt.FS, s.registryPath(), append(b, '\n')); err != nil {
			return fmt.Errorf("write the list of models: %w", err)
		}
		return nil
	})
}

// locked reads the registry and calls fn while no other process changes it.
func (s *Store) locked(fn func(*registry) error) error {
	lock, err := os.OpenFile(filepath.Join(s.dir, "models.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock the list of models: %w", err)
	}
	defer func() { _ = lock.Close() }()
	if err := waitLock(lock); err != nil {
		return fmt.Errorf("lock the list of models: %w", err)
	}
	r, err := s.read()
	if err != nil {
		return err
	}
	return fn(r)
}

// entries are the registry's entries. One whose profile cannot be read is left out.
func (r *registry) entries() []Entry {
	out := make([]Entry, 0, len(r.Entries))
	for _, j := range r.Entries {
		if p, err := model.ParseProfile(j.Profile); err == nil {
			out = append(out, Entry{Name: j.Name, Model: j.Model, Profile: p, Files: j.Files, Origin: j.Origin, Pinned: j.Pinned, Added: j.Added})
		}
	}
	return out
}

func (r *registry) find(name string, id manifest.Hash) int {
	return slices.IndexFunc(r.Entries, func(j entryJSON) bool { return j.Name == name && j.Model == id })
}

// put adds an entry or replaces the one of the same name and model.
func (r *registry) put(e Entry) {
	j := entryJSON{Name: e.Name, Model: e.Model, Profile: e.Profile.String(), Files: e.Files, Origin: e.Origin, Pinned: e.Pinned, Added: e.Added}
	if i := r.find(e.Name, e.Model); i >= 0 {
		r.Entries[i] = j
		return
	}
	r.Entries = append(r.Entries, j)
}

// remember notes what files hold.
func (r *registry) remember(files []FileRef, id manifest.Hash) {
	r.Hashed = slices.DeleteFunc(r.Hashed, func(h hashed) bool { return len(h.Files) == 0 || h.Files[0].Path == files[0].Path })
	r.Hashed = append(r.Hashed, hashed{files, id})
	r.Hashed = r.Hashed[max(0, len(r.Hashed)-maxHashed):]
}

// known is the model that unchanged files are known to hold.
func (r *registry) known(files []FileRef) (manifest.Hash, bool) {
	for _, h := range r.Hashed {
		if slices.Equal(h.Files, files) {
			return h.Model, true
		}
	}
	return manifest.Hash{}, false
}
