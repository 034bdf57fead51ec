package shard

import (
	"errors"

	"github.com/weft-mesh/weft/shard/sample"
)

// SessionID is a session's 128-bit random name.
type SessionID [16]byte

// Sampling says for which of a run's positions the last stage draws the next token.
type Sampling uint8

// The ways of sampling.
const (
	// SampleNone draws nothing: a prompt's chunk.
	SampleNone Sampling = iota
	// SampleLast draws after the run's last position: a prompt's last chunk.
	SampleLast
	// SampleAll draws after every position: decoding, and the verification of drafts.
	SampleAll
)

// Run is a piece of a session's sequence to compute: the tokens at positions Base to Base+len(Tokens)-1. The slices are
// the caller's and are only read, until Step returns.
type Run struct {
	Session SessionID
	Epoch   uint64
	Base    int
	Tokens  []int32   // ids, always; at least one
	Hidden  []float32 // for all but the first stage: the rows that the stage before gave, len(Tokens) by Embd
	Sample  Sampling  // only the last stage looks at it
	States  bool      // ask for the hash of the final hidden state at every sampled position
}

// Result is what became of a run. Its slices belong to the stage and are valid until the next Step.
type Result struct {
	Session SessionID
	Epoch   uint64
	Base    int
	N       int // positions of the run

	// Hidden is the run's rows for the next stage, N by Embd; nil from the last stage.
	Hidden []float32

	// Accepted counts the run's tokens that are now valid; Base+Accepted is the session's valid length. On the last stage
	// it is less than N when a token differs from the one that was drawn for its position; it is 0 when that is the run's
	// first. On other stages it is N.
	Accepted int
	// Tokens are the draws: after the last position with SampleLast, after each accepted one with SampleAll. Tokens[i] is
	// for position Base+Accepted-len(Tokens)+1+i. The last of them is the target's own next token: the bonus token when
	// all was accepted, the correction when not.
	Tokens []sample.Token
	// StateHashes are SHA-256 of the final hidden state (after the final norm, little-endian f32) from which each of
	// Tokens was drawn; nil unless asked for.
	StateHashes [][32]byte
	// EpochEnded says that this run met a mismatch: the last stage discards what else comes of this epoch, and the head
	// begins the next one with Truncate(keep = Base+Accepted).
	EpochEnded bool

	// Err is nil, or why the run was not computed: it wraps ErrStale, ErrGap, ErrContextFull, ErrUnknownSession,
	// ErrBatchFull, ErrRun or is a *FaultError. The session's valid length is unchanged.
	Err error
}

// Errors about runs and sessions. They are wrapped with the session and the numbers.
var (
	// ErrUnknownSession is about a session that was never opened or is closed.
	ErrUnknownSession = errors.New("session is unknown to this stage")
	// ErrSessionExists is about a session that is opened twice.
	ErrSessionExists = errors.New("session is open already")
	// ErrStale is about a run of an epoch that is over. Drop it in silence.
	ErrStale = errors.New("run of an epoch that is over")
	// ErrGap is about a run that does not begin at the session's valid length.
	ErrGap = errors.New("run does not continue the sequence")
	// ErrContextFull is about a run beyond the positions that the session reserved.
	ErrContextFull = errors.New("context is full")
	// ErrBatchFull is about a run for which the step's batch had no room: hand it in again.
	ErrBatchFull = errors.New("batch is full")
	// ErrRun is about a run that makes no sense for this stage: no tokens, ids outside the vocabulary, hidden states of
	// another size. It is the sender's mistake.
	ErrRun = errors.New("run is malformed")
	// ErrTruncate is about a truncation that is not allowed.
	ErrTruncate = errors.New("truncation is refused")
	// ErrClosed is about a stage that was closed.
	ErrClosed = errors.New("stage is closed")
)
