package gossip

import (
	"testing"
	"time"
)

func TestTrafficRaisesTheEstimateAndRepeatedSlownessProbesAnew(t *testing.T) {
	c := &contact{bandwidth: 100e6}
	if !c.observed(200e6) || c.bandwidth != 150e6 {
		t.Errorf("a faster transfer gives %d", c.bandwidth)
	}
	if c.observed(140e6) || c.bandwidth != 150e6 || c.unprobed() {
		t.Error("a transfer that is bound by its sender counts as the link's speed")
	}
	for range slowRepeated - 1 {
		c.observed(10e6)
	}
	if c.unprobed() {
		t.Error("a hiccup makes the link be probed")
	}
	c.observed(100e6)
	for range slowRepeated {
		c.observed(10e6)
	}
	if !c.unprobed() || c.bandwidth != 150e6 {
		t.Errorf("a link that stays slow is not probed again: %+v", c)
	}
	g := &Gossip{}
	c.listed, c.rtt = true, time.Millisecond
	if !g.unmeasured(c, time.Now()) {
		t.Error("the probe is not due")
	}
}

func TestARecordThatDoesNotComeIsBehindSinceItsAnnouncement(t *testing.T) {
	var f Freshness
	at := time.Unix(100, 0)
	f.announced(true, at)
	f.announced(true, at.Add(time.Second))
	if f.Behind != at {
		t.Errorf("behind since %v", f.Behind)
	}
	f.announced(false, at.Add(2*time.Second))
	if !f.Behind.IsZero() {
		t.Error("the record has come and is still behind")
	}
}
