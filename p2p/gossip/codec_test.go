package gossip

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

func somePeer(t testing.TB) peer.ID {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// full returns a record with every field set.
func full(t testing.TB) *Record {
	a, b := somePeer(t), somePeer(t)
	return &Record{
		Peer: a, Role: "compute", Name: "box", Software: "1.2", Wire: 1, Contract: 2, OS: "linux", Arch: "amd64",
		CPU:    CPU{Model: "Some CPU", Cores: 4, Threads: 8, Tier: "avx512vnni"},
		Speeds: []KernelSpeed{{Threads: 2, Kind: "Q4_0", DecodeBytesPerSecond: 3e10, FarBytesPerSecond: 2e10, Layer: 20 * time.Microsecond, PrefillOpsPerSecond: 6e11}},
		Memory: Memory{Total: 1 << 34, Free: 1 << 33, Offered: 1 << 32},
		GPUs:   []GPU{{Name: "H200", Vendor: "nvidia", Driver: "nvidia", VRAMTotal: 1 << 37, VRAMFree: 1 << 36, Shared: true, Usable: false, Reason: "seen, not used", Layer: time.Millisecond}},
		Load:   Load{ActiveSessions: 1, QueuedSessions: 2, TokensPerSecond: 3.5, PositionsPerSecond: 70, Busy: 0.5, KVBytes: 4, WeightBytes: 5},
		Models: []HeldModel{{Manifest: [32]byte{7}, Name: "m", Profile: "v1,8,f16", LayerCount: 30, Complete: true, Layers: []LayerRange{{0, 30}}, Bytes: 99}},
		Plans: []Generation{{
			Model: [32]byte{7}, Profile: "f16/8/2048", Generation: 3, State: "ready", Stages: []peer.ID{a, b}, Copy: true, Sessions: 3,
			Placed: []Placed{{Layers: LayerRange{0, 3}}, {Device: "Card", Layers: LayerRange{3, 8}}}, Relaid: true,
		}},
		Links:    []Link{{Peer: b, RTT: 123 * time.Microsecond, BytesPerSecond: 1 << 27}},
		Stamp:    time.UnixMilli(1_900_000_000_123),
		DiskFree: 1 << 40, DiskTotal: 1 << 41,
	}
}

func TestARecordSurvivesTheWire(t *testing.T) {
	want := full(t)
	b, err := EncodeRecord(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAnyAcceptableRecordSurvivesTheWire(t *testing.T) {
	self := somePeer(t)
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.Uint64()
		rate := rapid.Float64Range(0, 1e18)
		want := &Record{
			Peer: self, Name: rapid.StringMatching(`[a-z0-9]{0,60}`).Draw(r, "name"), Stamp: time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(r, "stamp")),
			Memory: Memory{n.Draw(r, "total"), n.Draw(r, "free"), n.Draw(r, "offered")},
			Load:   Load{ActiveSessions: rapid.IntRange(0, maxCount).Draw(r, "sessions"), TokensPerSecond: rate.Draw(r, "rate")},
		}
		for range rapid.IntRange(0, 5).Draw(r, "models") {
			first := rapid.IntRange(0, 100).Draw(r, "first")
			want.Models = append(want.Models, HeldModel{
				Manifest: [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(r, "manifest")),
				Layers:   []LayerRange{{first, first + rapid.IntRange(1, 50).Draw(r, "layers")}}, Bytes: n.Draw(r, "bytes"),
			})
		}
		b, err := EncodeRecord(want)
		if err != nil {
			r.Fatal(err)
		}
		got, err := DecodeRecord(b)
		if err != nil {
			r.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			r.Fatal(diff)
		}
	})
}

func TestHostileRecordsAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(p *weftv1.Record){
		"no peer":        func(p *weftv1.Record) { p.Peer = nil },
		"nonsense peer":  func(p *weftv1.Record) { p.Peer = []byte("xyz") },
		"NaN":            func(p *weftv1.Record) { p.Load.TokensPerS = math.NaN() },
		"slow layer":     func(p *weftv1.Record) { p.Speeds[0].LayerNs = math.MaxUint64 },
		"no far rate":    func(p *weftv1.Record) { p.Speeds[0].FarBytesPerS = math.Inf(1) },
		"infinite":       func(p *weftv1.Record) { p.Speeds[0].DecodeBytesPerS = math.Inf(1) },
		"negative":       func(p *weftv1.Record) { p.Speeds[0].PrefillOpsPerS = -1 },
		"overloaded":     func(p *weftv1.Record) { p.Load.Busy = 1.5 },
		"busy NaN":       func(p *weftv1.Record) { p.Load.Busy = math.NaN() },
		"threads":        func(p *weftv1.Record) { p.Speeds[0].Threads = math.MaxUint32 },
		"cores":          func(p *weftv1.Record) { p.Cpu.Cores = math.MaxUint32 },
		"short hash":     func(p *weftv1.Record) { p.Models[0].Manifest = []byte{1} },
		"empty range":    func(p *weftv1.Record) { p.Models[0].Layers[0].End = 0 },
		"range too high": func(p *weftv1.Record) { p.Models[0].Layers[0].End = math.MaxUint32 },
		"many models":    func(p *weftv1.Record) { p.Models = make([]*weftv1.HeldModel, maxModels+1) },
		"many links":     func(p *weftv1.Record) { p.Links = make([]*weftv1.Link, maxLinks+1) },
		"slow link":      func(p *weftv1.Record) { p.Links[0].RttUs = math.MaxUint64 },
		"link to nobody": func(p *weftv1.Record) { p.Links[0].Peer = []byte{1} },
		"plan of nobody": func(p *weftv1.Record) { p.Generations[0].Stages[0] = nil },
		"placed nowhere": func(p *weftv1.Record) { p.Generations[0].Placed[0].End = 0 },
		"many places":    func(p *weftv1.Record) { p.Generations[0].Placed = make([]*weftv1.Placed, maxLayerRanges+1) },
		"plan hash":      func(p *weftv1.Record) { p.Generations[0].Model = make([]byte, 33) },
		"too large":      func(p *weftv1.Record) { p.Os = strings.Repeat("x", MaxRecord) },
	} {
		p := toProto(full(t))
		spoil(p)
		b, err := proto.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeRecord(b); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := DecodeRecord([]byte{0xff}); !errors.Is(err, ErrRecord) {
		t.Errorf("garbage: %v", err)
	}
	if _, err := EncodeRecord(&Record{}); !errors.Is(err, ErrRecord) {
		t.Errorf("a record of nobody was encoded: %v", err)
	}
}

func TestTextsOfARecordAreMadeFitForDisplay(t *testing.T) {
	r := full(t)
	r.Name, r.CPU.Model, r.GPUs[0].Reason = "a\x1b[2Jb", strings.Repeat("x", 1000), "line\nbreak"
	b, err := EncodeRecord(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeRecord(b)
	if err != nil || got.Name != "a[2Jb" || len(got.CPU.Model) != maxText || got.GPUs[0].Reason != "linebreak" {
		t.Errorf("%+v, %v", got, err)
	}
}

func someMeta() meta {
	return meta{
		addrs: []ma.Multiaddr{
			ma.StringCast("/ip4/10.0.0.1/tcp/9338"), ma.StringCast("/ip4/10.0.0.1/udp/9338/quic-v1"), ma.StringCast("/ip6/fd00::1/tcp/9338"),
		},
		version: 5, digest: [digestSize]byte{1, 2},
	}
}

func TestMetadataSurvivesAndFits(t *testing.T) {
	want := someMeta()
	got, err := decodeMeta(want.encode(maxMeta))
	same := cmp.Comparer(func(a, b ma.Multiaddr) bool { return a.Equal(b) })
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(meta{}), same); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for range 50 {
		want.addrs = append(want.addrs, want.addrs[2])
	}
	for _, limit := range []int{maxMeta, 100, 40} {
		b := want.encode(limit)
		got, err := decodeMeta(b)
		if err != nil || len(b) > limit || got.version != want.version || len(got.addrs) > maxMetaAddrs {
			t.Errorf("limit %d: %d bytes, %d addresses, %v", limit, len(b), len(got.addrs), err)
		}
	}
	none := meta{}
	if got, err := decodeMeta(none.encode(maxMeta)); err != nil || !cmp.Equal(none, got, cmp.AllowUnexported(meta{}), cmpopts.EquateEmpty()) {
		t.Errorf("empty: %+v, %v", got, err)
	}
}

func TestHostileMetadataIsRefused(t *testing.T) {
	addr := ma.StringCast("/ip4/10.0.0.1/tcp/1").Bytes()
	for name, p := range map[string]*weftv1.NodeMeta{
		"many addresses": {Addrs: slicesRepeat(addr, maxMetaAddrs+1)},
		"long address":   {Addrs: [][]byte{make([]byte, maxAddrBytes+1)}},
		"no address":     {Addrs: [][]byte{{0xff, 0xff}}},
		"a name":         {Addrs: [][]byte{ma.StringCast("/dns4/example.org/tcp/1").Bytes()}},
		"a relay":        {Addrs: [][]byte{ma.StringCast("/ip4/10.0.0.1/tcp/1/p2p-circuit").Bytes()}},
		"short digest":   {RecordVersion: 1, RecordDigest: []byte{1}},
	} {
		b, err := proto.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeMeta(b); !errors.Is(err, errMeta) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, b := range [][]byte{{0xff}, make([]byte, maxMeta+1)} {
		if _, err := decodeMeta(b); !errors.Is(err, errMeta) {
			t.Errorf("garbage: %v", err)
		}
	}
}

func slicesRepeat(b []byte, n int) (out [][]byte) {
	for range n {
		out = append(out, b)
	}
	return out
}

func TestAnAnnouncedLengthIsBounded(t *testing.T) {
	head := make([]byte, recordHeader)
	for i := range head {
		head[i] = 0xff
	}
	if _, _, err := readRecord(bytes.NewReader(head)); !errors.Is(err, ErrRecord) {
		t.Errorf("huge: %v", err)
	}
	for _, cut := range []int{0, 5} {
		if _, _, err := readRecord(bytes.NewReader(head[:cut])); err == nil {
			t.Errorf("cut at %d: no error", cut)
		}
	}
	copy(head[8:], []byte{0, 0, 0, 9})
	if _, _, err := readRecord(bytes.NewReader(head)); err == nil {
		t.Error("a missing record was read")
	}
}

func TestArrivalRateIgnoresTheStart(t *testing.T) {
	// 4 chunks of 1000 bytes: the first takes a second, the others 10 ms.
	var at time.Duration
	r := &paced{chunks: 4, step: func(i int) {
		at += 10 * time.Millisecond
		if i == 0 {
			at += time.Second
		}
	}}
	start := time.Unix(0, 0)
	got, err := arrivalRate(r, func() time.Time { return start.Add(at) })
	if err != nil || got != 100_000 {
		t.Errorf("%d bytes a second, %v; want 100000", got, err)
	}
	if _, err := arrivalRate(bytes.NewReader(nil), time.Now); !errors.Is(err, errProbe) {
		t.Errorf("nothing: %v", err)
	}
}

// paced delivers chunks of 1000 bytes and moves the clock.
type paced struct {
	i, chunks int
	step      func(int)
}

func (p *paced) Read(b []byte) (int, error) {
	if p.i == p.chunks {
		return 0, io.EOF
	}
	p.step(p.i)
	p.i++
	return 1000, nil
}

func TestPausesGrowOnlyForTheLongMissing(t *testing.T) {
	round := 2 * time.Second
	for tries, want := range map[int]time.Duration{1: time.Second, eagerTries: time.Second, eagerTries + 1: 4 * time.Second, 1000: longestPause} {
		if got := pause(tries, round); got != want {
			t.Errorf("after %d tries: %v, want %v", tries, got, want)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	b, err := EncodeRecord(full(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRecord(b)
		if err != nil {
			return
		}
		// What was accepted is canonical from then on.
		again, err := EncodeRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeRecord(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, back); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzDecodeMeta(f *testing.F) {
	m := someMeta()
	f.Add(m.encode(maxMeta))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		if err != nil {
			return
		}
		if _, err := decodeMeta(m.encode(maxMeta)); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzReadPacket(f *testing.F) {
	f.Add([]byte{0, 3, 'a', 'b', 'c'})
	f.Add([]byte{0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := readPacket(bytes.NewReader(b))
		if err == nil && (len(p)+2 > len(b) || !bytes.Equal(p, b[2:2+len(p)])) {
			t.Fatalf("%x gave %x", b, p)
		}
	})
}
