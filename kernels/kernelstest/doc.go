// Package kernelstest runs the conformance suite of package conform as tests: a
// device that passes Run keeps the arithmetic contract bit for bit.
package kernelstest

import (
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/conform"
)

// Run holds a device to the contract. newDevice makes one with the given number
// of threads (a device without threads of its own ignores it); Run closes it.
// With -short fewer shapes and shorter contexts are tried.
func Run(t *testing.T, newDevice func(threads int) kernels.Device) {
	t.Helper()
	depth := conform.Full
	if testing.Short() {
		depth = conform.Short
	}
	devices := []kernels.Device{newDevice(1), newDevice(3)}
	for _, c := range conform.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			c.Run(devices, depth, func(d conform.Difference) { t.Errorf("%s on %s: %v", d.Scenario, d.Device, d.Err) })
		})
	}
	for _, d := range devices {
		if err := d.Close(); err != nil {
			t.Errorf("close %s: %v", d.Name(), err)
		}
	}
}

// Naive makes the suite's oracle.
func Naive() kernels.Device { return conform.Naive() }
