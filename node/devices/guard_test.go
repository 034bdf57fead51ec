package devices

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

// sleeper is a device whose waits end when they are told to.
type sleeper struct {
	Device
	wake chan error
	shut chan error // nil: Close returns at once
}

func (sleeper) Name() string  { return "sleeper" }
func (s sleeper) Sync() error { return <-s.wake }

func (s sleeper) Close() error {
	if s.shut == nil {
		return nil
	}
	return <-s.shut
}

func minute(int, time.Duration) time.Duration { return time.Minute }

// A bound that comes hours late has counted the sleep of a laptop: the device gets its
// time again. One that comes when it is due is a device that hangs.
func TestAMachinesSleepIsNoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := sleeper{wake: make(chan error)}
		g := newGuard(d, minute)
		var slept atomic.Int64
		g.now = func() time.Time { return time.Now().Add(time.Duration(slept.Load())) }
		time.AfterFunc(30*time.Second, func() { slept.Store(int64(8 * time.Hour)) })
		time.AfterFunc(90*time.Second, func() { d.wake <- nil })
		if err := g.Sync(); err != nil || g.Hung() || g.longest != 0 {
			t.Errorf("after a night: %v, hung %v, longest wait %v", err, g.Hung(), g.longest)
		}
		begin := time.Now()
		if err := g.Sync(); !errors.Is(err, ErrHung) || time.Since(begin) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		d.wake <- nil
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A driver that comes back long after it was given up has a device that may be opened
// again; what was asked of it stays failed.
func TestADriverThatComesBackIsNotGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := sleeper{wake: make(chan error)}
		g := newGuard(d, minute)
		if err := g.Sync(); !errors.Is(err, ErrHung) || !g.Hung() {
			t.Fatalf("%v, hung %v", err, g.Hung())
		}
		d.wake <- nil
		synctest.Wait()
		if g.Hung() {
			t.Error("it counts as hung when it has come back")
		}
		if err := g.Sync(); !errors.Is(err, driver.ErrLost) {
			t.Errorf("it is used again without being opened: %v", err)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
}

// What hung once may hang when it is closed: nobody waits for it for ever.
func TestADriverThatHangsAgainIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := sleeper{wake: make(chan error), shut: make(chan error)}
		g := newGuard(d, minute)
		if err := g.Sync(); !errors.Is(err, ErrHung) {
			t.Fatal(err)
		}
		d.wake <- nil
		synctest.Wait()
		if err := g.Close(); !errors.Is(err, ErrHung) {
			t.Errorf("closed: %v", err)
		}
		d.shut <- nil
	})
}
