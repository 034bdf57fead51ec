package speed

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/weft-mesh/weft/kernels/cpu"
)

func TestSpeedIsMeasuredOnceForAMachineAndBuild(t *testing.T) {
	dev, err := cpu.New(cpu.Options{Threads: 1, Tier: cpu.Portable})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	s, err := measure(dev, 256, 512)
	if err != nil {
		t.Fatal(err)
	}
	if s.DecodeBps < 1e6 || s.DecodeBps > 1e13 || s.PrefillOps < 1e6 || s.PrefillOps > 1e15 {
		t.Fatalf("%+v", s)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "speed.json")
	if err := os.WriteFile(path, []byte(`{"key":"a","speed":{"decode_bytes_per_s":5,"prefill_multiply_adds_per_s":7}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Cached(dir, "a", dev); err != nil || s.DecodeBps != 5 || s.PrefillOps != 7 {
		t.Fatalf("kept figures are not used: %+v %v", s, err)
	}
	if testing.Short() {
		return
	}
	again, err := Cached(dir, "another build", dev)
	if err != nil || again.DecodeBps == 5 {
		t.Fatalf("another build's figures were used: %+v %v", again, err)
	}
	if kept, err := Cached(dir, "another build", nil); err != nil || kept != again {
		t.Fatalf("figures were not kept: %+v %v", kept, err)
	}
}
