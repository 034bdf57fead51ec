package store

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/weft-mesh/weft/shard/store/manifest"
)

// Origin says where a model's files can be downloaded from: a repository of the hub, at one revision. It does not say
// which hub: that is for each machine to choose.
type Origin struct {
	Repo     string       `json:"repo"`     // owner/name
	Revision string       `json:"revision"` // a commit, or a branch where none is known
	Files    []OriginFile `json:"files"`    // in the order of the split
}

// OriginFile is one of an origin's files.
type OriginFile struct {
	Path   string `json:"path"` // in the repository
	Size   uint64 `json:"size"`
	SHA256 string `json:"sha256"` // of the whole file, in hexadecimal
}

const (
	maxOriginFiles = 4096
	maxOriginPath  = 512
)

var (
	originRepo     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$`)
	originRevision = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$`)
	originSHA      = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Validate returns an error unless the origin names files inside a repository. Another node may have sent it, so nothing
// in it may lead elsewhere.
func (o *Origin) Validate() error {
	switch {
	case !originRepo.MatchString(o.Repo) || strings.Contains(o.Repo, ".."):
		return fmt.Errorf("%.100q is no repository of the hub", o.Repo)
	case !originRevision.MatchString(o.Revision) || strings.Contains(o.Revision, ".."):
		return fmt.Errorf("%.100q is no revision", o.Revision)
	case len(o.Files) == 0 || len(o.Files) > maxOriginFiles:
		return fmt.Errorf("it has %d files; 1 to %d were expected", len(o.Files), maxOriginFiles)
	}
	for _, f := range o.Files {
		if f.Path == "" || len(f.Path) > maxOriginPath || path.Clean("/"+f.Path) != "/"+f.Path || strings.ContainsAny(f.Path, "\\?#\x00") {
			return fmt.Errorf("%.100q is no file of a repository", f.Path)
		}
		if f.Size == 0 || f.Size > 1<<46 || !originSHA.MatchString(f.SHA256) {
			return fmt.Errorf("%.100q has no usable size or hash", f.Path)
		}
	}
	return nil
}

// Origin is where a model of the store can be downloaded from; nil when no entry of it says so.
func (s *Store) Origin(id manifest.Hash) *Origin {
	entries, err := s.List()
	if err != nil {
		return nil
	}
	for i := range entries {
		if entries[i].Model == id && entries[i].Origin != nil {
			return entries[i].Origin
		}
	}
	return nil
}

// SetOrigin notes where a model can be downloaded from, for all its entries that do not know.
func (s *Store) SetOrigin(id manifest.Hash, o *Origin) error {
	if err := o.Validate(); err != nil {
		return fmt.Errorf("note where model %s comes from: %w", id.Short(), err)
	}
	m, err := s.Manifest(id)
	if err == nil && len(o.Files) != len(m.Headers) {
		err = errors.New("it has another number of files than the model")
	}
	if err != nil {
		return fmt.Errorf("note where model %s comes from: %w", id.Short(), err)
	}
	return s.change(func(r *registry) error {
		for i := range r.Entries {
			if r.Entries[i].Model == id && r.Entries[i].Origin == nil {
				r.Entries[i].Origin = o
			}
		}
		return nil
	})
}
