package speed

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/kernels/quant"
	"github.com/weft-mesh/weft/scheduler"
	"github.com/weft-mesh/weft/shard/model"
)

func TestADeviceIsMeasured(t *testing.T) {
	dev, err := cpu.New(cpu.Options{Threads: 1, Tier: cpu.Portable})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	measure := func(free int64) (Speed, use, error) {
		b, err := newBed(size{256, 512, tiny(), free})
		if err != nil {
			t.Fatal(err)
		}
		return b.measure(dev, 0)
	}
	s, u, err := measure(1 << 30)
	if err != nil {
		t.Fatal(err)
	}
	if s.FarBps < 1e6 || s.FarBps > 1e13 || !s.whole() {
		t.Errorf("%+v", s)
	}
	if small, _, err := measure(1 << 20); err != nil || small.FarBps != 0 || !small.whole() {
		t.Errorf("with little memory: %+v %v", small, err)
	}
	if s.DecodeBps < 1e6 || s.DecodeBps > 1e13 || s.PrefillOps < 1e6 || s.PrefillOps > 1e15 || u.wall <= 0 {
		t.Fatalf("%+v %+v", s, u)
	}
}

// tiny is a layer that little memory holds.
func tiny() model.Config {
	c := small
	c.Embd, c.Heads, c.KVHeads, c.HeadDim, c.FFN, c.Rope.Dims = 64, 2, 1, 32, 128, 32
	return c
}

// TestALayerIsWhatIsBesideItsWeights takes a time apart whose parts are known.
func TestALayerIsWhatIsBesideItsWeights(t *testing.T) {
	s := stack{took: 10*time.Millisecond + 24*50*time.Microsecond, bytes: 10_000_000, layers: 24}
	if got := s.rest(1e9); (got - 50*time.Microsecond).Abs() > time.Nanosecond {
		t.Errorf("%v", got)
	}
	if got := s.rest(1e8); got != time.Nanosecond {
		t.Errorf("where the weights were read faster than at the rate: %v", got)
	}
}

// TestTheMatricesAreOfTheSizesThatThePlannerTakesThemFor holds both to each other.
func TestTheMatricesAreOfTheSizesThatThePlannerTakesThemFor(t *testing.T) {
	for times, want := range map[int]int64{1: scheduler.NearBytes, far: scheduler.FarBytes} {
		quants, scales, err := quant.PackedSize(quant.Q4_0, times*rows, cols)
		if err != nil || quants+scales != want {
			t.Errorf("%d times the matrix has %d bytes, %v; the planner takes it for %d", times, quants+scales, err, want)
		}
	}
}

// TestADisturbedTryIsShort takes the one thread of a device for eight, of which
// others had seven: the far rate is left to the next try.
func TestADisturbedTryIsShort(t *testing.T) {
	if cpuTime() == 0 {
		t.Skip("not run: the system does not tell what a process used of the processors")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	dev, err := cpu.New(cpu.Options{Threads: 1, Tier: cpu.Portable})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	b, err := newBed(size{256, 512, tiny(), 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	if s, _, err := b.measure(dev, 8); err != nil || s.FarBps != 0 || !s.whole() {
		t.Errorf("%+v %v", s, err)
	}
	if s, _, err := b.measure(dev, 0); err != nil || s.FarBps == 0 {
		t.Errorf("the last try: %+v %v", s, err)
	}
}

func TestALayerIsMeasuredWithItsRate(t *testing.T) {
	low := Speed{DecodeBps: 10, FarBps: 9, Layer: 1, PrefillOps: 50}
	high := Speed{DecodeBps: 30, FarBps: 8, Layer: 7, PrefillOps: 40}
	want := Speed{DecodeBps: 30, FarBps: 9, Layer: 7, PrefillOps: 50}
	if a, b := low.better(high), high.better(low); a != want || b != want {
		t.Errorf("%+v %+v", a, b)
	}
	if got := (Speed{}).better(low); got != low {
		t.Errorf("the first one: %+v", got)
	}
}

// TestLayersAreCutFromOneMatrix has each of the layers read weights of its own, as
// many layers as there is room for.
func TestLayersAreCutFromOneMatrix(t *testing.T) {
	p, err := weights(256, 512)
	if err != nil {
		t.Fatal(err)
	}
	c := tiny()
	s, err := cut(p, &c, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if s.bytes > p.Bytes() || s.bytes+2*s.bytes/int64(s.layers.Len()) < p.Bytes() {
		t.Errorf("%d layers of %d bytes are cut from %d", s.layers.Len(), s.bytes, p.Bytes())
	}
	seen, taken := map[*byte]bool{}, int64(0)
	for _, spec := range s.config.Tensors(s.layers) {
		if spec.Vector {
			continue
		}
		m, err := s.Matrix(spec.Name)
		if err != nil || m.Rows != spec.Rows || m.Cols != spec.Cols || seen[&m.Quants[0]] {
			t.Fatalf("%s: %+v %v", spec.Name, spec, err)
		}
		seen[&m.Quants[0]] = true
		taken += m.Bytes()
	}
	if taken != s.bytes {
		t.Errorf("%d bytes were cut, %d said", taken, s.bytes)
	}
	if s, err := cut(p, &c, 2); err != nil || s.layers.Len() != 2 {
		t.Errorf("at most 2: %+v %v", s, err)
	}
	if s, err := cut(p, &small, 2); err == nil {
		t.Errorf("a layer larger than the matrix: %+v", s.layers)
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

// figures are a measurement.
func figures(decode, prefill float64) Speed {
	return Speed{DecodeBps: decode, PrefillOps: prefill, Layer: 3}
}

var (
	alone = use{cpu: 100 * time.Millisecond, wall: 100 * time.Millisecond}
	busy  = use{cpu: 10 * time.Millisecond, wall: 100 * time.Millisecond}
)

func TestSpeedIsMeasuredOnceForAMachineAndBuild(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "speed.json")
	if err := os.WriteFile(path, []byte(`{"key":"a","speed":{"decode_bytes_per_s":5,"prefill_multiply_adds_per_s":7,"layer_ns":3}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	asked := 0
	measure := measured(&asked, []Speed{{DecodeBps: 50, PrefillOps: 7, Layer: 30}}, []use{alone})
	if s, err := cachedBy(dir, "a", 1, measure); err != nil || s != figures(5, 7) || asked != 0 {
		t.Fatalf("kept figures are not used: %+v %v", s, err)
	}
	for range 2 {
		if s, err := cachedBy(dir, "another build", 1, measure); err != nil || s != (Speed{DecodeBps: 50, PrefillOps: 7, Layer: 30}) || asked != 1 {
			t.Fatalf("%+v %v, measured %d times", s, err, asked)
		}
	}
	if err := os.WriteFile(path, []byte("{nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := cachedBy(dir, "a", 1, measure); err != nil || s != (Speed{DecodeBps: 50, PrefillOps: 7, Layer: 30}) {
		t.Fatalf("a damaged file: %+v %v", s, err)
	}
}

func TestFiguresOfABusyMachineAreNotKept(t *testing.T) {
	dir := t.TempDir()
	asked := 0
	s, err := cachedBy(dir, "k", 1, measured(&asked, []Speed{figures(10, 40), figures(30, 20), figures(20, 30)}, []use{busy, busy, busy}))
	if err != nil || s != figures(30, 40) || asked != tries {
		t.Errorf("the best of %d: %+v %v", asked, s, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "speed.json")); err == nil {
		t.Error("they were kept")
	}
	asked = 0
	if s, err := cachedBy(dir, "k", 1, measured(&asked, []Speed{figures(10, 10), figures(50, 50)}, []use{busy, alone})); err != nil || s != figures(50, 50) || asked != 2 {
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
	s, err := measureCard(dev, 256, 512, tiny())
	if err != nil || s.Layer <= 0 || s.Layer > time.Second || s.DecodeBps < 1e6 || s.PrefillOps < 1e6 || s.UploadBps < 1e6 || s.DecodeBps > 1e14 || s.PrefillOps > 1e16 {
		t.Fatalf("%+v %v", s, err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(cardFile(dir, "card"), []byte(`{"key":"card","speed":{"decode_bytes_per_s":5,"prefill_multiply_adds_per_s":7,"layer_ns":3,"upload_bytes_per_s":9}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := CachedCard(dir, "card", nil); err != nil || s != (Speed{DecodeBps: 5, PrefillOps: 7, Layer: 3, UploadBps: 9}) {
		t.Errorf("what is kept: %+v %v", s, err)
	}
	ForgetCard(dir, "card")
	if _, err := os.Stat(cardFile(dir, "card")); err == nil {
		t.Error("it is not forgotten")
	}
}
