package packed

import (
	"bytes"
	"testing"

	"github.com/weft-mesh/weft/kernels/quant"
)

func FuzzHeader(f *testing.F) {
	for _, s := range []Spec{
		{Type: quant.Q4_K, Rows: 17, Cols: 512, Size: 17 * 288},
		{Type: 26, Rows: 1, Cols: 8, Size: 32, Raw: true},
	} {
		b, err := s.header()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, s.Bytes())
		f.Add(b[:usedBytes], s.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		s, err := decodeHeader(b, size)
		if err != nil {
			return
		}
		again, err := s.header()
		if err != nil || !bytes.Equal(again, b[:HeaderBytes]) || s.Bytes() != size || s.Rows < 0 || s.Cols < 0 || s.Name() == "" {
			t.Fatalf("%+v was accepted", s)
		}
	})
}
