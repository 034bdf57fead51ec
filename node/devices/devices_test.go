package devices_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/node/devices"
	"github.com/weft-mesh/weft/node/devices/devicestest"
)

func card(name, bus string) *devicestest.Card {
	return &devicestest.Card{Info: driver.Info{Name: name, Vendor: "Vendor", DriverName: "opencl, Platform", Bus: bus}, Memory: 8 << 30}
}

func open(t *testing.T, home, want string, backends ...devices.Backend) (*devices.Set, error) {
	t.Helper()
	s, err := devices.Open(t.Context(), devices.Options{Want: want, Home: home, Version: "1", Backends: backends})
	if err == nil {
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return s, err
}

// ids are the devices that are used, and those that are not with the reason.
func ids(s *devices.Set) (used []string, not map[string]string) {
	not = map[string]string{}
	for _, c := range s.Cards() {
		if c.Used {
			used = append(used, c.ID)
		} else {
			not[c.ID] = c.Reason
		}
	}
	return used, not
}

// known spares the tests measurements: a state directory with verdicts and speeds
// of cards of some names.
func known(t *testing.T) string {
	t.Helper()
	found.Do(func() {
		home, err := os.MkdirTemp("", "weft-devices")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(home) }()
		b := &devicestest.Backend{Cards: []*devicestest.Card{card("Card", ""), card("Arc A770", "")}}
		c := &devicestest.Backend{Kind: "cuda", Cards: []*devicestest.Card{card("Card", "")}}
		s, err := devices.Open(t.Context(), devices.Options{Home: home, Version: "1", Backends: []devices.Backend{b, c}})
		if err == nil {
			err = s.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		files = map[string][]byte{}
		list, _ := os.ReadDir(home)
		for _, e := range list {
			if files[e.Name()], err = os.ReadFile(filepath.Join(home, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	})
	home := t.TempDir()
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(home, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return home
}

var (
	found sync.Once
	files map[string][]byte
)

func TestDevicesAreChosenAsWanted(t *testing.T) {
	a, b, processor := card("Card", "0000:01:00.0"), card("Arc A770", ""), card("Card", "")
	processor.Info.CPU = true
	home := known(t)
	backends := func() (*devicestest.Backend, *devicestest.Backend) {
		return &devicestest.Backend{Kind: "cuda", Cards: []*devicestest.Card{a}}, &devicestest.Backend{Cards: []*devicestest.Card{a, b, processor}}
	}
	for want, expect := range map[string][]string{
		"auto": {"cuda:0", "opencl:1"}, "": {"cuda:0", "opencl:1"}, "gpu": {"cuda:0", "opencl:1"}, "opencl:0": {"opencl:0"},
		"arc": {"opencl:1"}, "cpu,ARC": {"opencl:1"}, "opencl:1, cuda:0": {"cuda:0", "opencl:1"}, "opencl:2": {"opencl:2"},
	} {
		x, y := backends()
		s, err := open(t, home, want, x, y)
		if err != nil {
			t.Errorf("%q: %v", want, err)
			continue
		}
		for _, c := range s.Cards() {
			if c.Twin != (c.ID == "opencl:0") {
				t.Errorf("%q: %+v", want, c)
			}
		}
		used, not := ids(s)
		if !slices.Equal(used, expect) {
			t.Errorf("%q: %v are used, want %v (%v)", want, used, expect, not)
		}
		for id, why := range not {
			if why == "" {
				t.Errorf("%q: nothing says why %s is not used", want, id)
			}
		}
	}
	x, y := backends()
	if s, err := open(t, home, "cpu", x, y); err != nil || len(s.Cards()) != 0 || x.Asked.Load()+y.Asked.Load() != 0 {
		t.Errorf("cpu: %v, libraries were asked", err)
	}
	for want, part := range map[string]string{"voodoo": "there are cuda:0 (Card)", "opencl:7": "opencl:1 (Arc A770)", "arc,gpu": "no list"} {
		if _, err := open(t, home, want, x, y); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q: %v", want, err)
		}
	}
	none := &devicestest.Backend{Err: driver.ErrAbsent}
	if s, err := open(t, home, "auto", none); err != nil || len(s.Cards()) != 0 || !errors.Is(s.Absent()["opencl"], driver.ErrAbsent) {
		t.Errorf("a machine without: %v", err)
	}
	for _, want := range []string{"gpu", "arc"} {
		if _, err := open(t, home, want, none); err == nil || !strings.Contains(err.Error(), "no driver") {
			t.Errorf("%s on a machine without: %v", want, err)
		}
	}
}

func TestADeviceThatBreaksTheContractIsRefusedAndThatIsKept(t *testing.T) {
	home := t.TempDir()
	c := card("Liar", "")
	c.Wrong = true
	b := &devicestest.Backend{Cards: []*devicestest.Card{c}}
	for range 2 {
		s, err := open(t, home, "auto", b)
		if err != nil {
			t.Fatal(err)
		}
		used, not := ids(s)
		for _, part := range []string{"contract", "Norm", "want"} {
			if len(used) != 0 || !strings.Contains(not["opencl:0"], part) {
				t.Errorf("used %v, refused %q; it should say %q", used, not, part)
			}
		}
	}
	if n := b.Opened.Load(); n != 1 {
		t.Errorf("it was opened %d times", n)
	}
	if _, err := open(t, home, "gpu", b); err == nil || !strings.Contains(err.Error(), "Liar") {
		t.Errorf("as the only wanted one: %v", err)
	}
	c.Wrong, c.Info.DriverVersion = false, "2.0"
	if s, err := open(t, home, "auto", b); err != nil || len(s.Used()) != 1 {
		t.Errorf("with a new driver: %v", err)
	}
	c.Info.DriverVersion = "1.0"
	s, err := devices.Open(t.Context(), devices.Options{Want: "auto", Home: home, Version: "1", Backends: []devices.Backend{b}, Again: true})
	if err != nil || len(s.Used()) != 1 {
		t.Errorf("checked again: %v", err)
	}
	if err := s.Close(); err != nil || c.Open.Load() != 0 && c.Used() != 0 {
		t.Errorf("%v, %d open, %d bytes", err, c.Open.Load(), c.Used())
	}
}

func TestACheckThatTakesTheProcessDownIsNotTriedForEver(t *testing.T) {
	home := t.TempDir()
	b := &devicestest.Backend{Cards: []*devicestest.Card{card("Crasher", "")}}
	crash := func() {
		defer func() { _ = recover() }()
		_, _ = devices.Open(context.Background(), devices.Options{Home: home, Version: "1", Backends: []devices.Backend{crasher{b}}})
	}
	crash()
	crash()
	s, err := open(t, home, "auto", b)
	if _, not := ids(s); err != nil || !strings.Contains(not["opencl:0"], "weft doctor gpu") {
		t.Errorf("%v %v", not, err)
	}
	if err := os.WriteFile(filepath.Join(home, "devices.json"), []byte("{nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = open(t, home, "auto", b); err != nil || len(s.Used()) != 1 {
		t.Errorf("with a damaged file: %v", err)
	}
}

// crasher ends the program when a device is opened, as drivers can.
type crasher struct{ *devicestest.Backend }

func (crasher) Open(int) (devices.Device, error) { panic("the driver's fault") }

func TestWhatEndsACheckEarlyIsNoVerdict(t *testing.T) {
	home := t.TempDir()
	c := card("Slow", "")
	b := &devicestest.Backend{Cards: []*devicestest.Card{c}}
	ctx, cancel := context.WithCancel(t.Context())
	c.OnWait(func(n int64) error {
		if n == 5 {
			cancel()
		}
		return nil
	})
	if _, err := devices.Open(ctx, devices.Options{Home: home, Version: "1", Backends: []devices.Backend{b}}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	c.OnWait(nil)
	if s, err := open(t, home, "auto", b); err != nil || len(s.Used()) != 1 {
		t.Errorf("at the next start: %v", err)
	}
}

func TestACardsRoomIsWhatIsFreeBesideAMargin(t *testing.T) {
	c := card("Card", "")
	home := known(t)
	b := &devicestest.Backend{Cards: []*devicestest.Card{c}}
	s, err := open(t, home, "auto", b)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.Room(0), c.Memory-devices.Margin(c.Memory); got != want {
		t.Errorf("room for %d bytes, want %d", got, want)
	}
	// What weft's own stages have is room that they may have.
	s.Hold(0, 1<<30)
	if got, want := s.Room(0), c.Memory-devices.Margin(c.Memory); got != want {
		t.Errorf("with a stage: %d, want %d", got, want)
	}
	s.Lose(0, errors.New("fell off the bus"))
	if _, _, ok := s.Device(0); ok || s.Room(0) != 0 || !strings.Contains(s.Cards()[0].Reason, "fell off the bus") {
		t.Errorf("a lost card: %+v", s.Cards())
	}
	few, err := devices.Open(t.Context(), devices.Options{Home: home, Version: "1", Backends: []devices.Backend{b}, Memory: 5e6})
	if err != nil || few.Room(0) != 5e6 {
		t.Errorf("with a bound: %v", err)
	}
	if err := few.Close(); err != nil {
		t.Error(err)
	}
}

// What others take of a card is seen while it is busy all the time.
func TestACardsMemoryIsLookedAtWhileItComputes(t *testing.T) {
	c := card("Card", "")
	s, err := open(t, known(t), "auto", &devicestest.Backend{Cards: []*devicestest.Card{c}})
	if err != nil {
		t.Fatal(err)
	}
	_, turn, _ := s.Device(0)
	turn.Lock()
	defer turn.Unlock()
	before := s.Room(0)
	c.Memory -= 1 << 30
	s.Hold(0, 0) // as if it were long ago that it was looked at
	if got := s.Room(0); got != before {
		t.Errorf("room for %d bytes of a card that is in use, it was %d: who asked the driver?", got, before)
	}
	s.LookNow(0)
	if got, want := s.Room(0), c.Memory-devices.Margin(c.Memory); got != want {
		t.Errorf("room for %d bytes, want %d", got, want)
	}
	s.Lose(0, driver.ErrLost)
	s.LookNow(0) // a driver of a lost card is not asked
}

// A driver that hangs over the question for free memory takes nobody who asks for
// the card's state with it.
func TestADriverThatDoesNotTellItsMemoryIsLost(t *testing.T) {
	c := card("Card", "")
	release := make(chan struct{})
	patience := make(chan time.Duration, 1)
	patience <- time.Hour
	s, err := devices.Open(t.Context(), devices.Options{
		Home: known(t), Version: "1", Backends: []devices.Backend{&devicestest.Backend{Cards: []*devicestest.Card{c}}},
		Patience: func(int, time.Duration) time.Duration { p := <-patience; patience <- p; return p },
	})
	if err != nil {
		t.Fatal(err)
	}
	before := s.Cards()[0]
	<-patience
	patience <- 3 * time.Second
	c.OnInfo(func() { <-release })
	s.Hold(0, 0) // as if it were long ago that it was looked at
	if got := s.Cards()[0]; !got.Used || got.Free != before.Free {
		t.Errorf("while the driver has not answered: %+v", got)
	}
	_, turn, ok := s.Device(0)
	if !ok {
		t.Fatal("the card is gone at once")
	}
	turn.Lock() // when the question has been given up
	gone := s.Gone(0)
	turn.Unlock()
	if got := s.Cards()[0]; got.Used || !strings.Contains(got.Reason, "does not answer") || !gone {
		t.Errorf("after it was given up: %+v", got)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	close(release)
}

func TestADeviceThatHangsIsLeftAlone(t *testing.T) {
	c := card("Card", "")
	home := known(t)
	release := make(chan struct{})
	defer close(release)
	s, err := devices.Open(t.Context(), devices.Options{
		Home: home, Version: "1", Backends: []devices.Backend{&devicestest.Backend{Cards: []*devicestest.Card{c}}},
		Patience: func(int, time.Duration) time.Duration { return 50 * time.Millisecond },
	})
	if err != nil {
		t.Fatal(err)
	}
	d, _, _ := s.Device(0)
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	c.OnWait(func(int64) error { <-release; return nil })
	for range 3 {
		if err := d.Sync(); !errors.Is(err, devices.ErrHung) || !errors.Is(err, driver.ErrLost) {
			t.Errorf("%v", err)
		}
	}
	if !s.Gone(0) {
		t.Error("nothing says that the driver does not come back")
	}
	if err := s.Close(); err != nil || c.Open.Load() != 1 {
		t.Errorf("closing asks the driver: %v, %d open", err, c.Open.Load())
	}
}

func TestWaitsOnADeviceAllocateNothing(t *testing.T) {
	c := card("Card", "")
	s, err := open(t, known(t), "auto", &devicestest.Backend{Cards: []*devicestest.Card{c}})
	if err != nil {
		t.Fatal(err)
	}
	d, _, _ := s.Device(0)
	x, err := d.NewBuffer(2, 8)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Free(x)
	dst := make([]float32, 8)
	if n := testing.AllocsPerRun(200, func() {
		if d.Sync() != nil || d.Read(dst, x, 1) != nil {
			t.Fatal("a wait failed")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestALostDeviceIsOpenedAgain(t *testing.T) {
	c := card("Card", "")
	b := &devicestest.Backend{Cards: []*devicestest.Card{c}}
	s, err := devices.Open(t.Context(), devices.Options{Home: known(t), Version: "1", Backends: []devices.Backend{b}, Rest: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil || c.Open.Load() != 0 {
			t.Errorf("%v, %d open", err, c.Open.Load())
		}
	}()
	if s.Revive(t.Context()) {
		t.Error("a device that is well is opened again")
	}
	s.Hold(0, 1000)
	s.Lose(0, driver.ErrLost)
	if s.Revive(t.Context()) {
		t.Error("a stage still has memory on it")
	}
	s.Hold(0, -1000)
	for i := range 3 {
		if !s.Revive(t.Context()) || len(s.Used()) != 1 || s.Cards()[0].Reason != "" {
			t.Fatalf("after %d losses: %+v", i+1, s.Cards())
		}
		if d, _, ok := s.Device(0); !ok || d.Sync() != nil {
			t.Fatal("it does not compute")
		}
		s.Lose(0, driver.ErrLost)
	}
	if s.Revive(t.Context()) || c.Open.Load() != 1 {
		t.Errorf("a device that is lost again and again is used: %d open", c.Open.Load())
	}
}

func TestADeviceThatRanShortGetsLess(t *testing.T) {
	c := card("Card", "")
	b := &devicestest.Backend{Cards: []*devicestest.Card{c}}
	s, err := devices.Open(t.Context(), devices.Options{Home: known(t), Version: "1", Backends: []devices.Backend{b}, Rest: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Hold(0, 800)
	s.Lose(0, driver.ErrNoMemory)
	s.Hold(0, -800)
	if !s.Revive(t.Context()) || s.Room(0) != 700 {
		t.Errorf("room for %d", s.Room(0))
	}
}

func TestAMachineWithoutGraphicsLoadsNoDriver(t *testing.T) {
	b := &devicestest.Backend{Cards: []*devicestest.Card{card("Card", "")}}
	for want, asked := range map[string]int64{"auto": 0, "": 0, "gpu": 1} {
		b.Asked.Store(0)
		s, err := devices.Open(t.Context(), devices.Options{Want: want, Home: known(t), Version: "1", Backends: []devices.Backend{b}, Unseen: true})
		if err != nil || b.Asked.Load() != asked || asked == 0 && s.Absent()["opencl"] == nil {
			t.Errorf("%q: %v, asked %d times", want, err, b.Asked.Load())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
