package gossip

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"github.com/weft-mesh/weft/p2p/admission"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// MaxRecord is the largest encoded record in bytes.
const MaxRecord = 64 << 10

// Bounds of a record's lists and texts. Texts are cut, lists refused.
const (
	maxText        = 128
	maxSpeeds      = 64
	maxGPUs        = 32
	maxModels      = 512
	maxLayerRanges = 256
	maxLayer       = 1 << 16
	maxPlans       = 256
	maxStages      = 256
	maxLinks       = 1024
	maxCount       = 1 << 24
)

// ErrRecord means that a capacity record is malformed or too large.
var ErrRecord = errors.New("capacity record is malformed")

// EncodeRecord returns the wire form, or an error if it exceeds MaxRecord or
// would be refused by DecodeRecord.
func EncodeRecord(r *Record) ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(toProto(r))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if _, err := DecodeRecord(b); err != nil {
		return nil, err
	}
	return b, nil
}

// DecodeRecord parses and checks a foreign record.
func DecodeRecord(b []byte) (*Record, error) {
	if len(b) > MaxRecord {
		return nil, fmt.Errorf("%w: %d bytes are more than %d", ErrRecord, len(b), MaxRecord)
	}
	var p weftv1.Record
	if err := proto.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	d := decoder{}
	r := d.record(&p)
	if d.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, d.err)
	}
	return r, nil
}

func toProto(r *Record) *weftv1.Record {
	p := &weftv1.Record{
		Peer: []byte(r.Peer), Role: r.Role, Name: r.Name, Software: r.Software,
		WireVersion: r.Wire, ContractVersion: r.Contract, Os: r.OS, Arch: r.Arch,
		Cpu:      &weftv1.Cpu{Model: r.CPU.Model, Cores: uint32(r.CPU.Cores), Threads: uint32(r.CPU.Threads), Tier: r.CPU.Tier},
		Memory:   &weftv1.Memory{Total: r.Memory.Total, Free: r.Memory.Free, Offered: r.Memory.Offered},
		DiskFree: r.DiskFree, DiskTotal: r.DiskTotal,
		Load: &weftv1.Load{
			ActiveSessions: uint32(r.Load.ActiveSessions), QueuedSessions: uint32(r.Load.QueuedSessions),
			TokensPerS: r.Load.TokensPerSecond, PositionsPerS: r.Load.PositionsPerSecond, Busy: r.Load.Busy,
			KvBytes: r.Load.KVBytes, WeightBytes: r.Load.WeightBytes,
		},
		StampUnixMs: r.Stamp.UnixMilli(),
	}
	for _, s := range r.Speeds {
		p.Speeds = append(p.Speeds, &weftv1.KernelSpeed{
			Threads: uint32(s.Threads), Kind: s.Kind, DecodeBytesPerS: s.DecodeBytesPerSecond, PrefillOpsPerS: s.PrefillOpsPerSecond,
			FarBytesPerS: s.FarBytesPerSecond, LayerNs: uint64(max(0, s.Layer)),
		})
	}
	for _, g := range r.GPUs {
		p.Gpus = append(p.Gpus, &weftv1.Gpu{
			Name: g.Name, Vendor: g.Vendor, VramTotal: g.VRAMTotal, VramFree: g.VRAMFree, Usable: g.Usable, Reason: g.Reason,
			Shared: g.Shared, Driver: g.Driver, StageBytes: g.StageBytes, StageFree: g.StageFree,
			DecodeBytesPerS: g.DecodeBytesPerSecond, PrefillOpsPerS: g.PrefillOpsPerSecond, First: g.First, Celsius: g.Celsius, Watts: g.Watts,
			LayerNs: uint64(max(0, g.Layer)),
		})
	}
	for _, m := range r.Models {
		h := &weftv1.HeldModel{
			Manifest: m.Manifest[:], Name: m.Name, Profile: m.Profile, Complete: m.Complete,
			Bytes: m.Bytes, LayerCount: uint32(m.LayerCount),
		}
		for _, l := range m.Layers {
			h.Layers = append(h.Layers, &weftv1.LayerRange{First: uint32(l.First), End: uint32(l.End)})
		}
		p.Models = append(p.Models, h)
	}
	for _, g := range r.Plans {
		q := &weftv1.Generation{Model: g.Model[:], Profile: g.Profile, Generation: g.Generation, State: g.State, Copy: g.Copy, Sessions: uint32(max(0, g.Sessions)), Relaid: g.Relaid}
		for _, s := range g.Stages {
			q.Stages = append(q.Stages, []byte(s))
		}
		for _, at := range g.Placed {
			q.Placed = append(q.Placed, &weftv1.Placed{Device: at.Device, First: uint32(at.Layers.First), End: uint32(at.Layers.End)})
		}
		p.Generations = append(p.Generations, q)
	}
	for _, l := range r.Links {
		p.Links = append(p.Links, &weftv1.Link{Peer: []byte(l.Peer), RttUs: uint64(max(0, l.RTT.Microseconds())), BytesPerS: l.BytesPerSecond})
	}
	return p
}

// decoder checks fields and keeps the first error.
type decoder struct{ err error }

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

func (d *decoder) record(p *weftv1.Record) *Record {
	cpu, mem, load := p.GetCpu(), p.GetMemory(), p.GetLoad()
	return &Record{
		Peer: d.peer(p.GetPeer()), Role: text(p.GetRole()), Name: admission.CleanName(p.GetName()), Software: text(p.GetSoftware()),
		Wire: p.GetWireVersion(), Contract: p.GetContractVersion(), OS: text(p.GetOs()), Arch: text(p.GetArch()),
		CPU: CPU{
			Model: text(cpu.GetModel()), Cores: d.count("cores", cpu.GetCores()),
			Threads: d.count("threads", cpu.GetThreads()), Tier: text(cpu.GetTier()),
		},
		Memory:   Memory{Total: mem.GetTotal(), Free: mem.GetFree(), Offered: mem.GetOffered()},
		DiskFree: p.GetDiskFree(), DiskTotal: p.GetDiskTotal(),
		Load: Load{
			ActiveSessions: d.count("sessions", load.GetActiveSessions()), QueuedSessions: d.count("sessions", load.GetQueuedSessions()),
			TokensPerSecond: d.rate("tokens", load.GetTokensPerS()), PositionsPerSecond: d.rate("positions", load.GetPositionsPerS()),
			Busy: d.share("load", load.GetBusy()), KVBytes: load.GetKvBytes(), WeightBytes: load.GetWeightBytes(),
		},
		Stamp:  time.UnixMilli(p.GetStampUnixMs()),
		Speeds: list(d, "speeds", maxSpeeds, p.GetSpeeds(), d.speed),
		GPUs:   list(d, "gpus", maxGPUs, p.GetGpus(), d.gpu),
		Models: list(d, "models", maxModels, p.GetModels(), d.model),
		Plans:  list(d, "plans", maxPlans, p.GetGenerations(), d.plan),
		Links:  list(d, "links", maxLinks, p.GetLinks(), d.link),
	}
}

// list converts at most limit elements.
func list[P, T any](d *decoder, what string, limit int, in []P, one func(P) T) []T {
	if len(in) > limit {
		d.fail("%d %s are more than %d", len(in), what, limit)
		return nil
	}
	var out []T
	for _, p := range in {
		out = append(out, one(p))
	}
	return out
}

func text(s string) string { return admission.Printable(s, maxText) }

func (d *decoder) peer(b []byte) peer.ID {
	id, err := peer.IDFromBytes(b)
	if err != nil || len(b) > maxText {
		d.fail("a peer id is malformed")
		return ""
	}
	return id
}

func (d *decoder) count(what string, n uint32) int {
	if n > maxCount {
		d.fail("%s: %d", what, n)
		return 0
	}
	return int(n)
}

func (d *decoder) rate(what string, f float64) float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) || f < 0 {
		d.fail("%s a second: %v", what, f)
		return 0
	}
	return f
}

func (d *decoder) share(what string, f float64) float64 {
	if !(f >= 0 && f <= 1) {
		d.fail("%s: %v is no part of 1", what, f)
		return 0
	}
	return f
}

// time bounds a duration, so that sums of many do not overflow.
func (d *decoder) time(what string, ns uint64) time.Duration {
	if ns > uint64(time.Hour) {
		d.fail("%s takes %d ns", what, ns)
		return 0
	}
	return time.Duration(ns)
}

// bytes bounds a size, so that sums of a few do not overflow.
func (d *decoder) bytes(what string, n uint64) uint64 {
	if n > 1<<56 {
		d.fail("%s: %d bytes", what, n)
		return 0
	}
	return n
}

func (d *decoder) hash(b []byte) (h [32]byte) {
	if len(b) != len(h) {
		d.fail("a hash of %d bytes", len(b))
	}
	copy(h[:], b)
	return h
}

func (d *decoder) speed(p *weftv1.KernelSpeed) KernelSpeed {
	return KernelSpeed{
		Threads: d.count("threads", p.GetThreads()), Kind: text(p.GetKind()),
		DecodeBytesPerSecond: d.rate("bytes", p.GetDecodeBytesPerS()),
		PrefillOpsPerSecond:  d.rate("operations", p.GetPrefillOpsPerS()),
		FarBytesPerSecond:    d.rate("bytes", p.GetFarBytesPerS()), Layer: d.time("a layer", p.GetLayerNs()),
	}
}

func (d *decoder) gpu(p *weftv1.Gpu) GPU {
	return GPU{
		Name: text(p.GetName()), Vendor: text(p.GetVendor()), VRAMTotal: p.GetVramTotal(), VRAMFree: p.GetVramFree(),
		Usable: p.GetUsable(), Reason: text(p.GetReason()), Shared: p.GetShared(), Driver: text(p.GetDriver()),
		StageBytes: d.bytes("a GPU's memory", p.GetStageBytes()), StageFree: d.bytes("a GPU's memory", p.GetStageFree()),
		DecodeBytesPerSecond: d.rate("bytes", p.GetDecodeBytesPerS()), PrefillOpsPerSecond: d.rate("operations", p.GetPrefillOpsPerS()),
		Layer: d.time("a layer", p.GetLayerNs()), First: p.GetFirst(), Celsius: d.rate("degrees", p.GetCelsius()), Watts: d.rate("joules", p.GetWatts()),
	}
}

func (d *decoder) model(p *weftv1.HeldModel) HeldModel {
	return HeldModel{
		Manifest: d.hash(p.GetManifest()), Name: text(p.GetName()), Profile: text(p.GetProfile()),
		LayerCount: d.count("layers", p.GetLayerCount()), Complete: p.GetComplete(), Bytes: p.GetBytes(),
		Layers: list(d, "layer ranges", maxLayerRanges, p.GetLayers(), d.layers),
	}
}

func (d *decoder) layers(p *weftv1.LayerRange) LayerRange {
	if p.GetFirst() >= p.GetEnd() || p.GetEnd() > maxLayer {
		d.fail("layer range %d to %d", p.GetFirst(), p.GetEnd())
	}
	return LayerRange{First: int(p.GetFirst()), End: int(p.GetEnd())}
}

func (d *decoder) plan(p *weftv1.Generation) Generation {
	return Generation{
		Model: d.hash(p.GetModel()), Profile: text(p.GetProfile()), Generation: p.GetGeneration(), State: text(p.GetState()),
		Stages: list(d, "stages", maxStages, p.GetStages(), d.peer), Copy: p.GetCopy(), Sessions: d.count("sessions", p.GetSessions()),
		Placed: list(d, "devices of a stage", maxLayerRanges, p.GetPlaced(), d.placed), Relaid: p.GetRelaid(),
	}
}

func (d *decoder) placed(p *weftv1.Placed) Placed {
	return Placed{Device: text(p.GetDevice()), Layers: d.layers(&weftv1.LayerRange{First: p.GetFirst(), End: p.GetEnd()})}
}

func (d *decoder) link(p *weftv1.Link) Link {
	const hour = uint64(time.Hour / time.Microsecond)
	if p.GetRttUs() > hour {
		d.fail("a round trip of %d µs", p.GetRttUs())
		return Link{}
	}
	return Link{Peer: d.peer(p.GetPeer()), RTT: time.Duration(p.GetRttUs()) * time.Microsecond, BytesPerSecond: p.GetBytesPerS()}
}
