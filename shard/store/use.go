package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weft-mesh/weft/shard/store/manifest"
)

// use is a model that this process has open. Other processes learn of it by a locked file: the lock ends with the process,
// however it ends.
type use struct {
	refs int
	lock *os.File // nil where the system has no locks
}

// lockSuffix ends the names of the files in useDir that say that a process uses a model. The file without it is empty: its
// modification time is when the model was used last.
const lockSuffix = ".lock"

func (s *Store) useDir() string { return filepath.Join(s.dir, "use") }

// begin notes that a model is in use until end.
func (s *Store) begin(id manifest.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.uses[id]
	if u == nil {
		u = &use{}
		if err := u.announce(s.useDir(), id); err != nil {
			s.opt.Logger.Warn("other processes do not learn that a model is in use", "model", id.Short(), "error", err)
		}
		s.uses[id] = u
	}
	u.refs++
	s.touch(id)
}

func (u *use) announce(dir string, id manifest.Hash) error {
	f, err := os.CreateTemp(dir, id.String()+".*"+lockSuffix)
	if err != nil {
		return err
	}
	if err := tryLock(f); err != nil {
		return errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	u.lock = f
	return nil
}

// end takes one use away.
func (s *Store) end(id manifest.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.uses[id]
	if u == nil {
		return
	}
	s.touch(id)
	if u.refs--; u.refs > 0 {
		return
	}
	delete(s.uses, id)
	if u.lock != nil {
		_ = u.lock.Close()
		_ = os.Remove(u.lock.Name())
	}
}

// touch notes that a model is used now. That it cannot be noted costs an order of eviction, no more.
func (s *Store) touch(id manifest.Hash) {
	path := filepath.Join(s.useDir(), id.String())
	now := s.opt.Now()
	if err := os.Chtimes(path, now, now); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(path, nil, 0o600); err == nil {
			_ = os.Chtimes(path, now, now)
		}
	}
}

// LastUsed is when a model was opened or closed last; the zero time if it never was.
func (s *Store) LastUsed(id manifest.Hash) time.Time {
	st, err := os.Stat(filepath.Join(s.useDir(), id.String()))
	if err != nil {
		return time.Time{}
	}
	return st.ModTime()
}

// inUse gives the models that are open, in this process or in another one.
func (s *Store) inUse() (here, elsewhere map[manifest.Hash]bool, err error) {
	files, err := os.ReadDir(s.useDir())
	if err != nil {
		return nil, nil, fmt.Errorf("find out which models are in use: %w", err)
	}
	here, elsewhere = make(map[manifest.Hash]bool), make(map[manifest.Hash]bool)
	own := make(map[string]bool)
	s.mu.Lock()
	for id, u := range s.uses {
		here[id] = true
		if u.lock != nil {
			own[filepath.Base(u.lock.Name())] = true
		}
	}
	s.mu.Unlock()
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), lockSuffix)
		if !ok || own[f.Name()] {
			continue
		}
		hex, _, _ := strings.Cut(name, ".")
		if id, err := manifest.ParseHash(hex); err == nil && s.held(filepath.Join(s.useDir(), f.Name())) {
			elsewhere[id] = true
		}
	}
	return here, elsewhere, nil
}

// held reports whether a process holds the lock of a file. One that nobody holds was left by a crash and is deleted.
func (s *Store) held(path string) bool {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	defer func() { _ = f.Close() }()
	if err := tryLock(f); err != nil {
		return true
	}
	st, err := f.Stat()
	if err == nil && s.opt.Now().Sub(st.ModTime()) > debrisAge { // its maker may be about to lock it
		_ = os.Remove(path)
	}
	return false
}
