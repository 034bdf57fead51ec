package worker

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/weft-mesh/weft/kernels"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// Bounds on what a plan may say.
const (
	hashBytes = 32
	maxStages = 256
	maxPeer   = 128 // bytes of a peer id's text form
	maxName   = 256
	maxLayers = 1024
)

// slotKey names what at most one plan may exist for on a node.
type slotKey struct {
	model   [hashBytes]byte
	profile profileKey
}

// profileKey is a numeric profile as a comparable value.
type profileKey struct{ contract, act, kv, context uint32 }

func slotOf(model []byte, p *weftv1.Profile) slotKey {
	k := slotKey{profile: profileKey{p.GetContract(), p.GetActBits(), p.GetKvType(), p.GetContext()}}
	copy(k.model[:], model)
	return k
}

// planState is how far a plan is on this node.
type planState uint8

const (
	reserved planState = iota // memory is set aside
	loading                   // committed: fetching and loading
	ready
	failed   // loading has failed; err says why
	released // given back, no longer in the book
)

// plan is this node's part in a plan. Worker.mu guards the fields below it.
type plan struct {
	key   slotKey
	spec  *weftv1.PlanSpec // never changed
	stage int              // index of this node in spec.Stages
	needs Needs

	state    planState
	since    time.Time // of state
	orphan   time.Time // since when it is without owner and use; zero: it is not
	idle     time.Time // when the last chain left
	attached int       // chains
	phase    Phase
	done     uint64
	total    uint64
	err      error
	reason   string        // why it was released
	changed  chan struct{} // closed and replaced at every change
	cancel   context.CancelFunc
	stopped  chan struct{} // closed when loading has ended; nil before commit
	served   *served       // once ready
}

func (p *plan) set(s planState, now time.Time) {
	p.state, p.since = s, now
	p.notify()
}

func (p *plan) notify() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// book keeps the accounts of plans and memory. It has no clock and no goroutine;
// Worker.mu guards it.
type book struct {
	plans map[slotKey]*plan
}

// used is what all plans have of the machine's memory, in bytes.
func (b *book) used() uint64 { return b.sum(Needs.Machine) }

// usedOn is what all plans have of a device's memory.
func (b *book) usedOn(device int) uint64 {
	return b.sum(func(n Needs) uint64 { return n.On(device) })
}

func (b *book) sum(of func(Needs) uint64) uint64 {
	var n uint64
	for _, p := range b.plans {
		n += of(p.needs)
	}
	return n
}

// idle lists plans that no chain uses, least recently used first, except those of
// slot key.
func (b *book) idle(key slotKey) []*plan {
	var out []*plan
	for k, p := range b.plans {
		if k != key && p.attached == 0 && (p.state == ready || p.state == failed) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(x, y *plan) int { return x.idle.Compare(y.idle) })
	return out
}

// verdict is what a proposal meets in its slot.
type verdict uint8

const (
	free       verdict = iota
	same               // this very plan is there
	supersedes         // what is there has to go
	conflict           // what is there stays
)

// judge says what a proposal meets. A finished plan stands unless it is broken or
// its own owner proposes a newer generation; of two unfinished ones the smaller
// (generation, owner) wins, so that heads which propose at the same time agree on
// one without talking to each other. A copy displaces nothing that works.
func (b *book) judge(key slotKey, spec *weftv1.PlanSpec, alive func(string) bool) (verdict, *plan) {
	p := b.plans[key]
	if p == nil {
		return free, nil
	}
	if proto.Equal(p.spec, spec) {
		if p.state == failed {
			return supersedes, p
		}
		return same, p
	}
	id, old := spec.Id, p.spec.Id
	switch {
	case p.state == failed || p.broken(alive):
		return supersedes, p
	case spec.Copy: // it has to look for other nodes
		return conflict, p
	case id.Owner == old.Owner:
		if id.Generation > old.Generation {
			return supersedes, p
		}
		return conflict, p
	case p.state == ready:
		return conflict, p
	case ComparePlans(id, old) < 0:
		return supersedes, p
	}
	return conflict, p
}

// broken says that a node of the plan has gone.
func (p *plan) broken(alive func(string) bool) bool {
	for i, s := range p.spec.Stages {
		if i != p.stage && !alive(s.Peer) {
			return true
		}
	}
	return false
}

// ComparePlans orders plans of one model: heads that propose at the same time agree
// on the first.
func ComparePlans(a, b *weftv1.PlanID) int {
	return cmp.Or(cmp.Compare(a.GetGeneration(), b.GetGeneration()), cmp.Compare(a.GetOwner(), b.GetOwner()))
}

// find returns the plan of exactly this id.
func (b *book) find(id *weftv1.PlanID) *plan {
	p := b.plans[slotOf(id.GetModel(), id.GetProfile())]
	if p == nil || !sameID(p.spec.Id, id) {
		return nil
	}
	return p
}

func sameID(a, b *weftv1.PlanID) bool {
	return a.GetGeneration() == b.GetGeneration() && a.GetOwner() == b.GetOwner() &&
		slotOf(a.GetModel(), a.GetProfile()) == slotOf(b.GetModel(), b.GetProfile()) &&
		bytes.Equal(a.GetModel(), b.GetModel())
}

// ErrPlan is wrapped by what is wrong with a plan itself.
var ErrPlan = errors.New("plan is malformed")

// checkPlan checks everything about a plan that can be checked without the model.
func checkPlan(s *weftv1.PlanSpec) error {
	id := s.GetId()
	switch {
	case id == nil || len(id.Model) != hashBytes || id.Profile == nil:
		return fmt.Errorf("%w: model or profile is missing", ErrPlan)
	case id.Owner == "" || len(id.Owner) > maxPeer || len(s.Name) > maxName:
		return fmt.Errorf("%w: owner or name", ErrPlan)
	case s.Layers == 0 || s.Layers > maxLayers:
		return fmt.Errorf("%w: %d layers; 1 to %d were expected", ErrPlan, s.Layers, maxLayers)
	case len(s.Stages) == 0 || len(s.Stages) > maxStages:
		return fmt.Errorf("%w: %d stages; 1 to %d were expected", ErrPlan, len(s.Stages), maxStages)
	}
	if err := checkProfile(id.Profile); err != nil {
		return err
	}
	seen := map[string]bool{}
	next := uint32(0)
	for i, st := range s.Stages {
		switch {
		case st.GetPeer() == "" || len(st.Peer) > maxPeer || len(st.Name) > maxName:
			return fmt.Errorf("%w: peer or name of stage %d", ErrPlan, i)
		case seen[st.Peer]:
			return fmt.Errorf("%w: node %s appears twice", ErrPlan, st.Peer)
		case st.First != next || st.Last < st.First || st.Last >= s.Layers:
			return fmt.Errorf("%w: stage %d has layers %d to %d; its first must be %d, of %d in all", ErrPlan, i, st.First, st.Last, next, s.Layers)
		case st.KvPositions == 0 || st.KvPositions > 1<<32:
			return fmt.Errorf("%w: stage %d has %d KV positions", ErrPlan, i, st.KvPositions)
		}
		seen[st.Peer] = true
		next = st.Last + 1
	}
	if next != s.Layers {
		return fmt.Errorf("%w: the stages end at layer %d of %d", ErrPlan, next, s.Layers)
	}
	return nil
}

func checkProfile(p *weftv1.Profile) error {
	switch {
	case p.Contract != kernels.ContractVersion:
		return fmt.Errorf("%w: arithmetic contract %d, this node computes %d; update the older node", ErrPlan, p.Contract, kernels.ContractVersion)
	case p.ActBits != 8 && p.ActBits != 16:
		return fmt.Errorf("%w: activations of %d bits; 8 or 16 were expected", ErrPlan, p.ActBits)
	case p.KvType > 1:
		return fmt.Errorf("%w: KV type %d; 0 or 1 was expected", ErrPlan, p.KvType)
	case p.Context == 0 || p.Context > 1<<24:
		return fmt.Errorf("%w: context of %d positions", ErrPlan, p.Context)
	}
	return nil
}
