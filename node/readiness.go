package node

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/weft-mesh/weft/node/worker"
	"github.com/weft-mesh/weft/p2p/gossip"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/scheduler"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/store/manifest"
)

// claim is what one node says of a plan of a model: how far its stage is, or, of
// a head, how far its plan.
type claim struct {
	peer string
	gossip.Generation
}

// The states of a model, the least advanced first. A percentage may follow
// fetching and loading, a reason degraded.
const (
	stateDegraded = "degraded"
	statePlanning = "planning"
	stateFetching = "fetching"
	stateLoading  = "loading"
	stateProbing  = "probing"
	stateReady    = "ready"
)

var stateRanks = []string{"", stateDegraded, statePlanning, stateFetching, stateLoading, stateProbing, stateReady}

// rank orders states: a higher one is nearer to an answer.
func rank(state string) int {
	word, _, _ := strings.Cut(state, " ")
	switch word = strings.TrimSuffix(word, ":"); word {
	case "reserved":
		word = statePlanning
	case "failed":
		word = stateDegraded
	}
	return max(0, slices.Index(stateRanks, word))
}

// percent is the number in "loading 40%", 0 where there is none.
func percent(state string) int {
	_, n, _ := strings.Cut(state, " ")
	v, err := strconv.Atoi(strings.TrimSuffix(n, "%"))
	if err != nil {
		return 0
	}
	return min(max(v, 0), 100)
}

// readiness is the state of a model by what all nodes say of it, the same for
// every reader of the same claims: "" when no plan of it is known. live says
// whether a node is there; name is its name for people.
func readiness(claims []claim, live func(peer string) bool, name func(peer string) string) string {
	groups := map[string][]claim{}
	best := ""
	better := func(s string) {
		if cmp.Or(cmp.Compare(rank(s), rank(best)), cmp.Compare(percent(s), percent(best)), strings.Compare(best, s)) > 0 {
			best = s
		}
	}
	for _, c := range claims {
		if len(c.Stages) == 0 { // a head's
			better(clean(c.State))
			continue
		}
		key := fmt.Sprint(c.Generation.Generation, c.Stages)
		groups[key] = append(groups[key], c)
	}
	keys := make([]string, 0, len(groups))
	for k := range groups {
		keys = append(keys, k)
	}
	slices.Sort(keys) // equal ranks: the same choice for everybody
	for _, k := range keys {
		better(ofStages(groups[k], live, name))
	}
	return best
}

// clean leaves nothing of a foreign state that is none.
func clean(state string) string {
	if rank(state) == 0 {
		return ""
	}
	return state
}

// ofStages is the state of one plan by the claims of its stages: that of the one
// that is behind the others.
func ofStages(claims []claim, live func(string) bool, name func(string) string) string {
	state := stateReady
	for _, id := range claims[0].Stages {
		st := id.String()
		i := slices.IndexFunc(claims, func(c claim) bool { return c.peer == st })
		switch {
		case !live(st):
			return fmt.Sprintf("%s: node %s is gone", stateDegraded, name(st))
		case i < 0: // its record is behind, or it has given the plan back
			state = statePlanning
		case rank(claims[i].State) <= rank(stateDegraded):
			return fmt.Sprintf("%s: node %s could not load its layers", stateDegraded, name(st))
		case rank(claims[i].State) < rank(state), rank(claims[i].State) == rank(state) && percent(claims[i].State) < percent(state):
			state = claims[i].State
		}
	}
	if rank(state) == rank(statePlanning) {
		return statePlanning
	}
	return state
}

// stageState is how far a stage of this node is, in words. A stage is ready when
// a token has crossed it, not when it is loaded.
func stageState(p worker.PlanStats) string {
	word := stateLoading
	switch p.State {
	case weftv1.PlanReply_RESERVED:
		return "reserved"
	case weftv1.PlanReply_READY:
		if p.Rows == 0 {
			return stateProbing
		}
		return stateReady
	case weftv1.PlanReply_FETCHING:
		word = stateFetching
	case weftv1.PlanReply_LOADING:
	default:
		return "failed"
	}
	if p.Total > 0 {
		word += fmt.Sprintf(" %d%%", 100*min(p.Done, p.Total)/p.Total)
	}
	return word
}

// ours says whether a generation is of that model; an older node does not tell
// the profile.
func ours(g gossip.Generation, id manifest.Hash, profile model.Profile) bool {
	return g.Model == id && (g.Profile == "" || g.Profile == profile.String())
}

// claims are what this node and all others say of a model.
func (n *Node) claims(id manifest.Hash, profile model.Profile) []claim {
	var out []claim
	take := func(peer string, plans []gossip.Generation) {
		for _, g := range plans {
			if ours(g, id, profile) {
				out = append(out, claim{peer, g})
			}
		}
	}
	if n.mesh != nil {
		take(n.plans.self, n.generations())
	}
	for _, m := range n.members() {
		if m.Record != nil {
			take(m.ID.String(), m.Record.Plans)
		}
	}
	return out
}

// stateOf is a model's state as this node sees it: of its own plan if it heads
// one, else by what the mesh says.
func (n *Node) stateOf(id manifest.Hash, profile model.Profile) string {
	if a := n.plans.of(id, profile); a != nil {
		return a.State()
	}
	if s := readiness(n.claims(id, profile), n.peerAlive, n.nodeName); s != "" {
		return s
	}
	return n.plans.failure(slotOf(id, profile))
}

// of is this head's plan of a model, nil when it has none.
func (p *planner) of(id manifest.Hash, profile model.Profile) *active {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.plans[slotOf(id, profile)]
}

// failed is a model that could not be planned or loaded.
type failed struct {
	model *opened
	at    time.Time
	err   error
}

// failedTime is how long the failure to make a plan ready counts as the model's
// state; one for lack of room goes sooner, when there is room.
const failedTime = 5 * time.Minute

// fail remembers that a model has no plan, nil that it has one.
func (p *planner) fail(m *opened, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := slotOf(m.entry.Model, m.entry.Profile)
	if err == nil {
		delete(p.failures, key)
		return
	}
	if p.failures == nil {
		p.failures = map[string]failed{}
	}
	p.failures[key] = failed{m, time.Now(), err}
}

// failure is why a model has no plan, "" when nothing is known against it.
func (p *planner) failure(key string) string {
	p.mu.Lock()
	f, ok := p.failures[key]
	p.mu.Unlock()
	if !ok {
		return ""
	}
	var room *scheduler.NoRoomError
	if errors.As(f.err, &room) {
		if _, err := p.plan(p.snapshot(f.model), f.model); err == nil {
			p.fail(f.model, nil)
			return ""
		}
		if room.Have < room.Need {
			return fmt.Sprintf("%s: %s of memory are missing", stateDegraded, scheduler.Size(room.Need-room.Have))
		}
		return stateDegraded + ": no node has room for whole layers"
	}
	if time.Since(f.at) > failedTime {
		p.fail(f.model, nil)
		return ""
	}
	return stateDegraded + ": " + f.err.Error()
}

// generations are this node's claims: its stages, and the plans that it heads
// and that are not ready, or could not be made.
func (n *Node) generations() []gossip.Generation {
	var out []gossip.Generation
	for _, p := range n.worker.Stats().Plans {
		g := gossip.Generation{Generation: p.Plan.Id.Generation, State: stageState(p), Copy: p.Plan.Copy, Sessions: p.Sessions}
		g.Placed, g.Relaid = n.placedOf(&p), n.laysBetter(&p)
		for _, st := range p.Plan.Stages {
			if id, err := peer.Decode(st.Peer); err == nil {
				g.Stages = append(g.Stages, id)
			}
		}
		copy(g.Model[:], p.Plan.Id.Model)
		if profile, err := profileOf(p.Plan.Id.Profile); err == nil {
			g.Profile = profile.String()
		}
		out = append(out, g)
	}
	for _, a := range n.plans.list() {
		if s := a.State(); s != stateReady && rank(s) > 0 && !n.plans.isCopy(a) {
			out = append(out, gossip.Generation{Model: a.model.entry.Model, Profile: a.model.entry.Profile.String(), State: s})
		}
	}
	for key, m := range n.plans.failedModels() {
		if s := n.plans.failure(key); s != "" && n.plans.of(m.entry.Model, m.entry.Profile) == nil {
			out = append(out, gossip.Generation{Model: m.entry.Model, Profile: m.entry.Profile.String(), State: s})
		}
	}
	slices.SortStableFunc(out, func(a, b gossip.Generation) int {
		return cmp.Or(slices.Compare(a.Model[:], b.Model[:]), strings.Compare(a.Profile, b.Profile), cmp.Compare(a.Generation, b.Generation))
	})
	return out
}

func (p *planner) failedModels() map[string]*opened {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]*opened{}
	for k, f := range p.failures {
		out[k] = f.model
	}
	return out
}
