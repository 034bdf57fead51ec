package store

import (
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/store/manifest"
	"github.com/weft-mesh/weft/shard/store/packed"
)

// Held is what this machine has of a model.
type Held struct {
	Layers   int           // of the whole model
	Ranges   []model.Range // runs of layers that are here with all their tensors, ascending
	Complete bool          // every tensor is here
	Bytes    uint64        // GGUF bytes of the tensors that are here
}

// Held says which weights of an entry are on this machine. It looks at the files' names and sizes only.
func (s *Store) Held(e Entry) (Held, error) {
	m, err := s.Manifest(e.Model)
	if err != nil {
		return Held{}, err
	}
	r, err := s.read()
	if err != nil {
		return Held{}, err
	}
	referenced := false
	for _, j := range r.Entries {
		referenced = referenced || j.Model == e.Model && intact(j.Files)
	}
	out := Held{Layers: m.Layers(), Complete: true}
	here := make([]bool, out.Layers)
	for i := range here {
		here[i] = true
	}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if referenced || s.hasPacked(packed.SpecOf(t)) {
			out.Bytes += t.Size
			continue
		}
		out.Complete = false
		if n, ok := manifest.Layer(t.Name); ok {
			here[n] = false
		}
	}
	out.Ranges = runs(here)
	return out, nil
}

// runs are the maximal ranges of true.
func runs(here []bool) []model.Range {
	var out []model.Range
	for i := 0; i < len(here); i++ {
		if !here[i] {
			continue
		}
		first := i
		for i < len(here) && here[i] {
			i++
		}
		out = append(out, model.Range{First: first, End: i})
	}
	return out
}

// Footprint is the number of bytes that a stage of these tensors keeps: their packed form for matrices, the floats of
// vectors. It follows from the manifest alone. A tensor that is named twice counts once.
func Footprint(tensors []*manifest.Tensor) uint64 {
	seen := make(map[string]bool, len(tensors))
	var n uint64
	for _, t := range tensors {
		spec := packed.SpecOf(t)
		if name := spec.Name(); !seen[name] {
			seen[name] = true
			n += uint64(max(spec.Bytes()-packed.HeaderBytes, 0))
		}
	}
	return n
}
