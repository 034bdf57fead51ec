package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/session"
	"github.com/weft-mesh/weft/node/spec"
	"github.com/weft-mesh/weft/scheduler"
	"github.com/weft-mesh/weft/shard/vocab"
)

// Bounds of a reply.
const (
	// queueWait is how long a reply waits for room before it is refused.
	queueWait = 30 * time.Second
	// chunkTime is how long a prefill run may occupy a link.
	chunkTime = 20 * time.Millisecond
	// creditBytes is what a stage lets one session have in flight.
	creditBytes = 64 << 20
	gigabit     = 125_000_000 // bytes per second, taken for a link that is faster or not measured
)

// Generate implements api.Node: the way of a prompt.
func (n *Node) Generate(ctx context.Context, r api.GenerateRequest, emit func(api.Event) error) (api.Reply, error) {
	begin := time.Now()
	ctx, cancel := n.alive(ctx)
	defer cancel()
	progress := func(p api.Progress) { _ = emit(api.Event{Progress: &p}) }
	m, err := n.lib.open(ctx, r.Model, progress)
	if err != nil {
		return api.Reply{}, err
	}
	prompt, err := promptTokens(m, r, n.now)
	if err != nil {
		return api.Reply{}, err
	}
	reply, err := replySpec(m, r, prompt)
	if err != nil {
		return api.Reply{}, err
	}
	if err := n.store.MarkUsed(m.entry); err != nil {
		n.log.Warn("last used model is not remembered", "error", err)
	}
	mode, err := n.speculation(r)
	if err != nil {
		return api.Reply{}, err
	}
	d, err := n.drafts.find(ctx, r, m, mode, progress)
	if err != nil {
		return api.Reply{}, err
	}
	n.sessions.Add(1)
	defer n.sessions.Add(-1)
	live := n.replies.begin(m.entry.Name, len(prompt), n.now())
	defer live.end()
	g := &generation{n: n, m: m, r: r, emit: emit, prompt: prompt, seed: reply.Sampling.Seed, live: live}
	g.expected = expected(reply)
	if g.a, err = n.plans.pick(ctx, m, g.expected, progress); err != nil {
		return api.Reply{}, n.replyError(ctx, err)
	}
	defer func() { g.a.leave() }()
	reply.Chunk, reply.Credit = g.pieces()
	source, err := n.drafts.await(ctx, d, reply, r, progress)
	if err != nil {
		return api.Reply{}, err
	}
	if source != nil {
		defer source.Close()
	}
	g.speculate(&reply, mode, source)
	return g.run(ctx, reply, begin)
}

// pieces gives the positions of a prefill run, so that its hidden states take
// at most about chunkTime on the slowest link that is known, and those in
// flight, so that they fit a stage's credit. Neither changes a bit.
func (g *generation) pieces() (chunk, credit int) {
	row := 4 * g.m.config.Embd
	credit = max(1, min(session.DefaultCredit, creditBytes/row))
	chunk = min(session.DefaultChunk, credit)
	stages := g.n.stages(g.a)
	if len(stages) == 1 {
		return chunk, credit
	}
	rate := float64(gigabit)
	for _, st := range stages {
		if b := g.n.bandwidth(st.Node); b > 0 {
			rate = min(rate, b)
		}
	}
	chunk = pieceOf(len(g.prompt), len(stages), chunk)
	return max(1, min(chunk, int(rate*chunkTime.Seconds())/row)), credit
}

// pieceOf gives the positions of a prefill run of a prompt over stages: at most
// most, and few enough that the time in which the pipe fills and drains is about
// an eighth of the whole, but not so few that reading weights again for each run
// outweighs it.
func pieceOf(prompt, stages, most int) int {
	const share, least = 8, 32
	return min(most, max(least, prompt/(share*max(1, stages-1))))
}

// tuneKey is the context key of a func(*session.Spec) that changes how a reply
// is driven: tests try with it what must not change a byte.
type tuneKey struct{}

// generation is one reply on its way.
type generation struct {
	n      *Node
	m      *opened
	r      api.GenerateRequest
	a      *active // joined
	emit   func(api.Event) error
	prompt []int32
	seed   uint64
	live   *reply

	text    *session.Text
	started bool // the start was told
	moved   bool // to another plan, after a loss
	steps   stepTimes
	probs   []api.Token
	first   time.Time // when the first token came
	last    time.Time // when the last one came
	spec    *spec.Speculator
	// expected is what the reply is expected to take.
	expected scheduler.Reply
}

func (g *generation) run(ctx context.Context, reply session.Spec, begin time.Time) (api.Reply, error) {
	g.text = session.NewText(g.m.vocab.NewDecoder(vocab.DecodeOptions{WholeText: false}), g.r.Stop)
	reply.Started = func(held int) {
		if g.started {
			return
		}
		g.started = true
		_ = g.emit(api.Event{Start: &api.Start{Model: g.m.entry.Name, PromptTokens: len(g.prompt), Seed: g.seed, Stages: g.n.stages(g.a)}})
	}
	reply.Tokens = g.tokens
	reply.Progress = func(done, total int) {
		text := "reading the prompt"
		if g.moved {
			text = "reading again what was said so far"
		}
		_ = g.emit(api.Event{Progress: &api.Progress{Phase: "prefill", Text: text, Done: int64(done), Total: int64(total), Unit: "tokens"}})
	}
	reply.Queued = func() {
		g.live.wait()
		_ = g.emit(api.Event{Progress: &api.Progress{Phase: "queue", Text: "waiting for room: the nodes are busy with other replies"}})
	}
	reply.Failover, reply.Elsewhere = g.failover, g.elsewhere
	if tune, ok := ctx.Value(tuneKey{}).(func(*session.Spec)); ok {
		tune(&reply)
	}
	ready := time.Now()
	g.time(&reply)
	out, err := session.Drive(ctx, g.a.path, reply)
	if err != nil {
		return api.Reply{}, g.n.lostOrRefused(ctx, g.a, err)
	}
	if tail := g.text.Flush(); tail != "" && out.Finish != session.FinishCancelled {
		if err := g.emit(api.Event{Text: tail}); err != nil {
			out.Finish = session.FinishCancelled
		}
	}
	if ctx.Err() != nil && g.n.ctx.Err() != nil {
		return api.Reply{}, api.Errorf(api.KindUnavailable, "the node is shutting down")
	}
	return g.reply(out, begin, ready), nil
}

// tokens takes committed tokens: their text goes out unless it may be the
// beginning of a stop string.
func (g *generation) tokens(list []session.Token) (bool, error) {
	g.last = time.Now()
	if g.first.IsZero() {
		g.first = g.last
	}
	g.live.add(len(list), g.n.now())
	g.n.generated.Add(int64(len(list)))
	ev := api.Event{}
	stop := false
	for _, t := range list {
		if g.m.vocab.IsEOG(t.ID) && !g.r.IgnoreEOS {
			continue // it ends the reply and is no part of its text
		}
		tok := g.token(t)
		ev.Tokens = append(ev.Tokens, tok)
		if g.r.Logprobs > 0 {
			g.probs = append(g.probs, tok)
		}
		delta, stopped := g.text.Push(t.ID)
		ev.Text += delta
		if stopped {
			stop = true
			break
		}
	}
	return stop, g.emit(ev)
}

func (g *generation) token(t session.Token) api.Token {
	piece := g.m.vocab.Piece(t.ID)
	tok := api.Token{ID: t.ID, Text: piece, Logprob: float64(t.Logprob)}
	if g.r.Logprobs > 0 {
		tok.Bytes = []byte(piece)
		for _, c := range t.Top {
			p := g.m.vocab.Piece(c.ID)
			tok.Top = append(tok.Top, api.Token{ID: c.ID, Text: p, Bytes: []byte(p), Logprob: float64(c.Logprob)})
		}
	}
	return tok
}

func (g *generation) reply(out session.Outcome, begin, ready time.Time) api.Reply {
	rep := api.Reply{
		Model: g.m.entry.Name, PromptTokens: g.prompt, Tokens: out.Tokens, Text: g.text.String(), Seed: g.seed, Cached: out.Held,
		Plan:      api.ReplyPlan{Generation: g.a.spec.GetId().GetGeneration(), Stages: g.n.stages(g.a)},
		StateHash: hex.EncodeToString(out.Hash), Logprobs: g.probs, Failovers: out.Failovers,
		Speculation: g.speculated(len(out.Tokens)),
	}
	if rep.Tokens == nil {
		rep.Tokens = []int32{}
	}
	switch out.Finish {
	case session.FinishContext:
		rep.FinishReason = "length"
		rep.FinishDetail = fmt.Sprintf("the context of %d tokens is full; a model added with a larger --ctx holds more", g.context())
	default:
		rep.FinishReason = string(out.Finish)
	}
	end := time.Now()
	rep.Timings.Totalms = millis(end.Sub(begin))
	if !g.first.IsZero() {
		rep.Timings.TTFTms = millis(g.first.Sub(begin))
		if d := g.first.Sub(ready).Seconds(); d > 0 {
			rep.Timings.PrefillTPS = float64(len(g.prompt)-out.Held) / d
		}
		if d := g.last.Sub(g.first).Seconds(); d > 0 && len(out.Tokens) > 1 {
			rep.Timings.DecodeTPS = float64(len(out.Tokens)-1) / d
		}
	}
	g.measured(out, end, ready)
	return rep
}

// measured notes TTFT and TPOT beside the plan's predictions.
func (g *generation) measured(out session.Outcome, end, ready time.Time) {
	if g.first.IsZero() {
		return
	}
	if out.Failovers > 0 {
		return // times of more than one plan
	}
	g.n.plans.learn(g.a, g.steps.median())
	g.a.mu.Lock()
	defer g.a.mu.Unlock()
	g.a.ttft.add(millis(g.first.Sub(ready)))
	if n := len(out.Tokens); n > 4 {
		g.a.tpot.add(millis(g.last.Sub(g.first)) / float64(n-1))
	}
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (g *generation) context() int {
	if c := g.r.Context; c > 0 {
		return min(c, g.m.entry.Profile.Context)
	}
	return g.m.entry.Profile.Context
}

// replySpec turns a request into what a session needs.
func replySpec(m *opened, r api.GenerateRequest, prompt []int32) (session.Spec, error) {
	ctx := m.entry.Profile.Context
	if r.Context < 0 || r.MaxTokens < 0 {
		return session.Spec{}, &api.Error{Kind: api.KindInvalid, Param: "max_tokens", Message: "context and max tokens must not be negative"}
	}
	if r.Context > ctx {
		return session.Spec{}, &api.Error{Kind: api.KindInvalid, Param: "context", Message: fmt.Sprintf("%s was added with a context of %d; %d is more: add it again under another name with --ctx %d", m.entry.Name, ctx, r.Context, r.Context)}
	}
	if r.Context > 0 {
		ctx = r.Context
	}
	if len(prompt) == 0 {
		return session.Spec{}, &api.Error{Kind: api.KindInvalid, Param: "prompt", Message: "the prompt is empty"}
	}
	if len(prompt) >= ctx {
		return session.Spec{}, &api.Error{Kind: api.KindTooLarge, Param: "messages", Message: fmt.Sprintf("the prompt has %d tokens and the context of %s holds %d, the reply included: shorten it, or add the model with a larger --ctx", len(prompt), m.entry.Name, ctx)}
	}
	sampling, err := samplingOf(m, r)
	if err != nil {
		return session.Spec{}, err
	}
	// Without a limit of the caller's the context ends the reply, and says so.
	most := r.MaxTokens
	if most == 0 {
		most = math.MaxInt32
	}
	eog := m.vocab.IsEOG
	if r.IgnoreEOS {
		eog = nil
	}
	return session.Spec{
		Params:   session.Params{Prompt: prompt, MaxTokens: most, Context: ctx, EOG: eog, WantHash: r.StateHash},
		Sampling: sampling, Salt: saltOf(r.Tenant), NoPrefix: r.NoPrefix, Positions: min(ctx, len(prompt)+most), QueueWait: queueWait,
	}, nil
}

// lostOrRefused gives a driver's error its kind, and drops a plan that broke so
// that the next prompt is planned anew.
func (n *Node) lostOrRefused(ctx context.Context, a *active, err error) error {
	var lost *session.LostError
	var refused *session.RefusedError
	switch {
	case errors.As(err, &lost): // of one plan after the other
		n.background(func() { n.plans.drop(a) })
		return &api.Error{Kind: api.KindStageLost, Node: lost.Peer, Message: fmt.Sprintf("node %s, which computed a part of %s, was lost during the reply, and so were the plans that followed: %v; ask again when the nodes are steady", n.stageName(a, lost.Peer), a.model.entry.Name, err)}
	case errors.As(err, &refused) && refused.Busy:
		return &api.Error{Kind: api.KindBusy, Node: refused.Peer, Message: fmt.Sprintf("node %s is full with other replies: %s; try again later, or ask with a smaller max_tokens", n.nodeName(refused.Peer), refused.Cause)}
	case errors.As(err, &refused):
		return &api.Error{Kind: api.KindNoCapacity, Node: refused.Peer, Message: fmt.Sprintf("node %s cannot hold this reply: %s", n.nodeName(refused.Peer), refused.Cause)}
	}
	return n.replyError(ctx, err)
}

func (n *Node) replyError(ctx context.Context, err error) error {
	if n.ctx.Err() != nil {
		return api.Errorf(api.KindUnavailable, "the node is shutting down")
	}
	return err
}
