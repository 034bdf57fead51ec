package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/weft-mesh/weft/shard/store/packed"
)

// mapping is a packed file that is mapped once for all its users in this process.
type mapping struct {
	file *packed.File
	refs int
}

// acquire maps the file of spec, or counts one more user of it. A damaged file is removed, so that the next attempt makes
// it anew; the error says what was wrong.
func (s *Store) acquire(spec packed.Spec) (*packed.File, error) {
	name := spec.Name()
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.mapped[name]; ok {
		m.refs++
		return m.file, nil
	}
	f, err := packed.Open(s.packed, spec)
	if errors.Is(err, packed.ErrDamaged) {
		s.opt.Logger.Warn("packed tensor is damaged and was removed", "file", name, "error", err)
		_ = os.Remove(filepath.Join(s.packed, name))
	}
	if err != nil {
		return nil, err
	}
	s.mapped[name] = &mapping{file: f, refs: 1}
	return f, nil
}

// release takes one user away; the last one unmaps the file.
func (s *Store) release(spec packed.Spec) error {
	name := spec.Name()
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.mapped[name]
	if !ok {
		return fmt.Errorf("packed tensor %s was released more often than it was used", name)
	}
	if m.refs--; m.refs > 0 {
		return nil
	}
	delete(s.mapped, name)
	return m.file.Close()
}
