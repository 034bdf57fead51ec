package shard

import (
	"fmt"
	"slices"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/shard/kv"
	"github.com/weft-mesh/weft/shard/sample"
)

// SessionSpec is what a session reserves at its opening.
type SessionSpec struct {
	ID        SessionID
	Positions int           // reserved: the worst case of prompt and reply together; at most the profile's context
	Salt      []byte        // separates tenants in the prefix cache
	Sampling  sample.Params // only the last stage looks at it
	// Prompt is looked up in the prefix cache; its last token is never taken from there, so that there are logits to
	// draw from. The slice is copied.
	Prompt []int32
}

// session is one session at this stage.
type session struct {
	id        SessionID
	seq       *kv.Seq
	params    sample.Params
	started   bool
	epoch     uint64
	ended     bool    // the epoch met a mismatch (last stage)
	valid     int     // positions whose KV is computed
	confirmed int     // positions that the last stage has acknowledged
	tokens    []int32 // of the valid positions; during a step also of those being computed
	pending   int32   // drawn for position valid (last stage), or noToken

	// For the step under way.
	slot    int // in the batch's sequences
	planned int // valid once the step's runs up to here are computed
}

const noToken = -1

// Open reserves a session's positions and looks its prompt up in the prefix cache. held is how many positions, a multiple
// of kernels.BlockPositions, this stage could resume at; Start says which of them are used. Without room it wraps
// kv.ErrNoRoom.
func (s *Stage) Open(spec SessionSpec) (held int, err error) {
	if err := s.checkSpec(&spec); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return 0, s.broken
	}
	if s.sessions[spec.ID] != nil {
		return 0, fmt.Errorf("open session %x: %w", spec.ID, ErrSessionExists)
	}
	seq, err := s.pool.Open(kv.Seed(append(slices.Clip(s.base), spec.Salt)...), spec.Prompt, spec.Positions, s.model.Window)
	if err != nil {
		return 0, fmt.Errorf("open session %x: %w", spec.ID, err)
	}
	spec.Sampling.Bias = slices.Clone(spec.Sampling.Bias)
	e := &session{id: spec.ID, seq: seq, params: spec.Sampling, pending: noToken, slot: -1}
	e.tokens = append(make([]int32, 0, spec.Positions), spec.Prompt[:seq.Held()]...)
	s.sessions[spec.ID] = e
	return seq.Held(), nil
}

func (s *Stage) checkSpec(spec *SessionSpec) error {
	switch {
	case spec.Positions < 1 || spec.Positions > s.profile.Context:
		return fmt.Errorf("open session %x: %w: %d positions asked for, the model entry's context has %d", spec.ID, ErrContextFull, spec.Positions, s.profile.Context)
	case len(spec.Prompt) > spec.Positions:
		return fmt.Errorf("open session %x: %w: the prompt has %d tokens, %d positions are asked for", spec.ID, ErrContextFull, len(spec.Prompt), spec.Positions)
	}
	if err := s.checkTokens(spec.Prompt); err != nil {
		return fmt.Errorf("open session %x: %w", spec.ID, err)
	}
	if s.last {
		if err := spec.Sampling.Validate(s.model.Vocab); err != nil {
			return fmt.Errorf("open session %x: %w", spec.ID, err)
		}
	}
	return nil
}

func (s *Stage) checkTokens(ids []int32) error {
	for _, id := range ids {
		if id < 0 || int(id) >= s.model.Vocab {
			return fmt.Errorf("%w: token %d is outside the vocabulary of %d", ErrRun, id, s.model.Vocab)
		}
	}
	return nil
}

// find gives an open session. s.mu is held.
func (s *Stage) find(id SessionID) (*session, error) {
	if s.broken != nil {
		return nil, s.broken
	}
	e := s.sessions[id]
	if e == nil {
		return nil, fmt.Errorf("session %x: %w; it was closed, or the stage was restarted", id, ErrUnknownSession)
	}
	return e, nil
}

// Start begins a session's first epoch at position base: a multiple of kernels.BlockPositions and at most what Open gave
// (the smallest of all stages'), or 0. It is called once, before the session's first run.
func (s *Stage) Start(id SessionID, epoch uint64, base int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(id)
	switch {
	case err != nil:
		return err
	case e.started:
		return fmt.Errorf("start session %x: it has started already, at position %d or before", id, e.valid)
	case base < 0 || base > e.seq.Held() || base%kernels.BlockPositions != 0:
		return fmt.Errorf("start session %x: %w: position %d; a multiple of %d up to %d was expected", id, ErrGap, base, kernels.BlockPositions, e.seq.Held())
	}
	if err := e.seq.Rewind(base); err != nil {
		return fmt.Errorf("start session %x: %w", id, err)
	}
	e.started, e.epoch, e.valid, e.confirmed = true, epoch, base, base
	e.tokens = e.tokens[:base]
	return nil
}

// Truncate begins a new epoch, which must be higher than the session's (else ErrStale), at position keep, which must not
// be beyond the confirmed length (else ErrTruncate). Positions from keep on are computed anew.
func (s *Stage) Truncate(id SessionID, epoch uint64, keep int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(id)
	switch {
	case err != nil:
		return err
	case !e.started || epoch <= e.epoch:
		return fmt.Errorf("truncate session %x: %w: epoch %d, the session is in %d", id, ErrStale, epoch, e.epoch)
	case keep < 0 || keep > e.confirmed:
		return fmt.Errorf("truncate session %x: %w: to position %d, %d are confirmed", id, ErrTruncate, keep, e.confirmed)
	}
	if err := e.seq.Rewind(keep); err != nil {
		return fmt.Errorf("truncate session %x: %w: %w", id, ErrTruncate, err)
	}
	e.epoch, e.ended, e.pending = epoch, false, noToken
	e.valid, e.confirmed, e.tokens = keep, keep, e.tokens[:keep]
	return nil
}

// Confirm says that the last stage has acknowledged the session's first n positions: their full blocks become part of the
// prefix cache, and those behind a sliding window return. n must not be beyond the valid length (else ErrGap); an n that is
// confirmed already does nothing. On the last stage it is not needed.
func (s *Stage) Confirm(id SessionID, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(id)
	switch {
	case err != nil:
		return err
	case n > e.valid:
		return fmt.Errorf("confirm session %x: %w: %d positions, %d are computed", id, ErrGap, n, e.valid)
	}
	e.confirm(n)
	return nil
}

func (e *session) confirm(n int) {
	if n > e.confirmed {
		e.confirmed = n
		e.seq.Confirm(e.tokens, n)
	}
}

// CloseSession gives a session's blocks and reservation back; full confirmed blocks stay in the prefix cache. Closing an
// unknown session does nothing.
func (s *Stage) CloseSession(id SessionID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.sessions[id]; e != nil {
		e.seq.Close()
		delete(s.sessions, id)
	}
}
