package opencl_test

import (
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/conform"
	"github.com/weft-mesh/weft/kernels/opencl"
	"github.com/weft-mesh/weft/kernels/quant"
)

// FuzzExperts runs experts of shapes and types made of the input, beside the oracle.
func FuzzExperts(f *testing.F) {
	openCard(f, opencl.Source()).Close()
	for i := range quant.Types() {
		f.Add(uint64(i), uint8(7*i), uint8(i), uint8(5*i), uint8(i), uint8(3*i))
	}
	f.Fuzz(func(t *testing.T, seed uint64, count, used, rows, gate, down uint8) {
		shared.Do(func() { shared.d = newDevice(t) })
		if err := conform.CompareExperts([]kernels.Device{shared.d}, seed, count, used, rows, gate, down); err != nil {
			t.Error(err)
		}
	})
}
