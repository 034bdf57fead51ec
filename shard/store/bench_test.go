package store_test

import (
	"os"
	"testing"

	"github.com/weft-mesh/weft/shard/store"
)

// BenchmarkAdd hashes a real model that is in the page cache.
func BenchmarkAdd(b *testing.B) {
	path := realModel(b)
	if st, err := os.Stat(path); err == nil {
		b.SetBytes(st.Size())
	}
	for b.Loop() {
		if _, err := open(b, store.Options{}).Add(b.Context(), path, store.AddOptions{Name: "m"}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFirstTouch checks and packs a real model that was hashed before.
func BenchmarkFirstTouch(b *testing.B) {
	path := realModel(b)
	for b.Loop() {
		b.StopTimer()
		m := opened(b, open(b, store.Options{}), path)
		b.SetBytes(int64(m.Manifest().Size()))
		b.StartTimer()
		if err := m.Prepare(b.Context(), namesOf(m.Manifest()), nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWarmStart maps all matrices of a real model that was packed before.
func BenchmarkWarmStart(b *testing.B) {
	s := open(b, store.Options{})
	first := opened(b, s, realModel(b))
	if err := first.Prepare(b.Context(), namesOf(first.Manifest()), nil); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		m, err := s.Model(first.Entry())
		if err != nil {
			b.Fatal(err)
		}
		for i := range m.Manifest().Tensors {
			if t := &m.Manifest().Tensors[i]; len(t.Dims) > 1 {
				if _, err := m.Matrix(t.Name); err != nil {
					b.Fatal(err)
				}
			}
		}
		if err := m.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// opened adds a file and opens the model in it.
func opened(b *testing.B, s *store.Store, path string) *store.Model {
	b.Helper()
	e, err := s.Add(b.Context(), path, store.AddOptions{Name: "m"})
	if err != nil {
		b.Fatal(err)
	}
	m, err := s.Model(e)
	if err != nil {
		b.Fatal(err)
	}
	return m
}
