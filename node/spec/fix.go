package spec

import "slices"

// Fix leaves one source by name, and makes the window of every run the same, for
// tests and measurements. It is called before Begin.
func (s *Speculator) Fix(source string, w Window) {
	s.o.Sources = slices.DeleteFunc(slices.Clone(s.o.Sources), func(x Source) bool { return x.Name() != source })
	s.o.Fixed = w
}
