package node

import (
	"testing"
	"time"
)

func TestOnlyTheUnreachableAreSuspectedByHearsay(t *testing.T) {
	n := &Node{plans: &planner{self: "me"}}
	s := &suspects{connected: func(id string) bool { return id == "near" || n.connected(id) }}
	now := time.Now()
	for _, id := range []string{"me", "near", "far"} {
		s.report(id, now)
	}
	if s.has("me", time.Time{}) || s.has("near", time.Time{}) || !s.has("far", time.Time{}) {
		t.Errorf("suspected: %v", s.at)
	}
	if s.has("far", now.Add(time.Millisecond)) {
		t.Error("it came back and is still suspected")
	}
	s.mark("near", now)
	if !s.has("near", time.Time{}) {
		t.Error("a node that did not answer is not suspected")
	}
}
