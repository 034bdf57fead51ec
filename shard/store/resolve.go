package store

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// List gives all entries in the order of their names.
func (s *Store) List() ([]Entry, error) {
	r, err := s.read()
	if err != nil {
		return nil, err
	}
	out := r.entries()
	slices.SortFunc(out, func(a, b Entry) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.Model.String(), b.Model.String())
	})
	return out, nil
}

// Resolve finds the one entry that ref means: a name, name@hash (or @hash) with any beginning of the hash, the path of a
// file that was added, or "" for the only entry or the one that was used last. Errors wrap ErrNotFound or ErrAmbiguous
// and list the candidates.
func (s *Store) Resolve(ref string) (Entry, error) {
	r, err := s.read()
	if err != nil {
		return Entry{}, err
	}
	all := r.entries()
	if ref == "" {
		return lastUsed(all, r.Last)
	}
	fit := match(all, ref)
	switch len(fit) {
	case 1:
		return fit[0], nil
	case 0:
		return Entry{}, notFound(all, ref)
	}
	return Entry{}, fmt.Errorf("%w %q: %s; name one as name@hash", ErrAmbiguous, ref, list(fit))
}

// match is the entries that ref may mean. Names go before paths.
func match(all []Entry, ref string) []Entry {
	var fit []Entry
	name, prefix, _ := strings.Cut(ref, "@")
	prefix = strings.ToLower(prefix)
	for _, e := range all {
		if (name == "" && prefix != "" || e.Name == name) && strings.HasPrefix(e.Model.String(), prefix) {
			fit = append(fit, e)
		}
	}
	if len(fit) > 0 {
		return fit
	}
	path, err := filepath.Abs(ref)
	if err != nil {
		return nil
	}
	for _, e := range all {
		if slices.ContainsFunc(e.Files, func(f FileRef) bool { return f.Path == path }) {
			fit = append(fit, e)
		}
	}
	return fit
}

func notFound(all []Entry, ref string) error {
	if st, err := os.Stat(ref); err == nil && st.Mode().IsRegular() {
		return fmt.Errorf("%w: the file %s was not added; do so with: weft add %s", ErrNotFound, ref, ref)
	}
	if len(all) == 0 {
		return fmt.Errorf("%w: %q, and the store is empty; get one with weft pull, or weft add FILE", ErrNotFound, ref)
	}
	return fmt.Errorf("%w: %q; there are: %s", ErrNotFound, ref, list(all))
}

func lastUsed(all []Entry, last string) (Entry, error) {
	if len(all) == 1 {
		return all[0], nil
	}
	for _, e := range all {
		if e.Name+"@"+e.Model.String() == last {
			return e, nil
		}
	}
	if len(all) == 0 {
		return Entry{}, fmt.Errorf("%w: none was named and the store is empty; get one with weft pull, or weft add FILE", ErrNotFound)
	}
	return Entry{}, fmt.Errorf("%w and none was used before; name one of: %s", ErrAmbiguous, list(all))
}

// MarkUsed remembers an entry as the one that was used last.
func (s *Store) MarkUsed(e Entry) error {
	ref := e.Name + "@" + e.Model.String()
	if r, err := s.read(); err == nil && r.Last == ref {
		return nil
	}
	return s.change(func(r *registry) error {
		if r.find(e.Name, e.Model) < 0 {
			return fmt.Errorf("%w: %s was removed meanwhile", ErrNotFound, e.Ref())
		}
		r.Last = ref
		return nil
	})
}
