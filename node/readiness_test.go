package node

import (
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"

	"github.com/weft-mesh/weft/p2p/gossip"
)

func TestAModelIsAsReadyAsTheStageThatIsBehind(t *testing.T) {
	ids := []peer.ID{"a", "b", "gone"}
	name := func(id string) string { return "node of " + id }
	live := func(id string) bool { return id != ids[2].String() }
	stages := func(p int, generation uint64, state string, of ...peer.ID) claim {
		return claim{ids[p].String(), gossip.Generation{Generation: generation, State: state, Stages: of}}
	}
	head := func(state string) claim { return claim{"head", gossip.Generation{State: state}} }
	ab := ids[:2]
	for _, c := range []struct {
		name   string
		claims []claim
		want   string
	}{
		{"nobody knows of it", nil, ""},
		{"both computed", []claim{stages(0, 1, "ready", ab...), stages(1, 1, "ready", ab...)}, "ready"},
		{"one was not crossed yet", []claim{stages(0, 1, "ready", ab...), stages(1, 1, "probing", ab...)}, "probing"},
		{"one loads", []claim{stages(0, 1, "probing", ab...), stages(1, 1, "loading 40%", ab...)}, "loading 40%"},
		{"the slower counts", []claim{stages(0, 1, "fetching 90%", ab...), stages(1, 1, "fetching 12%", ab...)}, "fetching 12%"},
		{"fetching is behind loading", []claim{stages(0, 1, "loading 3%", ab...), stages(1, 1, "fetching 90%", ab...)}, "fetching 90%"},
		{"reserved is planning", []claim{stages(0, 1, "reserved", ab...), stages(1, 1, "loading", ab...)}, "planning"},
		{"one has not told yet", []claim{stages(0, 1, "ready", ab...)}, "planning"},
		{"one could not", []claim{stages(0, 1, "failed", ab...), stages(1, 1, "ready", ab...)}, "degraded: node node of " + ids[0].String() + " could not load its layers"},
		{"one is gone", []claim{stages(0, 1, "ready", ids[0], ids[2]), stages(2, 1, "ready", ids[0], ids[2])}, "degraded: node node of " + ids[2].String() + " is gone"},
		{"a ready plan counts, not a later one in the making", []claim{stages(0, 1, "ready", ids[0]), stages(1, 2, "loading 4%", ids[1])}, "ready"},
		{"a new plan takes a broken one's place", []claim{stages(0, 1, "ready", ids[0], ids[2]), stages(1, 2, "loading 4%", ids[1])}, "loading 4%"},
		{"a head is planning", []claim{head("planning")}, "planning"},
		{"a head found no room", []claim{head("degraded: 3 MB are missing")}, "degraded: 3 MB are missing"},
		{"a head says what is no state", []claim{head("marvellous")}, ""},
	} {
		if got := readiness(c.claims, live, name); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestEveryNodeSeesTheSameState(t *testing.T) {
	ids := []peer.ID{"a", "b", "c", "d"}
	states := []string{"reserved", "fetching 10%", "fetching 60%", "loading", "loading 5%", "probing", "ready", "failed", "nonsense", "degraded: 3 MB are missing", "degraded: 4 MB are missing", "planning"}
	rapid.Check(t, func(t *rapid.T) {
		var claims []claim
		for range rapid.IntRange(0, 8).Draw(t, "claims") {
			c := claim{peer: rapid.SampledFrom(ids).Draw(t, "peer").String()}
			c.Generation.Generation = rapid.Uint64Range(1, 2).Draw(t, "generation")
			c.State = rapid.SampledFrom(states).Draw(t, "state")
			n := rapid.IntRange(0, 3).Draw(t, "stages")
			c.Stages = ids[:n]
			claims = append(claims, c)
		}
		// A node makes one claim about a generation.
		slices.SortFunc(claims, func(a, b claim) int { return slices.Compare([]byte(a.peer), []byte(b.peer)) })
		claims = slices.CompactFunc(claims, func(a, b claim) bool { return a.peer == b.peer })
		live := func(id string) bool { return id != ids[3].String() }
		name := func(id string) string { return id }
		want := readiness(claims, live, name)
		mixed := rapid.Permutation(claims).Draw(t, "order")
		if got := readiness(mixed, live, name); got != want {
			t.Fatalf("%q, in another order %q", want, got)
		}
		if want == "ready" {
			for _, c := range claims {
				if c.State == "ready" {
					return
				}
			}
			t.Fatal("ready, though nobody says so")
		}
	})
}
