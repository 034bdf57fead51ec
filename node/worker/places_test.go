package worker

import (
	"strings"
	"testing"
	"time"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// placedPlan is a plan of a model whose stage lies on the machine's memory and on a
// device.
func placedPlan(model byte, machine, device uint64, state planState) *plan {
	p := &plan{
		spec: &weftv1.PlanSpec{
			Id:     &weftv1.PlanID{Model: append([]byte{model}, make([]byte, 31)...), Profile: &weftv1.Profile{Contract: 1}, Owner: "a"},
			Stages: []*weftv1.StageSpec{{Peer: "self"}},
		},
		needs: Needs{Weights: machine + device, Places: []Place{{Device: Processor, Bytes: machine}, {Device: 0, Bytes: device, Own: true}, {Device: 1, Bytes: 5}}},
		state: state, changed: make(chan struct{}), idle: time.Unix(int64(model), 0),
	}
	p.key = slotOf(p.spec.Id.Model, p.spec.Id.Profile)
	return p
}

func TestMemoryIsCountedWhereItLies(t *testing.T) {
	n := placedPlan(1, 100, 70, ready).needs
	if n.Machine() != 105 || n.On(0) != 70 || n.On(1) != 0 || n.At(1) != 5 {
		t.Errorf("machine %d, devices %d %d, at %d", n.Machine(), n.On(0), n.On(1), n.At(1))
	}
	if all := (Needs{Weights: 1, KV: 2, Activations: 4}); all.Machine() != 7 || all.On(0) != 0 {
		t.Errorf("without devices: %d, %d", all.Machine(), all.On(0))
	}
}

func TestAnIdlePlanOnTheSameDeviceGivesWay(t *testing.T) {
	w := &Worker{cfg: Config{Offered: func() uint64 { return 1000 }, Room: func(int) uint64 { return 100 }}}
	elsewhere, there := placedPlan(1, 10, 0, ready), placedPlan(2, 10, 60, ready)
	w.book.plans = map[slotKey]*plan{elsewhere.key: elsewhere, there.key: there}
	p := placedPlan(3, 10, 50, reserved)
	victim, reason, reply := w.makeRoom(p)
	if victim != there || reason == "" || reply != nil {
		t.Errorf("%+v gives way, %v", victim, reply)
	}
	there.attached = 1
	if victim, _, reply = w.makeRoom(p); victim != nil || reply == nil || reply.MissingBytes != 0 || !strings.Contains(reply.Error, "device 0") {
		t.Errorf("with the device in use: %+v %v", victim, reply)
	}
	if victim, _, reply = w.makeRoom(placedPlan(4, 10, 40, reserved)); victim != nil || reply != nil {
		t.Errorf("what fits beside it: %+v %v", victim, reply)
	}
	if victim, _, _ = w.makeRoom(placedPlan(5, 980, 0, reserved)); victim != elsewhere {
		t.Errorf("for the machine's memory %+v gives way", victim)
	}
	if _, _, reply = w.makeRoom(placedPlan(6, 990, 0, reserved)); reply == nil || reply.MissingBytes == 0 {
		t.Errorf("too much for the machine: %+v", reply)
	}
}
