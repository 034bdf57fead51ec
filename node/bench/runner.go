package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weft-mesh/weft/shard"
)

// runner drives sessions of random tokens through a stage.
type runner struct {
	stage  *shard.Stage
	vocab  int
	opened uint64 // sessions so far
	runs   []shard.Run
}

// stream is one session: what it has computed and what comes next.
type stream struct {
	id   shard.SessionID
	at   int
	next [1]int32
}

// sample does a test once and says how long its measured part took.
func (r *runner) sample(ctx context.Context, t test) (time.Duration, error) {
	streams := make([]*stream, t.parallel)
	defer func() {
		for _, s := range streams {
			if s != nil {
				r.stage.CloseSession(s.id)
			}
		}
		r.stage.ForgetPrefixes()
	}()
	for i := range streams {
		s, err := r.open(t.positions())
		if err != nil {
			return 0, err
		}
		streams[i] = s
		if t.depth > 0 {
			if err := r.prefill(ctx, s, r.tokens(s, t.depth)); err != nil {
				return 0, err
			}
		}
	}
	if t.gen > 0 {
		return r.decode(ctx, streams, t.gen)
	}
	s := streams[0]
	tokens := r.tokens(s, t.prompt)
	if s.at > 0 {
		tokens[0] = s.next[0] // the stage takes no other after its own draw
	}
	begin := time.Now()
	err := r.prefill(ctx, s, tokens)
	return time.Since(begin), err
}

// open begins a session whose first token is random.
func (r *runner) open(positions int) (*stream, error) {
	r.opened++
	s := &stream{}
	binary.LittleEndian.PutUint64(s.id[:], r.opened)
	s.next[0] = r.tokens(s, 1)[0]
	if _, err := r.stage.Open(shard.SessionSpec{ID: s.id, Positions: positions}); err != nil {
		return nil, err
	}
	return s, r.stage.Start(s.id, 0, 0)
}

// tokens are n random ids, others for each session.
func (r *runner) tokens(s *stream, n int) []int32 {
	random := rand.New(rand.NewPCG(binary.LittleEndian.Uint64(s.id[:]), uint64(s.at)))
	out := make([]int32, n)
	for i := range out {
		out[i] = random.Int32N(int32(r.vocab))
	}
	return out
}

// prefill takes a prompt in by chunks and draws after its end.
func (r *runner) prefill(ctx context.Context, s *stream, tokens []int32) error {
	for len(tokens) > 0 {
		n := min(len(tokens), r.stage.MaxRows())
		run := shard.Run{Session: s.id, Base: s.at, Tokens: tokens[:n]}
		if n == len(tokens) {
			run.Sample = shard.SampleLast
		}
		r.runs = append(r.runs[:0], run)
		if err := r.step(ctx, []*stream{s}); err != nil {
			return err
		}
		tokens = tokens[n:]
	}
	return nil
}

// decode takes n tokens one by one, all streams in each step.
func (r *runner) decode(ctx context.Context, streams []*stream, n int) (time.Duration, error) {
	begin := time.Now()
	for range n {
		r.runs = r.runs[:0]
		for _, s := range streams {
			r.runs = append(r.runs, shard.Run{Session: s.id, Base: s.at, Tokens: s.next[:], Sample: shard.SampleAll})
		}
		if err := r.step(ctx, streams); err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}

// step computes the runs, one a stream, and moves the streams on.
func (r *runner) step(ctx context.Context, streams []*stream) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	results, err := r.stage.Step(r.runs)
	if err != nil {
		return err
	}
	for i, res := range results {
		if res.Err != nil {
			return res.Err
		}
		if res.Accepted != res.N {
			return fmt.Errorf("the stage took %d of %d tokens", res.Accepted, res.N)
		}
		streams[i].at += res.N
		if len(res.Tokens) > 0 {
			streams[i].next[0] = res.Tokens[len(res.Tokens)-1].ID
		}
	}
	return nil
}
