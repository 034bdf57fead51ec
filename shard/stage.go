package shard

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/shard/kv"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/sample"
)

// Source gives a stage its tensors; package store has it. It is asked for exactly the tensors of the layer range.
type Source = model.Source

// Options are what a stage is made of.
type Options struct {
	Model   *model.Config
	ID      [32]byte // the model's identity (hash of its manifest): part of every key of the prefix cache
	Profile model.Profile
	Range   model.Range
	Source  Source
	Device  kernels.Device // computes the whole range; stays the caller's, who closes it after the stage
	// Parts lay the range over several devices instead of Device: ranges in order, without gaps, each with KV of its own for
	// the same Blocks. Which layers lie where does not change a bit of a result.
	Parts   []Part
	Blocks  int // KV blocks of kernels.BlockPositions positions
	MaxRows int // rows of a batch at most; 0: DefaultMaxRows
	// Progress, when not nil, is told after each tensor how many of the tensors' elements are loaded.
	Progress func(done, total int64)
}

// Part is a piece of a stage's layers on one device. Two parts may share a device.
type Part struct {
	Device kernels.Device // stays the caller's
	Range  model.Range
	// Gone, when not nil, says at the stage's end that the device does not answer any more: what the part has there is left.
	Gone func() bool
}

// PartError says which part of a stage could not be made or computed.
type PartError struct {
	Part int // index into Options.Parts; 0 for Options.Device
	Err  error
}

// Error is the cause alone: devices name themselves.
func (e *PartError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *PartError) Unwrap() error { return e.Err }

// DefaultMaxRows is the width of a stage's batches when Options does not say.
const DefaultMaxRows = 256

// Stage runs a layer range for many sessions at once, on one device or in parts on several. Its methods may be called from
// any goroutine. They take turns: while a step is computed the others wait for its end, so what they change never meets a
// step that is using it. Who calls Step from several goroutines must keep the next call back until it is done with the
// results.
type Stage struct {
	model   *model.Config
	profile model.Profile
	rng     model.Range
	last    bool
	base    [][]byte // of every prefix seed: profile and model

	// mu guards everything below: the graphs and their devices too are for one goroutine at a time.
	mu       sync.Mutex
	parts    []part       // at least one
	graph    *model.Graph // of the last part
	pool     *kv.Pool
	sampler  *sample.Sampler // of the last stage
	sessions map[SessionID]*session
	step     step
	broken   error // set when the device is lost or the stage closed
}

// New loads a stage. It blocks while tensors are packed or fetched and stops early when ctx ends.
func New(ctx context.Context, o Options) (*Stage, error) {
	if o.MaxRows == 0 {
		o.MaxRows = DefaultMaxRows
	}
	if o.Blocks < 1 {
		return nil, fmt.Errorf("a stage of %d KV blocks; at least 1 was expected", o.Blocks)
	}
	parts, err := loadParts(ctx, &o)
	if err != nil {
		return nil, err
	}
	s := &Stage{
		model: o.Model, profile: o.Profile, rng: o.Range, last: o.Model.Projects(o.Range),
		base:  [][]byte{[]byte(o.Profile.String()), o.ID[:]},
		parts: parts, graph: parts[len(parts)-1].graph, pool: kv.New(o.Blocks),
		sessions: make(map[SessionID]*session),
	}
	if s.last {
		s.sampler = sample.New(o.Model.Vocab)
	}
	s.step.init(s, o.MaxRows)
	return s, nil
}

// Range is the stage's layer range.
func (s *Stage) Range() model.Range { return s.rng }

// MaxRows is how many positions a step takes at most.
func (s *Stage) MaxRows() int { return s.graph.MaxRows() }

// Stats is what a stage holds.
type Stats struct {
	Sessions int
	KV       kv.Stats
}

// Stats counts sessions and blocks.
func (s *Stage) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Sessions: len(s.sessions), KV: s.pool.Stats()}
}

// ForgetPrefixes drops every cached prefix that no session uses.
func (s *Stage) ForgetPrefixes() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool.Forget()
}

// Close ends all sessions and frees the stage's memory on its device. Every later call fails with ErrClosed.
func (s *Stage) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(s.broken, ErrClosed) {
		return nil
	}
	s.broken = ErrClosed
	clear(s.sessions)
	return closeParts(s.parts)
}
