package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/devices"
	"github.com/weft-mesh/weft/node/worker"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/scheduler"
)

// cards are the devices of this machine beside its processor: none until they are
// opened, which a node does not wait for.
type cards struct {
	mu  sync.Mutex // guards set
	set *devices.Set
	// opened is closed when it is known which there are.
	opened chan struct{}
}

func (c *cards) get() *devices.Set {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.set
}

func (c *cards) put(s *devices.Set) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set = s
}

// openDevices opens the cards: a daemon serves meanwhile, and its plans take them
// in when they are ready; a single run waits, and so does a node that was told which
// to use, to say at once when that cannot be.
func (n *Node) openDevices(ctx context.Context, progress func(api.Progress)) error {
	want := n.cfg.Devices
	if want == "" {
		want = devices.Auto
	}
	if _, err := devices.Parse(want); err != nil {
		close(n.cards.opened)
		return api.Errorf(api.KindInvalid, "%w", err)
	}
	if n.offer == 0 || want == devices.CPU {
		close(n.cards.opened)
		return nil
	}
	o := devices.Options{Want: want, Home: n.cfg.Home, Version: n.cfg.Version, Backends: n.backends, Log: n.log, Memory: n.cfg.VRAM, Patience: n.patience, Unseen: n.blind}
	open := func(ctx context.Context) error {
		defer close(n.cards.opened)
		set, err := devices.Open(ctx, o)
		if err == nil {
			n.cards.put(set)
			err = n.measure(set)
		}
		if len(set.Used()) > 0 {
			n.wg.Go(n.revive)
		}
		return err
	}
	if n.cfg.Solo || want != devices.Auto {
		o.Tell = func(text string) { progress(api.Progress{Phase: "device", Text: text}) }
		if err := open(ctx); err != nil && ctx.Err() == nil {
			return api.Errorf(api.KindInvalid, "%w", err)
		}
		return ctx.Err()
	}
	n.wg.Go(func() {
		if err := open(n.ctx); err != nil && !errors.Is(err, context.Canceled) {
			n.log.Warn("devices are not used", "error", err)
		}
		n.changed()
	})
	return nil
}

// reviveEvery is how often lost devices are looked after.
const reviveEvery = 5 * time.Second

// revive opens lost devices again until the node stops.
func (n *Node) revive() {
	t := time.NewTicker(reviveEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if n.cards.get().Revive(n.ctx) {
				n.changed()
			}
			n.giveBackOld()
		case <-n.ctx.Done():
			return
		}
	}
}

// measure measures the processor of a run without a daemon, where its speed decides
// which layers it computes beside cards.
func (n *Node) measure(set *devices.Set) error {
	if !n.cfg.Solo || len(set.Used()) == 0 {
		return nil
	}
	var err error
	n.speed, err = n.ownSpeed()
	return err
}

// cardsTime bounds the wait of a plan for devices that are being opened: what is
// planned without them would stay without them.
const cardsTime = 10 * time.Second

// awaitDevices waits until it is known which devices this machine has.
func (n *Node) awaitDevices(ctx context.Context) {
	select {
	case <-n.cards.opened:
	case <-time.After(cardsTime):
	case <-ctx.Done():
	}
}

// onCards counts the layers that lie on cards.
func onCards(needs worker.Needs) int {
	layers := 0
	for _, at := range needs.Places {
		if at.Device != worker.Processor {
			layers += at.Last - at.First + 1
		}
	}
	return layers
}

// inUse says whether a plan's memory is not to be had: idle plans give way.
func inUse(p *worker.PlanStats) bool {
	return p.Sessions > 0 || p.Chains > 0 || p.State != weftv1.PlanReply_READY
}

// freeOn is what stages may still take of a card's memory, beside plans in use but
// for those that except names.
func (n *Node) freeOn(card int, plans []worker.PlanStats, except func(*worker.PlanStats) bool) int64 {
	used := int64(0)
	for i := range plans {
		if inUse(&plans[i]) && (except == nil || !except(&plans[i])) {
			used += int64(plans[i].Needs.On(card))
		}
	}
	return max(0, n.cards.get().Room(card)-used)
}

// ownDevices are the cards as the scheduler sees them, and the number of each.
func (n *Node) ownDevices(plans []worker.PlanStats, except func(*worker.PlanStats) bool) (list []scheduler.Device, numbers []int) {
	set := n.cards.get()
	for i, c := range set.Cards() {
		if !c.Used {
			continue
		}
		list = append(list, scheduler.Device{
			Name: c.Name, MemFree: n.freeOn(i, plans, except), MemTotal: c.Room, Shared: c.Shared, First: c.Named,
			DecodeBps: c.Speed.DecodeBps, Layer: c.Speed.Layer, PrefillOps: c.Speed.PrefillOps,
		})
		numbers = append(numbers, i)
	}
	return list, numbers
}

// roomOn implements worker.Config.Room.
func (n *Node) roomOn(card int) uint64 { return uint64(n.cards.get().Room(card)) }
