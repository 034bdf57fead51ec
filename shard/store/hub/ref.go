package hub

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Ref names a model at the hub.
type Ref struct {
	Repo  string // owner/name
	Quant string // e.g. "Q4_K_M", or a file's name; "" leaves the choice to Pick
}

var repoPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$`)

// IsRef reports whether s is meant as a reference to the hub.
func IsRef(s string) bool { return strings.HasPrefix(s, "hf:") }

// ParseRef reads hf:owner/repo[:quant].
func ParseRef(s string) (Ref, error) {
	rest, ok := strings.CutPrefix(s, "hf:")
	repo, quant, more := strings.Cut(rest, ":")
	if !ok || !repoPattern.MatchString(repo) || strings.Contains(repo, "..") || more && quant == "" || len(quant) > 256 {
		return Ref{}, fmt.Errorf("%q is no model of the hub; write hf:owner/repo or hf:owner/repo:quant, e.g. hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M", s)
	}
	return Ref{Repo: repo, Quant: quant}, nil
}

// String is the form that ParseRef reads.
func (r Ref) String() string {
	if r.Quant == "" {
		return "hf:" + r.Repo
	}
	return "hf:" + r.Repo + ":" + r.Quant
}

// Errors about the choice of a file. The wrapping error lists what there is.
var (
	ErrAmbiguous = errors.New("several files fit")
	ErrNoFile    = errors.New("no file fits")
)

// preference is the order in which Pick tries quantisations when none is named: first what is a good choice for most
// machines, then what is larger, then what is smaller.
var preference = []string{
	"Q4_K_M", "Q4_K_S", "Q4_0", "Q4_1", "IQ4_NL", "IQ4_XS", "MXFP4", "Q5_K_M", "Q5_K_S", "Q5_0", "Q5_1", "Q6_K", "Q8_0",
	"Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K", "F16", "BF16", "F32",
}

var splitPattern = regexp.MustCompile(`-(\d{5})-of-(\d{5})\.gguf$`)

// Pick chooses one model among a repository's files: all files of it, in order. quant is compared without regard to case
// with the parts of names, or with a whole name.
func Pick(files []File, quant string) ([]File, error) {
	models, names := group(files)
	if len(names) == 0 {
		return nil, fmt.Errorf("%w: the repository has no .gguf file; look for one whose name ends in -GGUF", ErrNoFile)
	}
	wanted := []string{quant}
	if quant == "" {
		if len(names) == 1 {
			return whole(models[names[0]])
		}
		wanted = preference
	}
	for _, q := range wanted {
		fit := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !fits(name, q) })
		if len(fit) == 1 {
			return whole(models[fit[0]])
		}
		if len(fit) > 1 {
			return nil, fmt.Errorf("%w %s: %s; name one of them after the colon", ErrAmbiguous, q, strings.Join(fit, ", "))
		}
	}
	if quant == "" {
		return nil, fmt.Errorf("%w among: %s; name one of them after a colon", ErrAmbiguous, strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("%w %s; there are: %s", ErrNoFile, quant, strings.Join(names, ", "))
}

// group puts the files of each model together, under the name of the first.
func group(files []File) (models map[string][]File, names []string) {
	models = make(map[string][]File)
	sorted := slices.SortedFunc(slices.Values(files), func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	for _, f := range sorted {
		base := path.Base(f.Path)
		if !strings.HasSuffix(base, ".gguf") || strings.HasPrefix(base, "mmproj") || strings.Contains(base, "imatrix") {
			continue
		}
		name := f.Path
		if m := splitPattern.FindStringSubmatchIndex(f.Path); m != nil {
			name = f.Path[:m[2]] + "00001" + f.Path[m[3]:]
		}
		if models[name] == nil {
			names = append(names, name)
		}
		models[name] = append(models[name], f)
	}
	return models, names
}

// whole checks that no file of a split is missing.
func whole(files []File) ([]File, error) {
	m := splitPattern.FindStringSubmatch(files[0].Path)
	if m == nil {
		return files, nil
	}
	if count := fmt.Sprintf("%05d", len(files)); m[1] != "00001" || m[2] != count {
		return nil, fmt.Errorf("%w: %s is one of %s parts, the repository has %d of them", ErrNoFile, files[0].Path, m[2], len(files))
	}
	return files, nil
}

// fits reports whether a file's name has quant as a part of its own, or is quant.
func fits(name, quant string) bool {
	if strings.EqualFold(name, quant) || strings.EqualFold(path.Base(name), quant) {
		return true
	}
	name, quant = strings.ToLower(name), strings.ToLower(quant)
	for from := 0; ; {
		i := strings.Index(name[from:], quant)
		if i < 0 {
			return false
		}
		i += from
		if end := i + len(quant); border(name, i-1) && border(name, end) {
			return true
		}
		from = i + 1
	}
}

// border reports whether no word goes on at index i of s.
func border(s string, i int) bool {
	return i < 0 || i >= len(s) || strings.IndexByte("-./", s[i]) >= 0
}
