package kernels

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels/quant"
)

// ContractVersion numbers the arithmetic contract of this package's
// documentation. Nodes of different versions are never planned together.
const ContractVersion = 1

// BlockPositions is the number of token positions of one KV block.
const BlockPositions = 16

// KVType is the number type in which keys and values are kept.
type KVType uint8

// The KV types of the contract.
const (
	KVF16 KVType = iota // IEEE half precision, round to nearest even
	KVF32               // single precision, read through the floor
)

// ActBits is the width of quantised activations: 8 or 16.
type ActBits uint8

// The activation widths of the contract.
const (
	Act8  ActBits = 8
	Act16 ActBits = 16
)

// KVLayout is the shape of a stage's KV memory.
type KVLayout struct {
	Type    KVType
	Layers  int // layers of the stage
	Heads   int // KV heads of a layer
	HeadDim int // elements of a head
}

// BlockBytes is the size of one KV block: keys and values of BlockPositions
// positions, for every layer and head of the layout.
func (l KVLayout) BlockBytes() int64 {
	size := int64(2)
	if l.Type == KVF32 {
		size = 4
	}
	return size * 2 * BlockPositions * int64(l.Layers) * int64(l.Heads) * int64(l.HeadDim)
}

// Row places one row of a batch: the token at position Pos of sequence Seq.
type Row struct {
	Seq int32 // index into Batch.Seqs
	Pos int32 // absolute position, from 0
}

// Fault is what makes a row's run fail: a value that the contract refuses.
type Fault struct {
	Row   int    // row of the batch
	Layer int    // layer of the model, or -1 outside the layers
	Op    string // operation that met the value: "norm", "quantise", "kv", "attention", "router", "logits"
}

// Batch is one step's rows, of any number of sequences. The caller owns the
// slices and may reuse them after Sync. Rows of one sequence come in ascending
// position. A row's results depend on that row's own sequence alone.
type Batch struct {
	Rows   []Row
	Seqs   [][]int32 // per sequence its table of KV blocks: block i holds positions 16i to 16i+15
	Layer  int       // set by the caller before each layer's operations; named in faults
	Faults []Fault   // appended by the device: at most one per row, its first; read after Sync
}

// CheckKV says whether every row's position lies in a block of its sequence, in
// KV memory of that layout and number of blocks, and whether it has the layer.
func (b *Batch) CheckKV(l KVLayout, blocks, layer int) error {
	if layer < 0 || layer >= l.Layers {
		return fmt.Errorf("layer %d of KV memory of %d layers", layer, l.Layers)
	}
	for _, r := range b.Rows {
		table := b.Seqs[r.Seq]
		at := int(r.Pos) / BlockPositions
		if r.Pos < 0 || at >= len(table) || table[at] < 0 || int(table[at]) >= blocks {
			return fmt.Errorf("no KV block for position %d of sequence %d", r.Pos, r.Seq)
		}
	}
	return nil
}

// Matrix is a device's weight matrix of Rows outputs by Cols inputs.
type Matrix interface {
	Shape() (rows, cols int)
	Close() error
}

// Vector is a device's float vector: norm weights, biases.
type Vector interface{ Len() int }

// Buffer is a device's table of f32 rows.
type Buffer interface{ Shape() (rows, cols int) }

// Acts is the input of matrix products: rows of a buffer, with whatever
// quantised form the matrices that read it need.
type Acts interface{ Shape() (rows, cols int) }

// KV is a device's KV memory: a number of blocks of one layout. Which block
// belongs to whom is the caller's business (package kv).
type KV interface {
	Layout() KVLayout
	Blocks() int
	Close() error
}

// RopeMode says which elements of a head rotate together.
type RopeMode uint8

const (
	// RopePairs rotates elements 2i and 2i+1 (llama).
	RopePairs RopeMode = iota
	// RopeHalves rotates elements i and i+n/2 (NeoX: qwen and most others).
	RopeHalves
)

// Rope is a device's table of cosines and sines for positions from 0.
type Rope interface {
	Positions() int
	Dims() int // rotated elements of a head
}

// AttnParams is the shape of one attention operation.
type AttnParams struct {
	Heads   int     // query heads
	Scale   float32 // factor of a score
	Window  int     // a query sees positions p-Window+1..p; 0 sees 0..p
	Softcap float32 // scores become Softcap*tanh(score/Softcap); 0 leaves them
}

// Device is the seam between a model's graph and the arithmetic. The graph is
// written once over it. Every device gives the bits that this package's
// contract defines, and passes package conform to prove it; only the exact
// device (package exact), which tests hold to float references, does not.
//
// A device is used by one goroutine at a time. Operations may run after they
// return; Sync waits for them. Operations cover rows 0..len(b.Rows)-1 of the
// buffers they name, or the first n rows where they take n. Wrong shapes and
// foreign handles are programmer's errors and panic.
type Device interface {
	// Name says what the device is, for people: "cpu avx512vnni, 2 threads".
	Name() string

	// NewMatrix makes a matrix of packed weights. A device in host memory
	// reads p's bytes where they are (often a mapped file): they must stay
	// valid and unchanged until the matrix is closed.
	NewMatrix(p *quant.Packed) (Matrix, error)
	// NewVector copies v, each element through the floor.
	NewVector(v []float32) (Vector, error)
	// NewBuffer makes a buffer of zeros.
	NewBuffer(rows, cols int) (Buffer, error)
	// NewActs makes room for rows inputs of cols elements.
	NewActs(rows, cols int, bits ActBits) (Acts, error)
	// NewKV makes KV memory. Its pages cost memory when they are first used.
	NewKV(l KVLayout, blocks int) (KV, error)
	// NewRope makes a table from cos and sin, each positions*dims/2 long.
	NewRope(cos, sin []float32, positions, dims int) (Rope, error)
	// NewExperts makes room for MixExperts of so many rows.
	NewExperts(s ExpertShape, rows int, bits ActBits) (Experts, error)
	// Free gives the memory of a buffer, acts, vector, rope or experts back.
	Free(handle any)

	// Write stores whole rows from row on, each element through the floor.
	Write(dst Buffer, row int, src []float32)
	// Read waits, then copies whole rows from row on into dst.
	Read(dst []float32, src Buffer, row int) error

	// Embed stores the rows ids of w, one per batch row.
	Embed(b *Batch, dst Buffer, w Matrix, ids []int32)
	// Norm is RMSNorm with weights w over each run of w.Len() elements of a
	// row: the whole row, or each head of it. dst may be x.
	Norm(b *Batch, dst, x Buffer, w Vector, eps float32)
	// Prepare makes x's rows the input of the products that follow, until the
	// next Prepare of dst. It takes their values: x may change afterwards.
	Prepare(b *Batch, dst Acts, x Buffer)
	// MatMul stores w times each row of x, which Prepare must have filled with at
	// least as many rows. Quantised weights want a multiple of 32 columns.
	MatMul(b *Batch, dst Buffer, w Matrix, x Acts)
	// AddVector adds v to each row of x.
	AddVector(b *Batch, x Buffer, v Vector)
	// Rotate applies rotary embedding to each head of headDim elements, in place,
	// at the rows' positions, which the table must have.
	Rotate(b *Batch, x Buffer, headDim int, t Rope, mode RopeMode)
	// StoreKV rounds keys and values to the KV type and puts them at the
	// rows' positions. layer counts from the stage's first.
	StoreKV(b *Batch, kv KV, layer int, k, v Buffer)
	// Attention stores each row's attention over its sequence's positions, which
	// must have been stored, the row's own included. dst must not be q.
	Attention(b *Batch, dst, q Buffer, kv KV, layer int, p AttnParams)
	// SiLUMul stores SiLU(gate) times up. dst may be gate or up.
	SiLUMul(b *Batch, dst, gate, up Buffer)
	// Add adds y to x.
	Add(b *Batch, x, y Buffer)
	// MixExperts stores what experts make of x, which Prepare must have filled:
	// of each row those with its largest logits, one logit an expert. dst may be
	// the buffer that x was prepared from.
	MixExperts(b *Batch, dst Buffer, e Experts, logits Buffer, x Acts, w ExpertWeights)
	// AddGated adds y times the sigmoid of gate, a buffer of one column, to x.
	AddGated(b *Batch, x, y, gate Buffer)
	// Gather copies rows of src to rows 0.. of dst. dst must not be src.
	Gather(dst, src Buffer, rows []int32)
	// CheckFinite reports a "logits" fault for each row of x that holds a
	// value that is not finite.
	CheckFinite(b *Batch, x Buffer)
	// Reduce waits, then answers what r asks about rows of x: what a sampler needs
	// of logits. x stays as it is.
	Reduce(x Buffer, r *Reduction) error
	// HostMemory says that buffers lie in the host's memory: Read costs little
	// more than Reduce then.
	HostMemory() bool

	// Sync waits until every operation has ended. An error means that the
	// device is lost; values that the contract refuses are faults instead.
	Sync() error
	// Close gives everything back. Nothing of the device may be used after.
	Close() error
}
