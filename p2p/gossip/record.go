package gossip

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Record says what one machine is and can do. Records that this package hands
// out are shared: read them only.
type Record struct {
	// Peer, Role and Links are filled in by gossip when a record is published.
	Peer  peer.ID
	Role  string
	Links []Link

	Name     string // as the user calls the machine
	Software string // version of the program
	Wire     uint32
	Contract uint32
	OS, Arch string

	CPU    CPU
	Speeds []KernelSpeed
	Memory Memory
	GPUs   []GPU
	Load   Load
	Models []HeldModel
	Plans  []Generation
	Stamp  time.Time // by the machine's own clock
	// Disk sizes are in bytes, of the volume of the store.
	DiskFree, DiskTotal uint64
}

// CPU describes the processor.
type CPU struct {
	Model          string
	Cores, Threads int
	Tier           string // kernel tier in use, such as avx512vnni
}

// KernelSpeed is one measurement of this machine's kernels.
type KernelSpeed struct {
	Threads int
	Kind    string // weight type
	// DecodeBytesPerSecond is the rate at which weights stream through, when a step
	// reads 47 MB of them; FarBytesPerSecond when it reads five times as many, of
	// which caches hold a smaller part. 0: not measured.
	DecodeBytesPerSecond, FarBytesPerSecond float64
	// Layer is what a layer of a decode step takes beside reading its weights; 0: not
	// measured.
	Layer time.Duration
	// PrefillOpsPerSecond counts a multiply-add as two operations.
	PrefillOpsPerSecond float64
}

// Memory is in bytes. Offered is what weft may use in all.
type Memory struct {
	Total, Free, Offered uint64
}

// GPU is one graphics device. Only a usable one counts in a plan; Reason says
// why another does not.
type GPU struct {
	Name, Vendor, Driver string
	VRAMTotal, VRAMFree  uint64 // bytes
	Shared               bool   // it has no memory of its own but the processor's
	Usable               bool
	Reason               string
	// Of a usable one: bytes that stages may take in all, and that are left; its
	// measured speed as of KernelSpeed; and whether its user wants it filled before
	// others.
	StageBytes, StageFree uint64
	DecodeBytesPerSecond  float64
	PrefillOpsPerSecond   float64
	Layer                 time.Duration
	First                 bool
	// Sensors; 0 when not known.
	Celsius, Watts float64
}

// Load is what the machine does now. Bytes are of memory in use by weft.
type Load struct {
	ActiveSessions, QueuedSessions int
	TokensPerSecond                float64 // of the replies that it heads
	PositionsPerSecond             float64 // that its stages compute, for any head
	Busy                           float64 // part of the processors' time in use, 0 to 1
	KVBytes, WeightBytes           uint64
}

// HeldModel is a model of which the machine holds tensors.
type HeldModel struct {
	Manifest   [32]byte // hash of the manifest
	Name       string
	Profile    string // numeric profile
	LayerCount int    // of the whole model
	Complete   bool   // all tensors are held
	Layers     []LayerRange
	Bytes      uint64 // held
}

// LayerRange is First <= layer < End.
type LayerRange struct{ First, End int }

// Generation is a plan for a model that the machine takes part in, or heads.
type Generation struct {
	Model      [32]byte
	Profile    string // the numeric profile, as of HeldModel
	Generation uint64
	State      string    // how far the machine's stage is, or its plan where it is no stage
	Stages     []peer.ID // in order; none where a head speaks
	Copy       bool      // it was made beside another plan of the model
	Sessions   int       // replies that the machine's stage has, of all heads
	Placed     []Placed  // where the stage's layers lie, in order; none where all are on the processor
	Relaid     bool      // more of them would be on graphics processors if they were loaded now
}

// Placed is layers on one device; no name is the processor.
type Placed struct {
	Device string
	Layers LayerRange
}

// Link is a measured connection from another node to this one.
type Link struct {
	Peer peer.ID
	RTT  time.Duration
	// BytesPerSecond arrive from the peer; 0 when not measured.
	BytesPerSecond uint64
}
