package gossip

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/google/go-cmp/cmp"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

func gpuRecord(t *testing.T, g GPU) (*Record, error) {
	t.Helper()
	r := &Record{Peer: somePeer(t), Name: "n", GPUs: []GPU{g}, Stamp: time.UnixMilli(1)}
	b, err := EncodeRecord(r)
	if err != nil {
		return nil, err
	}
	return DecodeRecord(b)
}

func TestWhatAGPUCanDoIsTold(t *testing.T) {
	want := GPU{
		Name: "Card", Vendor: "v", Driver: "d", VRAMTotal: 8e9, VRAMFree: 7e9, Usable: true, StageBytes: 6e9, StageFree: 5e9,
		DecodeBytesPerSecond: 3e11, PrefillOpsPerSecond: 9e12, First: true, Celsius: 55, Watts: 120,
	}
	got, err := gpuRecord(t, want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]GPU{want}, got.GPUs); diff != "" {
		t.Error(diff)
	}
}

func TestRecordsOfNodesThatKnowNoDevicesAreUnderstood(t *testing.T) {
	b, err := proto.Marshal(&weftv1.Record{Peer: []byte(somePeer(t)), Name: "old", Gpus: []*weftv1.Gpu{{Name: "Card", VramTotal: 8e9, Reason: "seen, not used"}}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := DecodeRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]GPU{{Name: "Card", VRAMTotal: 8e9, Reason: "seen, not used"}}, r.GPUs); diff != "" {
		t.Error(diff)
	}
}

func TestGPUsThatMakeNoSenseAreRefused(t *testing.T) {
	for name, g := range map[string]GPU{
		"no number":   {DecodeBytesPerSecond: math.NaN()},
		"negative":    {PrefillOpsPerSecond: -1},
		"hot":         {Celsius: math.Inf(1)},
		"no watts":    {Watts: math.NaN()},
		"slow layer":  {Layer: 2 * time.Hour},
		"memory":      {StageBytes: 1 << 60},
		"free memory": {StageFree: math.MaxUint64},
	} {
		if _, err := gpuRecord(t, g); !errors.Is(err, ErrRecord) || strings.TrimSpace(err.Error()) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
