package cpu_test

import (
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/conform"
	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/kernels/quant"
)

// FuzzExperts runs experts of shapes and types made of the input on every tier, beside the
// oracle.
func FuzzExperts(f *testing.F) {
	for i := range quant.Types() {
		f.Add(uint64(i), uint8(7*i), uint8(i), uint8(5*i), uint8(i), uint8(3*i))
	}
	f.Fuzz(func(t *testing.T, seed uint64, count, used, rows, gate, down uint8) {
		var devices []kernels.Device
		for i, tier := range cpu.Tiers() {
			devices = append(devices, must(cpu.New(cpu.Options{Threads: 1 + i%2, Tier: tier}))(t))
		}
		if err := conform.CompareExperts(devices, seed, count, used, rows, gate, down); err != nil {
			t.Error(err)
		}
		for _, d := range devices {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}
