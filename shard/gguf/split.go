package gguf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
)

// The metadata keys of split models.
const (
	splitNoKey      = "split.no"
	splitCountKey   = "split.count"
	splitTensorsKey = "split.tensors.count"

	maxParts = 1000
)

var splitName = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})\.gguf$`)

// Open opens the model at path, mapped into memory where the system can. Of a split model any part may be named; the
// others must lie beside it. Close the File when no slice of Data is in use any more.
func Open(path string) (*File, error) {
	paths, err := partPaths(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	var parts []part
	var headers []*header
	for _, name := range paths {
		p, h, err := openPart(name)
		if err != nil {
			err = fmt.Errorf("open %s: %w", name, missingPart(err, len(parts), len(paths)))
			return nil, errors.Join(err, closeParts(parts))
		}
		parts, headers = append(parts, p), append(headers, h)
	}
	f, err := join(parts, headers)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), closeParts(parts))
	}
	return f, nil
}

// SplitName is the name of part no (from 0) of count, by the convention that Open follows.
func SplitName(prefix string, no, count int) string {
	return fmt.Sprintf("%s-%05d-of-%05d.gguf", prefix, no+1, count)
}

func missingPart(err error, no, count int) error {
	if count > 1 && errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("part %d of %d is missing; put all parts into one folder: %w", no+1, count, err)
	}
	return err
}

// partPaths lists the files of the model that path belongs to. Only a name of the convention whose header says that it
// is split has more than one.
func partPaths(path string) ([]string, error) {
	p, h, err := openPart(path)
	if err != nil {
		return nil, err
	}
	if err := p.src.Close(); err != nil {
		return nil, err
	}
	count, err := h.meta.UintOr(splitCountKey, 1)
	if err != nil || count <= 1 {
		return []string{path}, err
	}
	m := splitName.FindStringSubmatch(filepath.Base(path))
	if m == nil {
		return nil, fmt.Errorf("the file is one of %d parts, but its name does not end in -00001-of-%05d.gguf, so the others cannot be found; give it its original name", count, count)
	}
	if named, err := strconv.ParseUint(m[3], 10, 32); err != nil || named != count || count > maxParts {
		return nil, fmt.Errorf("the name says that there are %s parts, %s says %d (at most %d); give the file its original name", m[3], splitCountKey, count, maxParts)
	}
	paths := make([]string, count)
	for i := range paths {
		paths[i] = filepath.Join(filepath.Dir(path), SplitName(m[1], i, int(count)))
	}
	return paths, nil
}

func openPart(path string) (part, *header, error) {
	file, err := os.Open(path)
	if err != nil {
		return part{}, nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("this is not a regular file")
	}
	if err != nil {
		return part{}, nil, errors.Join(err, file.Close())
	}
	src, err := openSource(file, info.Size())
	if err != nil {
		return part{}, nil, err
	}
	p, h, err := parsePart(path, src, src, info.Size())
	if err != nil {
		return part{}, nil, errors.Join(err, src.Close())
	}
	return p, h, nil
}

// join makes one File of the parts of a model and checks that they belong together.
func join(parts []part, headers []*header) (*File, error) {
	first := headers[0]
	f := &File{Version: first.version, Alignment: first.alignment, Meta: &first.meta, parts: parts, byName: make(map[string]int)}
	for i, h := range headers {
		if err := checkPart(h, i, len(headers)); err != nil {
			return nil, err
		}
		for _, t := range h.tensors {
			if j, ok := f.byName[t.Name]; ok {
				return nil, fmt.Errorf("tensor %q is in part %d and in part %d; the parts belong to different models", t.Name, f.Tensors[j].Part+1, i+1)
			}
			t.Part = i
			f.byName[t.Name] = len(f.Tensors)
			f.Tensors = append(f.Tensors, t)
		}
	}
	if len(headers) > 1 && first.meta.Has(splitTensorsKey) {
		want, err := first.meta.Uint(splitTensorsKey)
		if err != nil {
			return nil, err
		}
		if want != uint64(len(f.Tensors)) {
			return nil, fmt.Errorf("%s is %d, the parts hold %d tensors; fetch all parts again", splitTensorsKey, want, len(f.Tensors))
		}
	}
	return f, nil
}

func checkPart(h *header, no, count int) error {
	if count == 1 {
		c, err := h.meta.UintOr(splitCountKey, 1)
		if err == nil && c > 1 {
			err = fmt.Errorf("this is one of %d parts of a split model; all of them are needed", c)
		}
		return err
	}
	gotCount, err := h.meta.Uint(splitCountKey)
	if err != nil {
		return fmt.Errorf("part %d: %w", no+1, err)
	}
	gotNo, err := h.meta.Uint(splitNoKey)
	if err != nil {
		return fmt.Errorf("part %d: %w", no+1, err)
	}
	if gotNo != uint64(no) || gotCount != uint64(count) {
		return fmt.Errorf("part %d of %d says that it is part %d of %d; the parts were renamed or mixed up", no+1, count, gotNo+1, gotCount)
	}
	return nil
}
