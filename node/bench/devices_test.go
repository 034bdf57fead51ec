package bench

import (
	"slices"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/node/devices"
	"github.com/weft-mesh/weft/node/devices/devicestest"
)

// carded are small measurements on a machine with a card.
func carded() (sizes, *devicestest.Backend) {
	b := &devicestest.Backend{Cards: []*devicestest.Card{{Info: driver.Info{Name: "Card"}, Memory: 1 << 30}}}
	s := small
	s.backends = []devices.Backend{b}
	return s, b
}

func TestEveryDeviceThatIsNamedIsMeasured(t *testing.T) {
	home := t.TempDir()
	for list, want := range map[string]string{"": "1", "cpu": "1", "all": "1 opencl:0", "opencl:0": "opencl:0", "card,cpu": "1 opencl:0"} {
		s, b := carded()
		o := options(t)
		o.Home, o.Devices, o.Threads, o.Prompt, o.Parallel, o.Contexts = home, list, []int{1}, nil, []int{1}, []int{0}
		rep, err := run(t.Context(), o, nil, s)
		if err != nil {
			t.Fatalf("%q: %v", list, err)
		}
		var got, machines, contexts []string
		name := func(threads int, id string) string {
			if id != "" {
				return id
			}
			return string(rune('0' + threads))
		}
		for _, r := range rep.Results {
			got = append(got, name(r.Threads, r.Device))
			// Of a greedy token its id comes back, not the row of logits; a processor counts nothing.
			if r.Device == "" != (r.BytesBack == 0) || r.BytesBack > 64 {
				t.Errorf("%q: %g bytes a token come back from %q", list, r.BytesBack, r.Device)
			}
		}
		for _, m := range rep.Machine {
			machines = append(machines, name(m.Threads, m.ID))
			if m.ReadBps <= 0 || m.ProductOps <= 0 {
				t.Errorf("%q: %+v", list, m)
			}
		}
		for _, c := range rep.Contexts {
			contexts = append(contexts, name(c.Threads, c.Device))
		}
		if w := strings.Fields(want); !slices.Equal(got, w) || !slices.Equal(machines, w) || !slices.Equal(contexts, w) {
			t.Errorf("%q: measured %v on %v and %v, want %v", list, got, machines, contexts, w)
		}
		if n := b.Cards[0].Used(); n != 0 || b.Cards[0].Open.Load() != 0 {
			t.Errorf("%q: the card keeps %d bytes", list, n)
		}
	}
	s, _ := carded()
	o := options(t)
	o.Devices = "voodoo"
	if _, err := run(t.Context(), o, nil, s); err == nil || !strings.Contains(err.Error(), "opencl:0 (Card)") {
		t.Errorf("a device that is not there: %v", err)
	}
}
