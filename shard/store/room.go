package store

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weft-mesh/weft/shard/store/fetch"
	"github.com/weft-mesh/weft/shard/store/manifest"
	"github.com/weft-mesh/weft/shard/store/packed"
)

// Usage is what the store takes of its disk.
type Usage struct {
	Used   uint64 // bytes of packed tensors, of partial ones and of downloads
	Budget uint64 // that Used may reach
	Room   uint64 // that may be written now, deleting nothing
}

// freeShare is the share of the free disk that the store takes where no budget was set: nine tenths.
const freeShare = 0.9

// Usage looks at the files' sizes.
func (s *Store) Usage() (Usage, error) {
	var u Usage
	for _, dir := range []string{s.packed, s.PartialDir(), s.DownloadDir()} {
		n, err := sizeOf(dir)
		if err != nil {
			return Usage{}, fmt.Errorf("measure the store: %w", err)
		}
		u.Used += n
	}
	free, err := s.opt.FS.Free(s.dir)
	if err != nil {
		free = math.MaxUint64 >> 1 // the file system does not say; a write that fails does
	}
	u.Budget, u.Room = s.opt.Budget, free
	if u.Budget == 0 {
		u.Room = uint64(freeShare * float64(free))
		u.Budget = u.Used + u.Room
	}
	u.Room = min(u.Room, u.Budget-min(u.Used, u.Budget))
	return u, nil
}

// sizeOf is the bytes of all files under dir. What disappears meanwhile does not count.
func sizeOf(dir string) (uint64, error) {
	var n uint64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				n += uint64(info.Size())
			}
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
	return n, err
}

// reservation is room that somebody is filling with packed tensors.
type reservation struct{ specs []packed.Spec }

// outstanding is what is still to be written of all reservations. s.making is held.
func (s *Store) outstanding() uint64 {
	var n uint64
	for r := range s.reserved {
		for _, spec := range r.specs {
			if !s.hasPacked(spec) {
				n += uint64(spec.Bytes())
			}
		}
	}
	return n
}

// MakeRoom makes sure that need bytes may be written, deleting weights of models that are neither in use nor pinned, those
// that were used longest ago first. When all of them would not be enough it deletes nothing and gives an error that wraps
// packed.ErrNoSpace and says how much is missing and what is kept. What it deletes can be had again: from the user's file,
// from other nodes, or from where the model was pulled.
func (s *Store) MakeRoom(need uint64) error {
	s.making.Lock()
	defer s.making.Unlock()
	return s.makeRoom(need)
}

// reserve is MakeRoom for tensors that are going to be packed and extra bytes beside them. The room is theirs until the
// function that it returns is called.
func (s *Store) reserve(specs []packed.Spec, extra uint64) (release func(), err error) {
	s.making.Lock()
	defer s.making.Unlock()
	need := extra
	for _, spec := range specs {
		need += uint64(spec.Bytes())
	}
	if err := s.makeRoom(need); err != nil {
		return nil, err
	}
	r := &reservation{specs}
	s.reserved[r] = struct{}{}
	return func() {
		s.making.Lock()
		defer s.making.Unlock()
		delete(s.reserved, r)
	}, nil
}

func (s *Store) makeRoom(need uint64) error {
	need += s.outstanding()
	u, err := s.Usage()
	if err != nil {
		return err
	}
	if need <= u.Room {
		return nil
	}
	return s.locked(func(r *registry) error {
		all, err := s.evictable(r)
		if err != nil {
			return err
		}
		missing, could := need-u.Room, uint64(0)
		for _, c := range all {
			could += c.bytes()
		}
		if could < missing {
			return s.noRoom(need, could, u, all)
		}
		for _, c := range all {
			if missing == 0 {
				break
			}
			freed := c.delete()
			missing -= min(missing, freed)
			if freed > 0 {
				s.opt.Logger.Info("weights made room", "model", c.ref, "bytes", freed, "last_used", c.used)
			}
		}
		if missing > 0 {
			return s.noRoom(need, could, u, all)
		}
		return nil
	})
}

// candidate is what the store keeps of a model.
type candidate struct {
	ref   string
	used  time.Time
	files []file // that may be deleted
	kept  uint64 // bytes that may not
	why   string // "" when nothing is kept
}

type file struct {
	path string
	size uint64
}

func (c *candidate) bytes() uint64 {
	var n uint64
	for _, f := range c.files {
		n += f.size
	}
	return n
}

// delete deletes the files and gives the bytes that are free now.
func (c *candidate) delete() uint64 {
	var n uint64
	for _, f := range c.files {
		if os.Remove(f.path) == nil {
			n += f.size
		}
	}
	return n
}

// evictable lists what the store keeps, the model that was used longest ago first. A tensor that several models have
// belongs to the one that was used last, or that may not lose it.
func (s *Store) evictable(r *registry) ([]*candidate, error) {
	models, err := s.candidates(r)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(models, func(a, b *modelUse) int {
		if a.whole() != b.whole() { // what may not be deleted goes first
			return cmp.Compare(b.rank(), a.rank())
		}
		return b.used.Compare(a.used)
	})
	wanted := s.wanted()
	taken := make(map[string]bool)
	var out []*candidate
	for _, m := range models {
		c := &candidate{ref: m.ref, used: m.used, why: m.why}
		for _, f := range s.filesOf(m.manifest) {
			switch name := filepath.Base(f.path); {
			case taken[name]:
			case m.whole() || wanted[name]:
				c.kept += f.size
				c.why = cmp.Or(c.why, "needed by another model")
				taken[name] = true
			default:
				c.files = append(c.files, f)
				taken[name] = true
			}
		}
		out = append(out, c)
	}
	slices.Reverse(out)
	return out, nil
}

// modelUse is a model of the registry and who needs it.
type modelUse struct {
	ref      string
	manifest *manifest.Manifest
	used     time.Time
	why      string // "pinned", "in use"; "" if neither
	partly   bool   // in use by this process alone, which knows what it needs of it
}

// whole reports whether nothing of the model may be deleted.
func (m *modelUse) whole() bool { return m.why != "" && !m.partly }

func (m *modelUse) rank() int {
	if m.whole() {
		return 1
	}
	return 0
}

func (s *Store) candidates(r *registry) ([]*modelUse, error) {
	here, elsewhere, err := s.inUse()
	if err != nil {
		return nil, err
	}
	byModel := make(map[manifest.Hash]*modelUse)
	var out []*modelUse
	entries := r.entries()
	for i := range entries {
		e := &entries[i]
		m := byModel[e.Model]
		if m == nil {
			man, err := s.Manifest(e.Model)
			if err != nil {
				return nil, fmt.Errorf("nothing was deleted, because it is unknown what is still needed: %w", err)
			}
			m = &modelUse{ref: e.Ref(), manifest: man, used: s.LastUsed(e.Model)}
			switch {
			case elsewhere[e.Model]:
				m.why = "in use"
			case here[e.Model]:
				m.why, m.partly, m.used = "in use", true, s.opt.Now()
			}
			byModel[e.Model] = m
			out = append(out, m)
		}
		if e.Pinned {
			m.why, m.partly = "pinned", false
		}
	}
	return out, nil
}

// wanted is the names of the files that this process needs: of the tensors that open models were asked for, of running
// reservations, and partial ones that are being fetched.
func (s *Store) wanted() map[string]bool {
	out := make(map[string]bool)
	s.mu.Lock()
	models := make([]*Model, 0, len(s.models))
	for m := range s.models {
		models = append(models, m)
	}
	for name := range s.packing {
		out[name] = true
	}
	s.mu.Unlock()
	for r := range s.reserved {
		for _, spec := range r.specs {
			addNames(out, spec)
		}
	}
	for _, m := range models {
		m.needs(out)
	}
	return out
}

// filesOf is the store's files of a model that are there.
func (s *Store) filesOf(m *manifest.Manifest) []file {
	var out []file
	seen := make(map[string]bool)
	for i := range m.Tensors {
		t := &m.Tensors[i]
		part := fetch.PartPath(s.PartialDir(), t.Hash)
		for _, path := range []string{filepath.Join(s.packed, packed.SpecOf(t).Name()), part, strings.TrimSuffix(part, ".part") + ".map"} {
			if st, err := os.Stat(path); err == nil && !seen[path] {
				seen[path] = true
				out = append(out, file{path, uint64(st.Size())})
			}
		}
	}
	return out
}

// noRoom says how much is missing, and what a person could do about it.
func (s *Store) noRoom(need, could uint64, u Usage, all []*candidate) error {
	size := packed.Size
	var kept []string
	for _, c := range slices.Backward(all) {
		if c.kept > 0 {
			kept = append(kept, fmt.Sprintf("%s (%s, %s)", c.ref, size(c.kept), c.why))
		}
	}
	if n, err := sizeOf(s.DownloadDir()); err == nil && n > 0 {
		kept = append(kept, fmt.Sprintf("unfinished downloads in %s (%s)", s.DownloadDir(), size(n)))
	}
	missing := need - min(need, u.Room+could)
	text := fmt.Sprintf("%s needs %s more, weft may write %s there (%s used of %s) and could delete %s, %s are missing",
		s.dir, size(need), size(u.Room), size(u.Used), size(u.Budget), size(could), size(missing))
	if len(kept) > 0 {
		text += "; it keeps " + strings.Join(kept, ", ") + ": remove one with weft rm or weft unpin"
	}
	return fmt.Errorf("%w: %s; make room on the disk, give more with weft up --disk, or set WEFT_HOME to a larger disk", packed.ErrNoSpace, text)
}

// Pin keeps MakeRoom from deleting the weights of the entry that ref means, or lets it do so again.
func (s *Store) Pin(ref string, pinned bool) (Entry, error) {
	e, err := s.Resolve(ref)
	if err != nil {
		return Entry{}, err
	}
	e.Pinned = pinned
	return e, s.change(func(r *registry) error {
		i := r.find(e.Name, e.Model)
		if i < 0 {
			return fmt.Errorf("%w: %s was removed meanwhile", ErrNotFound, e.Ref())
		}
		r.Entries[i].Pinned = pinned
		return nil
	})
}

// Kept is what the store keeps of a model.
type Kept struct {
	Bytes    uint64 // of its packed and partial files
	InUse    bool   // by any process
	LastUsed time.Time
}

// Kept looks at the files of an entry's model.
func (s *Store) Kept(e Entry) (Kept, error) {
	m, err := s.Manifest(e.Model)
	if err != nil {
		return Kept{}, err
	}
	here, elsewhere, err := s.inUse()
	if err != nil {
		return Kept{}, err
	}
	out := Kept{InUse: here[e.Model] || elsewhere[e.Model], LastUsed: s.LastUsed(e.Model)}
	for _, f := range s.filesOf(m) {
		out.Bytes += f.size
	}
	return out, nil
}
