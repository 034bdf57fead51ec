package cuda

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/conform"
	"github.com/weft-mesh/weft/kernels/opencl"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// launches is a card that notes what the loader refuses and goes on.
type launches struct {
	driver.Device
	names   map[string]bool
	refused map[string]error
	older   bool // says that it has no kernels of small matrices
}

func (l *launches) Kernel(name string) (driver.Kernel, error) {
	if l.older && strings.HasPrefix(name, "mma_") {
		return nil, errors.New("the card is too old")
	}
	l.names[name] = true
	return l.Device.Kernel(name)
}

func (l *launches) Launch(k driver.Kernel, groups, local [3]int, args ...driver.Arg) error {
	if err := l.Device.Launch(k, groups, local, args...); err != nil {
		l.refused[k.Name()] = err
	}
	return nil
}

// TestEveryLaunchFitsItsKernel plays the conformance suite on the stand-in, whose kernels do
// nothing: what the device asks for must be in the text, with the arguments that it gives
// and within the sizes of a grid, and nothing may be in the text that nobody asks for.
func TestEveryLaunchFitsItsKernel(t *testing.T) {
	names := map[string]bool{}
	playOnStandIn(t, names, false)
	playOnStandIn(t, names, true)
	p, err := programs[0].read()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(p.module.Kernels)) {
		if !names[name] && !testing.Short() {
			t.Errorf("nothing asks for kernel %s", name)
		}
	}
	for name := range names {
		if _, ok := p.module.Kernels[name]; !ok {
			t.Errorf("the text has no kernel %s", name)
		}
	}
}

func playOnStandIn(t *testing.T, names map[string]bool, older bool) {
	f := newFake(t)
	f.call("fake_fill", 0)
	card := &launches{f.open(), names, map[string]error{}, older}
	opened := f.call("fake_launches")
	d, err := opencl.New(card)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range conform.Cases() {
		depth := conform.Quick
		if !testing.Short() && c.Name == "Products" {
			depth = conform.Full // all widths of both activations
		}
		c.Run([]kernels.Device{d}, depth, func(conform.Difference) {})
	}
	for _, name := range slices.Sorted(maps.Keys(card.refused)) {
		t.Error(card.refused[name])
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	f.nothingLeft()
	if f.call("fake_launches") == opened {
		t.Error("no launch reached the driver")
	}
}
