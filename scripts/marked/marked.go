// Package marked rewrites the part of a document that stands between two marks,
// for the programs that write measured figures into docs/benchmarks.md. What
// people wrote outside of the marks stays as it is.
package marked

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// Section is a part of a document between two marks, which stay.
type Section struct{ Begin, End string }

// Write replaces the section of the file at path by text.
func (s Section) Write(path, text string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	now, err := s.Replace(string(old), text)
	if err != nil {
		return fmt.Errorf("write figures into %s: %w", path, err)
	}
	return os.WriteFile(path, []byte(now), 0o644)
}

// Replace gives doc with text in place of what stands between the marks.
func (s Section) Replace(doc, text string) (string, error) {
	before, rest, ok := strings.Cut(doc, s.Begin)
	_, after, end := strings.Cut(rest, s.End)
	if !ok || !end {
		return "", errors.New("its marks are missing: " + s.Begin + " and " + s.End)
	}
	return before + s.Begin + "\n\n" + strings.TrimRight(text, "\n") + "\n\n" + s.End + after, nil
}
