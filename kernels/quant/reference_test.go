package quant_test

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/weft-mesh/weft/kernels/quant"
)

// The recorded values come from the format's own Python package
// (testdata/decode.py), not from weft.
func TestDecodeEqualsTheFormatsOwnPackage(t *testing.T) {
	const n = 1024
	for _, typ := range quant.Types() {
		data, err := os.ReadFile(filepath.Join("testdata", "decode_"+typ.String()+".bin"))
		if err != nil {
			t.Fatal(err)
		}
		size, err := typ.RowBytes(n)
		if err != nil || int64(len(data)) != size+4*n {
			t.Fatalf("%s: %d bytes of test data, %v", typ, len(data), err)
		}
		got := make([]float32, n)
		if err := quant.Decode(got, typ, data[:size]); err != nil {
			t.Fatal(err)
		}
		for i, v := range got {
			want := math.Float32frombits(binary.LittleEndian.Uint32(data[size+int64(4*i):]))
			if v != want {
				t.Fatalf("%s element %d: %g, want %g", typ, i, v, want)
			}
		}
	}
}
