package admission

import (
	"net/netip"
	"testing"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// guestFrom is a machine that waits, as the porch sees it.
func guestFrom(t *testing.T, addr, slot string) *waiting {
	t.Helper()
	return &waiting{peer: somePeer(t), knock: &weftv1.Knock{Slot: slot}, from: netip.MustParseAddr(addr), taken: make(chan struct{})}
}

func TestAFloodFromOneAddressLeavesRoomForOthers(t *testing.T) {
	var p porch
	var flood []*waiting
	for range maxWaiting {
		w := guestFrom(t, "10.0.0.1", "AA")
		if out, ok := p.enter(w); !ok || out != nil {
			t.Fatal("a free place was not given")
		}
		flood = append(flood, w)
	}
	if _, ok := p.enter(guestFrom(t, "10.0.0.1", "AA")); ok {
		t.Error("one more of the same address has entered")
	}
	good := guestFrom(t, "10.0.0.2", "BB")
	if out, ok := p.enter(good); !ok || out != flood[0] {
		t.Errorf("another address: %v, %v", out, ok)
	}
	// Who is alone at its address is not turned out by the flood.
	for range 5 {
		_, _ = p.enter(guestFrom(t, "10.0.0.1", "AA"))
	}
	if found, _ := p.find("BB"); len(found) != 1 || found[0] != good {
		t.Error("it was turned out")
	}
	// One that knocks again takes its own place.
	again := &waiting{peer: good.peer, knock: &weftv1.Knock{Slot: "CC"}, from: good.from, taken: make(chan struct{})}
	if out, ok := p.enter(again); !ok || out != good || len(p.waiting) > maxWaiting {
		t.Errorf("again: %v, %v, %d wait", out, ok, len(p.waiting))
	}
}

func TestACodeIsTakenOnceAndItsFateIsRemembered(t *testing.T) {
	var p porch
	w := guestFrom(t, "10.0.0.1", "AA")
	if _, status := p.find("AA"); status != weftv1.CodeStatus_CODE_STATUS_NOBODY {
		t.Errorf("before: %v", status)
	}
	if _, ok := p.enter(w); !ok || !p.take(w) || p.take(w) {
		t.Error("taken twice, or not at all")
	}
	if found, status := p.find("AA"); len(found) != 0 || status != weftv1.CodeStatus_CODE_STATUS_SPENT {
		t.Errorf("afterwards: %v, %v", found, status)
	}
	late := guestFrom(t, "10.0.0.1", "BB")
	if _, ok := p.enter(late); !ok || !p.remove(late, weftv1.CodeStatus_CODE_STATUS_EXPIRED) || p.take(late) {
		t.Error("an expired one was taken")
	}
	if _, status := p.find("BB"); status != weftv1.CodeStatus_CODE_STATUS_EXPIRED {
		t.Errorf("a late code: %v", status)
	}
	for range 4 * maxPast {
		w := guestFrom(t, "10.0.0.1", "CC")
		_, _ = p.enter(w)
		p.remove(w, weftv1.CodeStatus_CODE_STATUS_EXPIRED)
	}
	if len(p.past) > maxPast {
		t.Errorf("%d fates are remembered", len(p.past))
	}
}
