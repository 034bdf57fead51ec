package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weft-mesh/weft/shard/store/manifest"
	"github.com/weft-mesh/weft/shard/store/packed"
)

// Removed is what Remove did.
type Removed struct {
	Entry Entry
	Bytes int64     // of the store's own files that were deleted
	Kept  []FileRef // the user's files, which are left as they are
}

// Remove takes the entry that ref means out of the list, and deletes the store's files that no other entry needs. The
// user's own files stay. Models that are in use go on working; where the system does not allow to delete a file in use,
// Sweep does so later.
func (s *Store) Remove(ref string) (Removed, error) {
	if ref == "" {
		return Removed{}, errors.New("remove which model? name one")
	}
	e, err := s.Resolve(ref)
	if err != nil {
		return Removed{}, fmt.Errorf("remove: %w", err)
	}
	out := Removed{Entry: e, Kept: e.Files}
	err = s.change(func(r *registry) error {
		i := r.find(e.Name, e.Model)
		if i < 0 {
			return fmt.Errorf("%w: %s was removed meanwhile", ErrNotFound, e.Ref())
		}
		r.Entries = append(r.Entries[:i], r.Entries[i+1:]...)
		if r.Last == e.Name+"@"+e.Model.String() {
			r.Last = ""
		}
		return nil
	})
	if err != nil {
		return Removed{}, fmt.Errorf("remove %s: %w", e.Ref(), err)
	}
	for _, f := range e.Files {
		if s.ownsFile(f.Path) && s.removeDownload(f.Path) == nil { // a download whose packing was cut short
			out.Bytes += f.Size
		}
	}
	n, err := s.collect(func(os.FileInfo) bool { return false })
	out.Bytes += n
	if err != nil {
		return out, fmt.Errorf("remove %s: %w", e.Ref(), err)
	}
	return out, nil
}

// ownsFile reports whether a file is a download of the store's own.
func (s *Store) ownsFile(path string) bool {
	rel, err := filepath.Rel(s.DownloadDir(), path)
	return err == nil && filepath.IsLocal(rel)
}

// removeDownload deletes a download, and the directory that was made for it.
func (s *Store) removeDownload(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if dir := filepath.Dir(path); dir != s.DownloadDir() {
		_ = os.Remove(dir) // fails as long as anything is in it
	}
	return nil
}

// debrisAge is how long nobody must have written to an unfinished file before Sweep deletes it: a command that packs may
// be running beside the daemon.
const debrisAge = 10 * time.Minute

// Sweep deletes what no entry needs and what a crash left half-written, and gives the number of bytes. The holder of the
// home's Lock calls it once, when it starts.
func (s *Store) Sweep() (int64, error) {
	before := s.opt.Now().Add(-debrisAge)
	n, err := s.collect(func(f os.FileInfo) bool {
		ok, _ := filepath.Match(packed.TempPattern, f.Name())
		return ok && f.ModTime().Before(before)
	})
	if err == nil {
		err = s.mendAdopted()
	}
	if err != nil {
		return n, fmt.Errorf("sweep the store: %w", err)
	}
	return n, nil
}

// mendAdopted makes entries forget downloads that were packed and deleted before a crash.
func (s *Store) mendAdopted() error {
	gone := func(f FileRef) bool {
		_, err := os.Stat(f.Path)
		return s.ownsFile(f.Path) && errors.Is(err, os.ErrNotExist)
	}
	r, err := s.read()
	if err != nil || !slices.ContainsFunc(r.Entries, func(e entryJSON) bool { return slices.ContainsFunc(e.Files, gone) }) {
		return err
	}
	return s.change(func(r *registry) error {
		for i := range r.Entries {
			if slices.ContainsFunc(r.Entries[i].Files, gone) {
				r.Entries[i].Files = nil
			}
		}
		return nil
	})
}

// collect deletes manifests, packed files and partial ones that no entry needs, and hidden files that are debris.
func (s *Store) collect(debris func(os.FileInfo) bool) (int64, error) {
	var total int64
	err := s.change(func(r *registry) error { // nobody may enter a model meanwhile
		needed, models, err := s.needed(r)
		if err != nil {
			return err
		}
		whole, err := s.wholeTensors()
		if err != nil {
			return err
		}
		s.forget(models)
		for _, d := range []struct {
			path string
			keep func(name string) bool
		}{
			{s.packed, func(name string) bool { return needed[strings.TrimSuffix(name, filepath.Ext(name))] }},
			{s.PartialDir(), func(name string) bool {
				name = strings.TrimSuffix(name, filepath.Ext(name))
				return needed[name] && !whole[name]
			}},
			{s.manifestDir(), func(name string) bool { return models[name] }},
			{s.useDir(), func(name string) bool { return models[name] || strings.HasSuffix(name, lockSuffix) }},
			{s.dir, func(string) bool { return true }},
		} {
			n, err := deleteIf(d.path, func(f os.FileInfo) bool {
				if strings.HasPrefix(f.Name(), ".") {
					return debris(f)
				}
				return !d.keep(f.Name())
			})
			total += n
			if err != nil {
				return err
			}
		}
		return nil
	})
	return total, err
}

// wholeTensors is the hashes of all tensors that are packed: a fetch that was killed may have left their partial files.
func (s *Store) wholeTensors() (map[string]bool, error) {
	files, err := os.ReadDir(s.packed)
	if err != nil {
		return nil, err
	}
	out := make(map[string]bool, len(files))
	for _, f := range files {
		hash, _, _ := strings.Cut(f.Name(), "-")
		out[hash] = true
	}
	return out, nil
}

// needed lists the file names (without their endings) of all tensors of all entries, and the entries' models.
func (s *Store) needed(r *registry) (tensors, models map[string]bool, err error) {
	tensors, models = make(map[string]bool), make(map[string]bool)
	for _, e := range r.Entries {
		models[e.Model.String()] = true
	}
	for id := range models {
		h, err := manifest.ParseHash(id)
		if err != nil {
			return nil, nil, err
		}
		m, err := s.Manifest(h)
		if err != nil {
			return nil, nil, fmt.Errorf("nothing was deleted, because it is unknown what is still needed: %w", err)
		}
		for i := range m.Tensors {
			name := packed.SpecOf(&m.Tensors[i]).Name()
			tensors[strings.TrimSuffix(name, filepath.Ext(name))] = true
			tensors[m.Tensors[i].Hash.String()] = true // partial files are called by the hash alone
		}
	}
	return tensors, models, nil
}

// forget drops the manifests of models that have no entry.
func (s *Store) forget(models map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.manifests {
		if !models[id.String()] {
			delete(s.manifests, id)
		}
	}
	for h, places := range s.places {
		kept := places[:0:0]
		for _, p := range places {
			if models[p.model.String()] {
				kept = append(kept, p)
			}
		}
		if len(kept) == 0 {
			delete(s.places, h)
			continue
		}
		s.places[h] = kept
	}
}

// deleteIf deletes the regular files of dir that fulfil cond, and gives their bytes.
func deleteIf(dir string, cond func(os.FileInfo) bool) (int64, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	var total int64
	var failed error
	for _, f := range files {
		info, err := f.Info()
		if err != nil || !info.Mode().IsRegular() || !cond(info) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, f.Name())); err == nil {
			total += info.Size()
		} else if !errors.Is(err, os.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	return total, failed
}
