package node

import (
	"sync"
	"testing"
	"time"
)

func TestOnlyThoseWhoDoNotAnswerAreSuspectedByHearsay(t *testing.T) {
	n := &Node{plans: &planner{self: "me"}}
	s := &suspects{answers: func(id string) bool { return id == "near" || n.answers(id) }}
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
	s.clear("near", now)
	if !s.has("near", time.Time{}) {
		t.Error("an answer to a question that came before the loss clears the suspicion")
	}
	s.clear("near", now.Add(time.Millisecond))
	if s.has("near", time.Time{}) {
		t.Error("a node that answered since is still suspected")
	}
}

func TestASuspectIsAskedOverAConnectionOfItsOwn(t *testing.T) {
	asked := map[string]int{}
	var mu sync.Mutex // guards asked
	s := &suspects{
		answers: func(id string) bool { return id == "well" },
		meets: func(id string) bool {
			mu.Lock()
			defer mu.Unlock()
			asked[id]++
			return id == "moved"
		},
	}
	if s.recheck() {
		t.Error("one is well, where nobody is suspected")
	}
	for _, id := range []string{"well", "moved", "dead"} {
		s.mark(id, time.Now())
	}
	if !s.recheck() || s.has("well", time.Time{}) || s.has("moved", time.Time{}) || !s.has("dead", time.Time{}) {
		t.Errorf("suspected after asking: %v", s.at)
	}
	if asked["well"] != 0 || asked["moved"] != 1 || asked["dead"] != 1 {
		t.Errorf("new connections: %v", asked)
	}
	if s.recheck() {
		t.Error("the dead one is well")
	}
}
