package node

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weft-mesh/weft/kernels/opencl/driver"
	libraries "github.com/weft-mesh/weft/kernels/opencl/library"
	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/devices"
	"github.com/weft-mesh/weft/node/machine"
	"github.com/weft-mesh/weft/node/worker"
	"github.com/weft-mesh/weft/p2p/gossip"
	"github.com/weft-mesh/weft/scheduler"
)

// processorName is how a stage's part on the processor is called.
const processorName = "processor"

// gpus are the graphics processors of this machine: those that weft's drivers know,
// with what the system knows of the same card, and then those that only the system
// sees. Plans tell what stages have.
func (n *Node) gpus(seen []machine.GPU, plans []worker.PlanStats) []api.GPU {
	set := n.cards.get()
	known := make([]bool, len(seen))
	var out []api.GPU
	for i, c := range set.Cards() {
		g := api.GPU{
			ID: c.ID, Name: c.Name, Vendor: c.Vendor, VRAMTotal: c.Total, VRAMFree: c.Free, Driver: strings.TrimSpace(c.Driver + " " + c.Version),
			Shared: c.Shared, Used: c.Used, Reason: c.Reason,
		}
		if c.Used {
			g.Room, g.DecodeBps, g.PrefillOps = c.Room, c.Speed.DecodeBps, 2*c.Speed.PrefillOps
			for k := range plans {
				g.Held += int64(plans[k].Needs.At(i))
			}
		}
		if k := slices.IndexFunc(seen, func(m machine.GPU) bool { return sameCard(c, m) }); k >= 0 {
			known[k] = true
			g.Celsius, g.Watts = seen[k].Celsius, seen[k].Watts
			if g.VRAMFree == 0 {
				g.VRAMFree = seen[k].VRAMFree
			}
		}
		if c.CPU && !c.Used || !c.Used && c.Twin {
			continue // the processor stands elsewhere, and so does the other view of a card
		}
		out = append(out, g)
	}
	why := n.unseen(set)
	for k, m := range seen {
		if !known[k] {
			out = append(out, api.GPU{
				Name: m.Name, Vendor: m.Vendor, VRAMTotal: m.VRAMTotal, VRAMFree: m.VRAMFree, Driver: m.Driver, Shared: m.Shared,
				Reason: why, Celsius: m.Celsius, Watts: m.Watts,
			})
		}
	}
	return out
}

// sameCard says whether a driver and the system speak of one card.
func sameCard(c devices.Status, m machine.GPU) bool {
	if c.Bus != "" && m.Bus != "" {
		return strings.EqualFold(c.Bus, m.Bus)
	}
	a, b := strings.ToLower(c.Name), strings.ToLower(m.Name)
	return a != "" && b != "" && (strings.Contains(a, b) || strings.Contains(b, a))
}

// unseen is why a card that the system sees is not used, when no driver has told of
// it.
func (n *Node) unseen(set *devices.Set) string {
	switch {
	case strings.EqualFold(strings.TrimSpace(n.cfg.Devices), devices.CPU):
		return "not used: --device cpu"
	case n.offer == 0:
		return "not used: this node offers no memory"
	case !libraries.Loads:
		return "not used: this build of weft loads no drivers"
	}
	select {
	case <-n.cards.opened:
	default:
		return "not used yet: devices are being opened"
	}
	if n.blind && len(set.Cards()) == 0 {
		return "none is seen"
	}
	for _, err := range set.Absent() {
		if !errors.Is(err, driver.ErrAbsent) {
			return "not used: " + err.Error()
		}
	}
	return "not used: no OpenCL or CUDA driver"
}

// partsOf names the devices of a stage's places.
func (n *Node) partsOf(places []worker.Place) []api.StagePart {
	cards := n.cards.get().Cards()
	var out []api.StagePart
	for _, at := range places {
		p := api.StagePart{Device: processorName, First: at.First, Last: at.Last}
		if at.Device >= 0 && at.Device < len(cards) {
			p.Device = cards[at.Device].Name
		}
		out = append(out, p)
	}
	return out
}

// partsPlanned names the devices on which a planner predicts layers.
func partsPlanned(parts []scheduler.Part, list []scheduler.Device) []api.StagePart {
	var out []api.StagePart
	for _, p := range parts {
		one := api.StagePart{Device: processorName, First: p.First, Last: p.Last}
		if p.Device >= 0 && p.Device < len(list) {
			one.Device = list[p.Device].Name
		}
		out = append(out, one)
	}
	return out
}

// recordGPUs are the graphics processors for this node's record, in figures that
// keep still.
func (n *Node) recordGPUs(seen []machine.GPU, plans []worker.PlanStats) []gossip.GPU {
	var out []gossip.GPU
	cards := n.cards.get().Cards()
	for _, g := range n.gpus(seen, plans) {
		r := gossip.GPU{
			Name: g.Name, Vendor: g.Vendor, VRAMTotal: uint64(g.VRAMTotal), VRAMFree: uint64(g.VRAMFree), Driver: g.Driver, Shared: g.Shared,
			Usable: g.Used, Reason: g.Reason, Celsius: g.Celsius, Watts: g.Watts,
		}
		if i := slices.IndexFunc(cards, func(c devices.Status) bool { return c.ID == g.ID }); g.Used && i >= 0 {
			r.StageBytes, r.StageFree = uint64(g.Room), uint64(n.freeOn(i, plans, nil))
			r.DecodeBytesPerSecond, r.PrefillOpsPerSecond, r.First = g.DecodeBps, g.PrefillOps, cards[i].Named
			r.Layer = cards[i].Speed.Layer
		}
		out = append(out, r)
	}
	return n.told.settleGPUs(out)
}

// gpuFigures are the metrics of graphics processors.
func (n *Node) gpuFigures(plans []worker.PlanStats) []gauge {
	var out []gauge
	for _, g := range n.gpus(n.probe.Facts(n.ctx).GPUs, plans) {
		add := func(name, help string, v float64) {
			out = append(out, gauge{name: name, help: help, kind: prometheus.GaugeValue, labels: []string{"gpu", "id"}, values: []string{g.Name, g.ID}, value: v})
		}
		usable := 0.0
		if g.Used {
			usable = 1
			add("weft_gpu_stage_bytes", "Memory of a graphics processor that stages have.", float64(g.Held))
			add("weft_gpu_room_bytes", "Memory of a graphics processor that stages may have.", float64(g.Room))
		}
		add("weft_gpu_used", "Whether weft computes on a graphics processor.", usable)
		if g.Celsius > 0 {
			add("weft_gpu_celsius", "Temperature of a graphics processor.", g.Celsius)
		}
		if g.Watts > 0 {
			add("weft_gpu_watts", "Power that a graphics processor takes.", g.Watts)
		}
	}
	return out
}

// deviceOf is another node's graphics processor for the scheduler.
func deviceOf(g gossip.GPU) scheduler.Device {
	return scheduler.Device{
		Name: g.Name, MemFree: int64(g.StageFree), MemTotal: int64(g.StageBytes), DecodeBps: g.DecodeBytesPerSecond,
		Layer: g.Layer, PrefillOps: g.PrefillOpsPerSecond / 2, Shared: g.Shared, First: g.First,
	}
}

// devicesOf are a record's graphics processors that a plan may count with.
func devicesOf(r *gossip.Record) []scheduler.Device {
	var out []scheduler.Device
	for _, g := range r.GPUs {
		if g.Usable && g.DecodeBytesPerSecond > 0 && g.StageBytes > 0 {
			out = append(out, deviceOf(g))
		}
	}
	slices.SortStableFunc(out, func(a, b scheduler.Device) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
