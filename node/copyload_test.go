package node

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestLoadThatIsOldNewsIsNotCountedTwice has a record tell of replies that were
// this head's own.
func TestLoadThatIsOldNewsIsNotCountedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &active{users: 3}
		for _, c := range []struct{ told, want int }{{0, 3}, {3, 3}, {5, 5}} {
			if got := a.load(c.told); got != c.want {
				t.Errorf("with 3 of its own and %d told it has %d, not %d", c.told, got, c.want)
			}
		}
		for range 3 {
			a.leave()
		}
		for _, c := range []struct{ told, want int }{{0, 0}, {3, 0}, {5, 2}} {
			if got := a.load(c.told); got != c.want {
				t.Errorf("a moment after its 3 ended, with %d told it has %d, not %d", c.told, got, c.want)
			}
		}
		// One after the other they never were more than one.
		time.Sleep(2 * loadLag)
		for range 100 {
			a.users++
			a.leave()
			time.Sleep(10 * time.Millisecond)
		}
		if got := a.load(4); got != 3 || len(a.peaks) != 1 {
			t.Errorf("with 4 told it has %d, not 3; %d peaks are kept", got, len(a.peaks))
		}
		time.Sleep(2 * loadLag)
		if got := a.load(2); got != 2 {
			t.Errorf("long after, with 2 told it has %d", got)
		}
	})
}
