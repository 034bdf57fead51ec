package scheduler_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weft-mesh/weft/scheduler"
)

func gpu(name string, mem int64, bps float64) scheduler.Device {
	return scheduler.Device{Name: name, MemFree: mem, MemTotal: mem, DecodeBps: bps, PrefillOps: bps * 100}
}

// drawDevices gives a node no device most of the time, else one or two.
func drawDevices(t *rapid.T) []scheduler.Device {
	var out []scheduler.Device
	for range max(0, rapid.IntRange(-2, 2).Draw(t, "devices")) {
		d := gpu("gpu", int64(rapid.IntRange(0, 90).Draw(t, "vram"))*1e6, float64(rapid.IntRange(1, 300).Draw(t, "device speed"))*1e9)
		d.Shared = rapid.IntRange(0, 3).Draw(t, "shared") == 0
		d.Layer = drawLayer(t)
		out = append(out, d)
	}
	return out
}

// drawLayer is what a layer takes beside its weights; half of the time nobody knows.
func drawLayer(t *rapid.T) time.Duration {
	return time.Duration(max(0, rapid.IntRange(-300, 300).Draw(t, "layer"))) * time.Microsecond
}

// weighs is what layers of a model weigh in memory and what a token reads of them.
func weighs(m scheduler.Model, first, last int) (bytes, read int64) {
	for _, b := range m.LayerBytes[first : last+1] {
		bytes += b
	}
	read = bytes - idle(m, first, last) + int64(last-first+1)*m.KVBytes*256
	end := last == len(m.LayerBytes)-1
	if first == 0 || end && m.Tied {
		bytes += m.EmbedBytes
	}
	if end {
		bytes += m.HeadBytes
		read += m.HeadBytes
		if m.Tied {
			read += m.EmbedBytes
		}
	}
	return bytes, read
}

// speedOf is a device's speed for one more session.
func speedOf(n scheduler.Node, device int) float64 {
	bps := n.DecodeBps
	if device != scheduler.Host {
		bps = n.Devices[device].DecodeBps
	}
	return bps / slower(n)
}

// layerOf is what a layer of 10 MB takes on a device.
func layerOf(n scheduler.Node, device int) time.Duration {
	layer := n.Layer
	if device != scheduler.Host {
		layer = n.Devices[device].Layer
	}
	return time.Duration(10e6/speedOf(n, device)*1e9 + float64(layer)*slower(n))
}

// slower is how much longer one more session's steps take than a measured one.
func slower(n scheduler.Node) float64 {
	f := float64(1 + n.Sessions)
	if n.Correction > 0 {
		f *= n.Correction
	}
	return f
}

// reads is the node as it reads the whole model: on a line between what a byte
// takes at 47 MB and at five times as much.
func reads(n scheduler.Node, m scheduler.Model) scheduler.Node {
	_, read := weighs(m, 0, len(m.LayerBytes)-1)
	if n.FarBps > 0 && n.FarBps < n.DecodeBps {
		part := min(1, max(0, (float64(read)-47_185_920)/(4*47_185_920)))
		n.DecodeBps = 1 / ((1-part)/n.DecodeBps + part/n.FarBps)
	}
	n.FarBps = 0
	return n
}

// priceDevices is the step of layers where Lay puts them, summed up by the design.
func priceDevices(m scheduler.Model, n scheduler.Node, first, last int) (time.Duration, bool) {
	parts, err := scheduler.Lay(n, m, first, last, m.Context)
	if err != nil {
		return 0, false
	}
	step := 50 * time.Microsecond
	for i, p := range parts {
		if i > 0 {
			step += 30 * time.Microsecond
		}
		_, read := weighs(m, p.First, p.Last)
		layer := n.Layer
		if p.Device != scheduler.Host {
			layer = n.Devices[p.Device].Layer
		}
		step += time.Duration(float64(read)/speedOf(n, p.Device)*1e9 + float64(layer)*float64(p.Last-p.First+1)*slower(n))
	}
	return step, true
}

// keepsDevices fails unless parts cover the layers once within each device's memory.
func keepsDevices(t rapid.TB, m scheduler.Model, n *scheduler.Node, first, last, positions int, parts []scheduler.Part) {
	next, host := first, n.MemFree
	seen := map[int]bool{}
	for _, p := range parts {
		if p.First != next || p.Last < p.First || seen[p.Device] {
			t.Fatalf("gap, overlap or a device twice: %+v", parts)
		}
		next, seen[p.Device] = p.Last+1, true
		bytes, _ := weighs(m, p.First, p.Last)
		kv := int64(p.Last-p.First+1) * m.KVBytes * int64(positions)
		if p.Bytes != bytes || p.KVBytes != kv {
			t.Fatalf("%+v takes %d and %d", p, bytes, kv)
		}
		need := bytes + kv + m.StepBytes
		if p.Device == scheduler.Host || n.Devices[p.Device].Shared {
			host -= need
		}
		if p.Device != scheduler.Host && need > n.Devices[p.Device].MemFree || host < 0 {
			t.Fatalf("%+v does not fit: %+v of %+v", p, parts, *n)
		}
	}
	if next != last+1 {
		t.Fatalf("layers from %d on are missing: %+v", next, parts)
	}
}

// fitsSomehow tries every cut of the layers over the devices in an order.
func fitsSomehow(m scheduler.Model, n *scheduler.Node, order []int, first, last int, host int64) bool {
	if first > last {
		return true
	}
	if len(order) == 0 {
		return false
	}
	if fitsSomehow(m, n, order[1:], first, last, host) {
		return true
	}
	d := order[0]
	for end := first; end <= last; end++ {
		bytes, _ := weighs(m, first, end)
		need, left := bytes+m.StepBytes+int64(end-first+1)*m.KVBytes*int64(m.Context), host
		if d == scheduler.Host || n.Devices[d].Shared {
			left -= need
		}
		if left >= 0 && (d == scheduler.Host || need <= n.Devices[d].MemFree) && fitsSomehow(m, n, order[1:], end+1, last, left) {
			return true
		}
	}
	return false
}

func TestLayersAreLaidWithinMemoryWhereverTheyFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := model(rapid.IntRange(1, 7).Draw(t, "layers"))
		m.Tied = rapid.Bool().Draw(t, "tied")
		n := node("n", int64(rapid.IntRange(0, 90).Draw(t, "mem"))*1e6, 10e9)
		n.Devices = drawDevices(t)
		first := rapid.IntRange(0, len(m.LayerBytes)-1).Draw(t, "first")
		last := rapid.IntRange(first, len(m.LayerBytes)-1).Draw(t, "last")
		parts, err := scheduler.Lay(n, m, first, last, m.Context)
		if err == nil {
			keepsDevices(t, m, &n, first, last, m.Context, parts)
			alone := n
			alone.Devices = nil
			if _, err := scheduler.Lay(alone, m, first, last, m.Context); err == nil {
				with, _ := priceDevices(m, n, first, last)
				without, _ := priceDevices(m, alone, first, last)
				if with > without+time.Duration(len(parts))*30*time.Microsecond {
					t.Fatalf("%v with devices, %v without: %+v", with, without, parts)
				}
			}
			return
		}
		if !errors.Is(err, scheduler.ErrNoRoom) {
			t.Fatal(err)
		}
		var order []int
		for i, d := range n.Devices {
			if d.MemFree > 0 {
				order = append(order, i)
			}
		}
		order = append(order, scheduler.Host)
		slices.SortStableFunc(order, func(a, b int) int { return int(layerOf(n, a) - layerOf(n, b)) })
		shared := slices.ContainsFunc(n.Devices, func(d scheduler.Device) bool { return d.Shared })
		if !shared && fitsSomehow(m, &n, order, first, last, n.MemFree) {
			t.Fatalf("%v, though it fits: %+v", err, n)
		}
	})
}

func TestAFastDeviceIsFilledFirstAndHasTheOutputMatrix(t *testing.T) {
	n := node("n", 1e9, 10e9)
	n.Devices = []scheduler.Device{gpu("slow", 60e6, 100e9), gpu("fast", 60e6, 400e9), gpu("slower than the processor", 1e9, 1e9)}
	parts, err := scheduler.Lay(n, model(12), 0, 11, 1000)
	if err != nil {
		t.Fatal(err)
	}
	want := []scheduler.Part{
		{Device: scheduler.Host, First: 0, Last: 2, Bytes: 35e6, KVBytes: 3e6},
		{Device: 0, First: 3, Last: 7, Bytes: 50e6, KVBytes: 5e6},
		{Device: 1, First: 8, Last: 11, Bytes: 45e6, KVBytes: 4e6},
	}
	if diff := cmp.Diff(want, parts); diff != "" {
		t.Error(diff)
	}
	m := model(12)
	m.HeadBytes = 80e6 // no card holds it
	parts, err = scheduler.Lay(n, m, 0, 11, 1000)
	if err != nil || parts[0].Device != 1 || parts[len(parts)-1].Device != scheduler.Host {
		t.Errorf("a large output matrix: %+v %v", parts, err)
	}
	for name, bad := range map[string][2]int{"before the first": {-1, 3}, "beyond the last": {3, 12}, "backwards": {4, 3}} {
		if _, err := scheduler.Lay(n, model(12), bad[0], bad[1], 1000); err == nil {
			t.Errorf("layers %s are laid", name)
		}
	}
}

func TestAWantedDeviceIsFilledWhateverItsSpeed(t *testing.T) {
	n := node("n", 1e9, 100e9)
	n.Devices = []scheduler.Device{gpu("wanted", 60e6, 1e9), gpu("fast", 60e6, 400e9)}
	n.Devices[0].First = true
	parts, err := scheduler.Lay(n, model(12), 0, 11, 1000)
	want := []scheduler.Part{
		{Device: scheduler.Host, First: 0, Last: 2, Bytes: 35e6, KVBytes: 3e6},
		{Device: 1, First: 3, Last: 7, Bytes: 50e6, KVBytes: 5e6},
		{Device: 0, First: 8, Last: 11, Bytes: 45e6, KVBytes: 4e6},
	}
	if diff := cmp.Diff(want, parts); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestANodeWithADeviceIsPlannedWithItsSpeedAndMemory(t *testing.T) {
	s := scheduler.Snapshot{Head: "b", Nodes: []scheduler.Node{node("a", 200e6, 20e9), node("b", 60e6, 10e9)}}
	s.Nodes[1].Devices = []scheduler.Device{gpu("card", 100e6, 500e9)}
	p, err := scheduler.Make(s, model(12))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Stages) != 1 || p.Stages[0].Node != "b" || len(p.Stages[0].Parts) != 2 || p.Stages[0].Parts[1].Device != 0 {
		t.Fatalf("stages %+v", p.Stages)
	}
	if !strings.Contains(strings.Join(p.Why, "\n"), "on card") {
		t.Errorf("why: %q", p.Why)
	}
	// The plan takes the memory; its price is that of the devices empty.
	now, err := scheduler.Price(s, model(12), p.Stages)
	if err != nil || now.TPOT != p.TPOT {
		t.Errorf("%v %v %v", now.TPOT, p.TPOT, err)
	}
	s.Nodes[1].Devices[0].MemFree = 0
	if now, err := scheduler.Price(s, model(12), p.Stages); err != nil || now.TPOT != p.TPOT {
		t.Errorf("a full device: %v %v %v", now.TPOT, p.TPOT, err)
	}
	s.Nodes[1].Devices = nil
	if now, err := scheduler.Price(s, model(12), p.Stages); err != nil || now.TPOT < 2*p.TPOT {
		t.Errorf("without it: %v %v %v", now.TPOT, p.TPOT, err)
	}
}

func TestRoomForMoreSessionsMovesNoLayerOffADevice(t *testing.T) {
	n := node("a", 400e6, 10e9)
	n.Devices = []scheduler.Device{gpu("card", 143e6, 500e9)}
	p, err := scheduler.Make(scheduler.Snapshot{Head: "a", Nodes: []scheduler.Node{n}}, model(12))
	if err != nil {
		t.Fatal(err)
	}
	st := p.Stages[0]
	if len(st.Parts) != 1 || st.Parts[0].Device != 0 || st.KVPositions != 1000 {
		t.Errorf("%+v", st)
	}
	n.Devices[0].MemFree = 160e6
	if p, err = scheduler.Make(scheduler.Snapshot{Head: "a", Nodes: []scheduler.Node{n}}, model(12)); err != nil || len(p.Stages[0].Parts) != 1 || p.Stages[0].KVPositions < 2000 {
		t.Errorf("%+v %v", p.Stages, err)
	}
}
