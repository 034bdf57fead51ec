package spec_test

import (
	"testing"
	"time"

	"github.com/weft-mesh/weft/node/spec"
	"github.com/weft-mesh/weft/node/spec/spectest"
)

// proving is a reply that goes on copying what it began with: its drafts match
// little at first, longer with every token, and are all right.
func proving(t *testing.T, p point, n int, o spec.Options) time.Duration {
	t.Helper()
	truth := spectest.Truth(n, 3)
	src := spectest.NewOracle(truth, 5, func(int) float64 { return 1 })
	src.Match = func(at int) int { return 2 + at }
	o.Sources = []spec.Source{src}
	out, err := p.pipe().Reply(truth, 1, spec.New(o))
	if err != nil {
		t.Fatalf("%v: %v", p, err)
	}
	return out.Time
}

// TestAPipeWidensAsItsDraftsProveRight: what is right is noticed while runs are
// in flight too, and where the network is near, one wide run after the other may
// be better than any pipe.
func TestAPipeWidensAsItsDraftsProveRight(t *testing.T) {
	for _, cost := range []string{"wide is free", "wide is cheap", "wide is dear", "free up to 4, dear", "in blocks of 8 rows"} {
		for _, hop := range []time.Duration{0, ms / 2, 5 * ms / 2, 5 * ms, 20 * ms} {
			for _, stages := range []int{1, 2, 4} {
				for _, n := range []int{65, 400} {
					p := point{1, hop, stages, cost}
					costs := p.known()
					reply := func(m spec.Mode) time.Duration {
						return proving(t, p, n, spec.Options{Costs: costs, Mode: m})
					}
					for _, m := range []spec.Mode{spec.ModeSync, spec.ModeAsync, spec.ModeSync, spec.ModeAsync} {
						reply(m) // what runs cost is learnt
					}
					single, async, auto := reply(spec.ModeSync), reply(spec.ModeAsync), reply(spec.ModeAuto)
					t.Logf("%v, %d tokens: sync %v, async %v, auto %v", p, n, single, async, auto)
					most := 1.05
					if stages == 1 { // a pipe gains little there, and learns later
						most = 1.15
					}
					for name, took := range map[string]time.Duration{"async": async, "auto": auto} {
						if r := float64(took) / float64(single); r > most {
							t.Errorf("%v, %d tokens: %s takes %.2f times what one run at a time does", p, n, name, r)
						}
					}
				}
			}
		}
	}
}
