// Package session is the head of a reply: it decides which runs go to a plan's
// stages, commits the tokens that come back, and says when the reply ends.
//
// Session is a pure state machine: results go in, a Ready comes out; it has no
// clock, socket or goroutine, so every order of events can be tried in a test.
// Text is its pure companion that turns committed tokens into text and finds
// stop strings. Driver is the thin shell that moves a Session over a chain of
// stages. Start reading at Session.Ready.
//
// The package never touches weights and never samples: tokens are drawn by the
// last stage (sample-and-match), so that the head needs a vocabulary only.
package session

import (
	"errors"
	"fmt"
)

// Limits of a session's parameters.
const (
	DefaultChunk  = 128  // positions of a prefill run
	DefaultCredit = 1024 // positions in flight
	confirmEvery  = 256  // positions between confirmed lengths told to the stages
	maxVerify     = 256  // positions of a decode run: a stage takes it whole or not at all
)

// Params is what a session is started with.
type Params struct {
	Prompt    []int32             // at least one token; the session keeps its own copy
	MaxTokens int                 // tokens to generate at most, at least 1
	Context   int                 // positions that the reply may fill: prompt and generated tokens together
	EOG       func(id int32) bool // ends the reply when drawn; nil: nothing does
	Chunk     int                 // positions of a prefill run; 0: DefaultChunk
	Credit    int                 // positions in flight at most; 0: DefaultCredit
	WantHash  bool                // ask for the state hash with every drawn token
	Drafter   Drafter             // proposes what may follow; nil: nothing is drafted
}

// Finish is why a reply ended.
type Finish string

// The ends of a reply.
const (
	FinishNone      Finish = ""
	FinishStop      Finish = "stop"      // an end-of-generation token, or the caller's Stop
	FinishLength    Finish = "length"    // MaxTokens reached
	FinishContext   Finish = "context"   // Context is full
	FinishCancelled Finish = "cancelled" // the caller's Cancel
	FinishFailed    Finish = "failed"    // see Session.Err
)

// Run is a run to send: positions Base to Base+len(Tokens)-1.
type Run struct {
	Epoch    uint32
	Base     int
	Tokens   []int32 // valid until the session is fed again
	Sample   int     // the last Sample positions draw a token each
	Prefill  bool    // goes on the prefill chain
	WantHash bool
}

// Result is the last stage's answer to a run.
type Result struct {
	Epoch    uint32
	Base     int
	Count    int
	Drawn    []int32
	Accepted int
	Stale    bool
	Err      error
}

// Truncation starts an epoch that keeps Keep positions.
type Truncation struct {
	Epoch uint32
	Keep  int
}

// Ready is what the shell must do now, in this order: send Confirm, send
// Truncate (a stage keeps confirmed positions only), send Runs, hand Committed
// on.
type Ready struct {
	Confirm   int // confirmed length to tell the stages; 0: nothing new
	Truncate  *Truncation
	Runs      []Run
	Committed []int32 // newly drawn tokens, an end-of-generation token included
	Done      Finish  // set once the reply has ended and no run is in flight
}

type phase uint8

const (
	opening  phase = iota
	filling        // known tokens are being prefilled
	decoding       // runs draw tokens
	ending         // the finish is known; runs in flight are awaited
	ended
)

type flight struct {
	base, count, sample int
}

// Session is one reply's state. The zero value is not usable: see New.
//
// While tokens are drawn, the sequence has two parts: the committed tokens, and
// the tail of drafted ones that were sent and are not decided. A run carries a
// piece of the sequence; several may be in flight, each going on where the one
// before it ends. A result commits what was drawn for its run's positions; while
// that is what the tail says, the runs behind it stand. At the first difference
// the tail is forgotten and a new epoch begins with a Truncation: whatever comes
// of runs in flight is of an epoch that is gone.
//
// Invariants, checked by the model tests:
//   - committed tokens never change;
//   - positions sent but not acknowledged never exceed the credit;
//   - runs of an epoch are contiguous, and their results come in order;
//   - sent is acked, when no run is in flight, and otherwise the end of the last
//     run in flight; with runs in flight, the last committed token is one of
//     theirs, and the tail is what they carry behind it;
//   - a token is committed only from a run of the current epoch whose inputs
//     were all committed or drafted and accepted;
//   - a Truncation keeps exactly what is acked: every stage has computed it, in
//     an epoch that it knows, and the Confirm before it says so;
//   - no position is sent beyond the reply's last one.
type Session struct {
	p       Params
	tokens  []int32 // prompt and committed tokens
	prompt  int
	phase   phase
	epoch   uint32
	held    int // prefix that the stages held at the first opening
	opened  bool
	sent    int // positions sent in this epoch
	acked   int // positions acknowledged
	told    int // confirmed length that the stages were told
	flights []flight
	tail    []int32 // drafted tokens behind the committed ones that were sent
	trunc   *Truncation
	fresh   []int32
	finish  Finish
	err     error
	runBuf  []int32
}

// ErrProtocol is a result that fits no run: a fault of the last stage.
var ErrProtocol = errors.New("result does not fit any run in flight")

// New makes a session that waits for Opened.
func New(p Params) (*Session, error) {
	if len(p.Prompt) == 0 {
		return nil, errors.New("empty prompt: nothing to continue")
	}
	if p.MaxTokens < 1 {
		return nil, fmt.Errorf("max tokens is %d; at least 1 is needed", p.MaxTokens)
	}
	if len(p.Prompt) >= p.Context {
		return nil, fmt.Errorf("the prompt has %d tokens and leaves no room in a context of %d", len(p.Prompt), p.Context)
	}
	if p.Chunk <= 0 {
		p.Chunk = DefaultChunk
	}
	if p.Credit <= 0 {
		p.Credit = DefaultCredit
	}
	p.Chunk = min(p.Chunk, p.Credit)
	s := &Session{p: p, prompt: len(p.Prompt)}
	s.tokens = append(make([]int32, 0, len(p.Prompt)+min(p.MaxTokens, 4096)), p.Prompt...)
	return s, nil
}

// Opened tells that every stage reserved KV and holds the first held positions.
func (s *Session) Opened(held int) {
	if s.phase != opening {
		return
	}
	// The last known token is always computed: its logits are needed.
	from := max(0, min(held, len(s.tokens)-1))
	if !s.opened { // what a later plan holds says nothing of the prompt's cost
		s.held, s.opened = from, true
	}
	s.sent, s.acked, s.told = from, from, from
	s.phase = filling
	if s.p.Drafter != nil && len(s.tokens) == s.prompt {
		s.p.Drafter.Begin(s.tokens)
	}
}

// Reopen forgets what the stages hold, after a plan lost a stage: the tokens
// known so far are prefilled again in a new epoch once Opened is called. What
// was committed stays, and by the arithmetic contract the same tokens follow. A
// reply whose end is known needs no stages any more: Ready gives its end.
func (s *Session) Reopen() {
	s.flights = s.flights[:0]
	if s.phase == ended || s.phase == ending {
		return
	}
	s.epoch++
	s.sent, s.acked, s.told = 0, 0, 0
	s.forget()
	s.trunc = nil
	s.phase = opening
}

// left is how many more tokens may be drawn.
func (s *Session) left() int {
	return min(s.p.MaxTokens-(len(s.tokens)-s.prompt), s.p.Context-len(s.tokens))
}

// Stop ends the reply: a stop string was found.
func (s *Session) Stop() { s.end(FinishStop) }

// Cancel ends the reply at the caller's wish.
func (s *Session) Cancel() { s.end(FinishCancelled) }

// Fail ends the reply with an error; nothing more is awaited.
func (s *Session) Fail(err error) {
	if s.phase == ended {
		return
	}
	if s.finish == FinishNone {
		s.finish, s.err = FinishFailed, err
	}
	s.flights = s.flights[:0]
	s.phase = ending
}

func (s *Session) end(f Finish) {
	if s.phase == ended || s.phase == ending {
		return
	}
	s.finish = f
	if s.phase == opening {
		s.flights = s.flights[:0]
	}
	s.phase = ending
}

// Result feeds one result of the last stage.
func (s *Session) Result(r Result) {
	if s.phase == ended || r.Epoch < s.epoch || s.phase == opening {
		return // of an epoch that is gone
	}
	if r.Epoch == s.epoch && r.Count > 0 && r.Base+r.Count <= s.acked && s.phase != ending {
		return // a second time
	}
	if len(s.flights) == 0 || r.Epoch > s.epoch {
		if s.phase != ending {
			s.Fail(fmt.Errorf("%w: epoch %d base %d", ErrProtocol, r.Epoch, r.Base))
		}
		return
	}
	f := s.flights[0]
	if err := f.check(r); err != nil {
		s.Fail(err)
		return
	}
	s.flights = append(s.flights[:0], s.flights[1:]...)
	if s.phase == ending {
		return
	}
	if r.Err != nil {
		s.Fail(r.Err)
		return
	}
	s.acked = f.base + f.count
	if f.sample > 0 {
		s.drew(f, r)
	}
}

// check holds a result against the oldest run in flight.
func (f flight) check(r Result) error {
	if r.Base != f.base || r.Count != f.count {
		return fmt.Errorf("%w: base %d count %d, expected base %d count %d", ErrProtocol, r.Base, r.Count, f.base, f.count)
	}
	if r.Err != nil {
		return nil
	}
	if r.Stale {
		return fmt.Errorf("%w: the run at %d was dropped as stale in its own epoch", ErrProtocol, r.Base)
	}
	if f.sample == 0 {
		if len(r.Drawn) != 0 {
			return fmt.Errorf("%w: %d tokens drawn where none was asked for", ErrProtocol, len(r.Drawn))
		}
		return nil
	}
	if len(r.Drawn) < 1 || len(r.Drawn) > f.sample || r.Accepted != len(r.Drawn)-1 {
		return fmt.Errorf("%w: %d tokens drawn and %d accepted of %d", ErrProtocol, len(r.Drawn), r.Accepted, f.sample)
	}
	return nil
}

// Ready gives what is to be done now and forgets it. Slices in it stay valid
// until the session is fed again.
func (s *Session) Ready() Ready {
	var rd Ready
	rd.Committed = s.fresh
	s.fresh = nil
	switch s.phase {
	case filling:
		rd.Runs = s.fill()
	case decoding:
		rd.Truncate, s.trunc = s.trunc, nil
		rd.Runs = s.decode()
	case ending:
		if len(s.flights) == 0 {
			s.phase = ended
			rd.Done = s.finish
		}
	}
	if s.confirmDue(rd) {
		s.told = s.acked
		rd.Confirm = s.acked
	}
	return rd
}

// confirmDue says whether the stages need the confirmed length: before a
// truncation, and now and then so that blocks behind a window can go.
func (s *Session) confirmDue(rd Ready) bool {
	switch {
	case s.phase != filling && s.phase != decoding, s.acked <= s.told:
		return false
	case rd.Truncate != nil:
		return true
	default:
		return s.acked-s.told >= confirmEvery
	}
}

// fill makes prefill runs up to the credit; the last one draws a token.
func (s *Session) fill() []Run {
	var runs []Run
	for s.sent < len(s.tokens) {
		n := min(s.p.Chunk, len(s.tokens)-s.sent)
		if s.sent+n-s.acked > s.p.Credit {
			break
		}
		r := Run{Epoch: s.epoch, Base: s.sent, Tokens: s.tokens[s.sent : s.sent+n], Prefill: true}
		if s.sent+n == len(s.tokens) {
			r.Sample, r.WantHash = 1, s.p.WantHash
		}
		s.launch(r)
		runs = append(runs, r)
	}
	return runs
}

func (s *Session) launch(r Run) {
	s.flights = append(s.flights, flight{r.Base, len(r.Tokens), r.Sample})
	s.sent = r.Base + len(r.Tokens)
}
