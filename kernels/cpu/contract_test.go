package cpu_test

import (
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/kernels/kernelstest"
)

func TestEveryTierKeepsTheContract(t *testing.T) {
	for _, tier := range cpu.Tiers() {
		t.Run(tier, func(t *testing.T) {
			kernelstest.Run(t, func(threads int) kernels.Device {
				d, err := cpu.New(cpu.Options{Threads: threads, Tier: tier})
				if err != nil {
					t.Fatal(err)
				}
				return d
			})
		})
	}
}
