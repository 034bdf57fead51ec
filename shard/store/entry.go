package store

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/store/manifest"
)

// Errors about entries. The wrapping error lists what there is to choose from.
var (
	ErrNotFound  = errors.New("no such model")
	ErrAmbiguous = errors.New("several models fit")
	ErrClash     = errors.New("the name is taken")
)

// Entry is what a name stands for: a model's manifest and the numeric profile in which it is run. Name and model together
// are unique in a store.
type Entry struct {
	Name    string
	Model   manifest.Hash // identity of the model
	Profile model.Profile
	Files   []FileRef // the user's own files, in the order of the split; none if the store keeps the weights itself
	Origin  *Origin   // where the files can be downloaded from; nil if that is not known
	Pinned  bool      // MakeRoom never deletes its weights
	Added   time.Time
}

// FileRef is a file as it was when it was hashed. A file of another size or modification time is another file.
type FileRef struct {
	Path    string `json:"path"` // absolute
	Size    int64  `json:"size"`
	ModTime int64  `json:"mtime_ns"` // nanoseconds since 1970
}

// Ref is the entry's unique reference, name@hash, with the hash cut short for people.
func (e *Entry) Ref() string { return e.Name + "@" + e.Model.Short() }

// describe is one line for lists of candidates.
func (e *Entry) describe() string {
	where := "kept in the store"
	if len(e.Files) > 0 {
		where = e.Files[0].Path
	}
	return fmt.Sprintf("%s (%s, %s)", e.Ref(), e.Profile, where)
}

// list joins the candidates for an error message.
func list(entries []Entry) string {
	const most = 20
	if len(entries) == 0 {
		return "the store is empty"
	}
	var lines []string
	for i := range entries {
		if i == most {
			lines = append(lines, fmt.Sprintf("and %d more", len(entries)-most))
			break
		}
		lines = append(lines, entries[i].describe())
	}
	return strings.Join(lines, ", ")
}

// maxName is the longest name of an entry in bytes.
const maxName = 128

// CheckName returns an error unless name may be an entry's: letters, digits and ._+:- only, beginning with a letter or a
// digit, and nothing that a reference could mean otherwise.
func CheckName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("a model's name has 1 to %d bytes, %.32q has %d", maxName, name, len(name))
	}
	for i, c := range []byte(name) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || !strings.ContainsRune("._+:-", rune(c))) {
			return fmt.Errorf("%q cannot be a model's name because of %q; use letters, digits and . _ + : -", name, c)
		}
	}
	if strings.HasPrefix(name, "hf:") {
		return fmt.Errorf("%q cannot be a model's name, because hf: begins a reference to the hub", name)
	}
	return nil
}

// NameOf makes an entry's name from a file's name.
func NameOf(file string) string {
	base := file[strings.LastIndexAny(file, `/\`)+1:]
	base = strings.TrimSuffix(base, ".gguf")
	if i := len(base) - len("-00001-of-00002"); i > 0 && splitSuffix(base[i:]) {
		base = base[:i]
	}
	out := strings.Map(func(r rune) rune {
		if r < 0x80 && CheckName("a"+string(r)) == nil {
			return r
		}
		return '-'
	}, base)
	if out = strings.Trim(out, "._+:-"); out == "" {
		out = "model"
	}
	out = strings.TrimPrefix(out, "hf:")
	return strings.TrimRight(out[:min(len(out), maxName)], "._+:-")
}

// splitSuffix reports whether s is like "-00001-of-00002".
func splitSuffix(s string) bool {
	for i, c := range []byte(s) {
		if want := "-00000-of-00000"[i]; want == '0' && (c < '0' || c > '9') || want != '0' && c != want {
			return false
		}
	}
	return true
}
