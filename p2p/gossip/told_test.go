package gossip

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
)

func TestLinksAreToldWhenTheyHaveClearlyChanged(t *testing.T) {
	const ms = time.Millisecond
	link := func(id string, rtt time.Duration, rate uint64) Link { return Link{peer.ID(id), rtt, rate} }
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	var told told
	for _, step := range []struct {
		what  string
		after time.Duration
		links []Link
		tells bool
	}{
		{"the first", 0, []Link{link("a", ms, 0)}, true},
		{"another too soon", time.Second, []Link{link("a", ms, 0), link("b", ms, 0)}, false},
		{"another after a while", 4 * time.Second, []Link{link("a", ms, 0), link("b", ms, 0)}, true},
		{"a measured one", 5 * time.Second, []Link{link("a", ms, 9), link("b", ms, 0)}, true},
		{"noise", 40 * time.Second, []Link{link("a", 3*ms, 8), link("b", ms, 0)}, false},
		{"a clear change", time.Second, []Link{link("a", 5*ms, 8), link("b", ms, 0)}, true},
		{"and back too soon", 20 * time.Second, []Link{link("a", ms, 8), link("b", ms, 0)}, false},
		{"and back", 10 * time.Second, []Link{link("a", ms, 8), link("b", ms, 0)}, true},
		{"a far one that changes little", 40 * time.Second, []Link{link("a", 3*ms, 8), link("b", ms, 0)}, false},
		{"one that is gone", time.Second, []Link{link("b", ms, 0)}, true},
		{"noise when all is told anew", time.Minute, []Link{link("b", 2*ms, 0)}, true},
	} {
		now = now.Add(step.after)
		got := told.update(now, step.links, 5*time.Second, time.Minute)
		if tells := cmp.Equal(got, step.links); tells != step.tells {
			t.Errorf("%s: told %v", step.what, tells)
		}
	}
}
