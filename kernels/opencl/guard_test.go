package opencl_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/conform"
	"github.com/weft-mesh/weft/kernels/opencl"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

func TestKernelsStayInside(t *testing.T) {
	card := newGuarded(t, openCard(t, opencl.Source()))
	d, err := opencl.New(card)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range conform.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			card.t = t
			c.Run([]kernels.Device{d}, conform.Short, func(x conform.Difference) { t.Errorf("%s: %v", x.Scenario, x.Err) })
		})
	}
	card.t = t
	if card.tried < 1000 {
		t.Errorf("only %d launches were looked at", card.tried)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// complaints is a test that only listens.
type complaints struct {
	testing.TB
	said []string
}

func (c *complaints) Error(args ...any) { c.said = append(c.said, fmt.Sprint(args...)) }
func (c *complaints) Errorf(format string, args ...any) {
	c.said = append(c.said, fmt.Sprintf(format, args...))
}

func TestWritesBesideMemoryAreNoticed(t *testing.T) {
	heard := &complaints{TB: t}
	card := newGuarded(heard, openCard(t, driver.Program{Source: "__kernel void put(__global int *x, int i) { x[i] = 7; }"}))
	m, err := card.Alloc(400)
	if err != nil {
		t.Fatal(err)
	}
	k, err := card.Kernel("put")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   int
		want string
	}{{0, ""}, {99, ""}, {100, "put: memory behind"}, {-1, "put: memory before"}} {
		heard.said = nil
		if err := card.Launch(k, [3]int{1, 1, 1}, [3]int{1, 1, 1}, driver.Mem(m), driver.Int(c.at)); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(heard.said, "; ")
		if !strings.HasPrefix(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("element %d: %q, want %q", c.at, got, c.want)
		}
	}
	if err := card.Close(); err != nil {
		t.Fatal(err)
	}
}
