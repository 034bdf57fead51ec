package gguf

import (
	"cmp"
	"fmt"
	"slices"
)

// place turns the tensors' offsets into offsets in the file and checks that each lies inside it, aligned, and on bytes
// of its own.
func (h *header) place(size uint64) error {
	if len(h.tensors) == 0 {
		return nil
	}
	for i := range h.tensors {
		t := &h.tensors[i]
		if t.Offset%h.alignment != 0 {
			return fmt.Errorf("tensor %q lies at offset %d, which is no multiple of the alignment %d; the file is damaged", t.Name, t.Offset, h.alignment)
		}
		// Both differences are safe: Offset is compared before it is added, Size is at most maxElements*8.
		if h.data > size || t.Offset > size-h.data || t.Size > size-h.data-t.Offset {
			return h.tooShort(size)
		}
		t.Offset += h.data
	}
	return h.overlaps()
}

// tooShort words the error about tensors beyond the end of the file with the size that it should have.
func (h *header) tooShort(size uint64) error {
	worst, want := h.tensors[0], uint64(0)
	for i := range h.tensors {
		t := h.tensors[i]
		if t.Offset < size { // those already placed count too: their end is inside the file
			t.Offset += h.data
		}
		if end := t.Offset + t.Size; end > want || end < t.Offset {
			worst, want = t, end
		}
	}
	return fmt.Errorf("tensor %q (%d bytes) goes on beyond the end: expected at least %d bytes, file has %d: %w Fetch the file again", worst.Name, worst.Size, want, size, ErrTruncated)
}

func (h *header) overlaps() error {
	order := make([]int, len(h.tensors))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(h.tensors[a].Offset, h.tensors[b].Offset) })
	for i := 1; i < len(order); i++ {
		a, b := h.tensors[order[i-1]], h.tensors[order[i]]
		if b.Offset < a.Offset+a.Size {
			return fmt.Errorf("tensors %q and %q overlap at offset %d; the file is damaged", a.Name, b.Name, b.Offset)
		}
	}
	return nil
}
