package speed

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/weft-mesh/weft/kernels/cpu"
)

func TestADeviceIsMeasured(t *testing.T) {
	dev, err := cpu.New(cpu.Options{Threads: 1, Tier: cpu.Portable})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	s, u, err := measure(dev, 256, 512)
	if err != nil {
		t.Fatal(err)
	}
	if s.DecodeBps < 1e6 || s.DecodeBps > 1e13 || s.PrefillOps < 1e6 || s.PrefillOps > 1e15 || u.wall <= 0 {
		t.Fatalf("%+v %+v", s, u)
	}
}

// measured gives figures in turn and counts how often it was asked.
func measured(asked *int, speeds []Speed, uses []use) func() (Speed, use, error) {
	return func() (Speed, use, error) {
		i := min(*asked, len(speeds)-1)
		*asked++
		return speeds[i], uses[i], nil
	}
}

var (
	alone = use{cpu: 100 * time.Millisecond, wall: 100 * time.Millisecond}
	busy  = use{cpu: 10 * time.Millisecond, wall: 100 * time.Millisecond}
)

func TestSpeedIsMeasuredOnceForAMachineAndBuild(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "speed.json")
	if err := os.WriteFile(path, []byte(`{"key":"a","speed":{"decode_bytes_per_s":5,"prefill_multiply_adds_per_s":7}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	asked := 0
	measure := measured(&asked, []Speed{{DecodeBps: 50, PrefillOps: 70}}, []use{alone})
	if s, err := cachedBy(dir, "a", 1, measure); err != nil || s != (Speed{DecodeBps: 5, PrefillOps: 7}) || asked != 0 {
		t.Fatalf("kept figures are not used: %+v %v", s, err)
	}
	for range 2 {
		if s, err := cachedBy(dir, "another build", 1, measure); err != nil || s != (Speed{DecodeBps: 50, PrefillOps: 70}) || asked != 1 {
			t.Fatalf("%+v %v, measured %d times", s, err, asked)
		}
	}
	if err := os.WriteFile(path, []byte("{nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := cachedBy(dir, "a", 1, measure); err != nil || s != (Speed{DecodeBps: 50, PrefillOps: 70}) {
		t.Fatalf("a damaged file: %+v %v", s, err)
	}
}

func TestFiguresOfABusyMachineAreNotKept(t *testing.T) {
	dir := t.TempDir()
	asked := 0
	s, err := cachedBy(dir, "k", 1, measured(&asked, []Speed{{DecodeBps: 10, PrefillOps: 40}, {DecodeBps: 30, PrefillOps: 20}, {DecodeBps: 20, PrefillOps: 30}}, []use{busy, busy, busy}))
	if err != nil || s != (Speed{DecodeBps: 30, PrefillOps: 40}) || asked != tries {
		t.Errorf("the best of %d: %+v %v", asked, s, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "speed.json")); err == nil {
		t.Error("they were kept")
	}
	asked = 0
	if s, err := cachedBy(dir, "k", 1, measured(&asked, []Speed{{DecodeBps: 10, PrefillOps: 10}, {DecodeBps: 50, PrefillOps: 50}}, []use{busy, alone})); err != nil || s != (Speed{DecodeBps: 50, PrefillOps: 50}) || asked != 2 {
		t.Errorf("quiet at the second try: %+v %v", s, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "speed.json")); err != nil {
		t.Error("a quiet measurement was not kept")
	}
}

func TestAMeasurementKnowsWhetherItWasAlone(t *testing.T) {
	if !alone.quiet(1) || busy.quiet(1) || !(use{}).quiet(4) {
		t.Error("alone, disturbed and unknown are not told apart")
	}
	// More threads than processors cannot all be busy.
	all := use{cpu: time.Duration(runtime.GOMAXPROCS(0)) * time.Second, wall: time.Second}
	if !all.quiet(100 * runtime.GOMAXPROCS(0)) {
		t.Error("a machine that did all it can was disturbed")
	}
}

func TestACardIsMeasuredOnceForItsDriverAndBuild(t *testing.T) {
	dev, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	s, err := measureCard(dev, 256, 512)
	if err != nil || s.DecodeBps < 1e6 || s.PrefillOps < 1e6 || s.UploadBps < 1e6 || s.DecodeBps > 1e14 || s.PrefillOps > 1e16 {
		t.Fatalf("%+v %v", s, err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(cardFile(dir, "card"), []byte(`{"key":"card","speed":{"decode_bytes_per_s":5,"prefill_multiply_adds_per_s":7,"upload_bytes_per_s":9}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := CachedCard(dir, "card", nil); err != nil || s != (Speed{DecodeBps: 5, PrefillOps: 7, UploadBps: 9}) {
		t.Errorf("what is kept: %+v %v", s, err)
	}
	ForgetCard(dir, "card")
	if _, err := os.Stat(cardFile(dir, "card")); err == nil {
		t.Error("it is not forgotten")
	}
}
