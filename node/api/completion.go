package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
)

// atOnce is how many choices of one request are computed together.
const atOnce = 4

func (o *openAI) chatCompletions(w http.ResponseWriter, r *http.Request) {
	o.complete(w, r, chatRequest)
}

func (o *openAI) completions(w http.ResponseWriter, r *http.Request) { o.complete(w, r, textRequest) }

func (o *openAI) complete(w http.ResponseWriter, r *http.Request, decode func([]byte) (*completionRequest, error)) {
	body, ok := readBody(w, r)
	if !ok {
		return
	}
	q, err := decode(body)
	if err != nil {
		writeError(w, err)
		return
	}
	if namesFile(q.each[0].Model) {
		writeError(w, q.outward(&Error{Kind: KindNotFound}))
		return
	}
	for i := range q.each {
		q.each[i].Tenant = tenantOf(r.Context())
	}
	head := newHead(q, o.now().Unix())
	if q.stream {
		o.stream(w, r, q, head)
		return
	}
	out := &completion{head: head, Choices: make([]choice, len(q.each))}
	replies, err := o.generate(r.Context(), q, func(int, Event) error { return nil })
	if err != nil {
		writeError(w, err)
		return
	}
	for i, rep := range replies {
		out.Model = rep.Model
		out.Choices[i] = q.choice(i, rep)
	}
	out.Usage = usageOf(q, replies)
	writeJSON(w, http.StatusOK, out)
}

// namesFile says that a node would take the model for a file of its machine,
// which callers of this surface must not make it read.
func namesFile(model string) bool {
	return strings.ContainsAny(model, `/\`) || strings.HasSuffix(strings.ToLower(model), ".gguf")
}

// generate computes all choices, a few at once. emit is called from several
// goroutines, in order for each choice. The first error ends all of them.
func (o *openAI) generate(ctx context.Context, q *completionRequest, emit func(i int, e Event) error) ([]Reply, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	replies := make([]Reply, len(q.each))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(atOnce, len(q.each)) {
		wg.Go(func() {
			for i := range next {
				rep, err := o.reply(ctx, q.each[i], func(e Event) error { return emit(i, e) })
				if err != nil {
					cancel(err)
				}
				replies[i] = rep
			}
		})
	}
	for i := range q.each {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	if ctx.Err() != nil {
		return nil, q.outward(context.Cause(ctx))
	}
	return replies, nil
}

// reply computes one choice. A panic, of a template or a tokenizer say, ends the
// request and not the node, as it would on the server's own goroutine.
func (o *openAI) reply(ctx context.Context, r GenerateRequest, emit func(Event) error) (rep Reply, err error) {
	defer func() {
		if p := recover(); p != nil {
			if o.log != nil {
				o.log.Error("reply panicked", "panic", p, "stack", string(debug.Stack()))
			}
			err = Errorf(KindInternal, "weft failed on this request: %v; please report it with the node's log", p)
		}
	}()
	return o.node.Generate(ctx, r, emit)
}

// outward gives an error the form that clients of this surface see.
func (q *completionRequest) outward(err error) error {
	var e *Error
	switch {
	case errors.As(err, &e) && e.Kind == KindNotFound:
		// The node's own message lists files of this machine.
		return &Error{Kind: KindNotFound, Param: "model", Message: fmt.Sprintf("no model is named %.100q; /v1/models lists them", q.each[0].Model), cause: err}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Errorf(KindUnavailable, "the request was cancelled: %w", err)
	}
	return err
}

// head is what all objects of one answer begin with.
type head struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	Model   string `json:"model"`
}

func newHead(q *completionRequest, now int64) head {
	var b [12]byte
	rand.Read(b[:])
	h := head{ID: "cmpl-" + hex.EncodeToString(b[:]), Object: "text_completion", Created: now, Model: q.each[0].Model}
	if q.chat {
		h.ID, h.Object = "chat"+h.ID, "chat.completion"
		if q.stream {
			h.Object += ".chunk"
		}
	}
	return h
}

// completion is a whole answer, or one chunk of a streamed one.
type completion struct {
	head
	Choices []choice `json:"choices"`
	Usage   *usage   `json:"usage,omitempty"`
}

// choice is one reply of several. Message, Delta or Text is set.
type choice struct {
	Index        int      `json:"index"`
	Message      *message `json:"message,omitempty"`
	Delta        *delta   `json:"delta,omitempty"`
	Text         *string  `json:"text,omitempty"`
	Logprobs     any      `json:"logprobs"` // nil, *chatLogprobs or *textLogprobs
	FinishReason *string  `json:"finish_reason"`
}

type message struct {
	Role    string  `json:"role"`
	Content string  `json:"content"`
	Refusal *string `json:"refusal"`
}

type delta struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content,omitempty"`
}

type usage struct {
	PromptTokens     int           `json:"prompt_tokens"`
	CompletionTokens int           `json:"completion_tokens"`
	TotalTokens      int           `json:"total_tokens"`
	PromptDetails    promptDetails `json:"prompt_tokens_details"`
	Details          details       `json:"completion_tokens_details"`
}

// details tell of drafted tokens what OpenAI tells of predicted ones. Rejected
// ones are not counted as tokens of the completion.
type details struct {
	Accepted int `json:"accepted_prediction_tokens"`
	Rejected int `json:"rejected_prediction_tokens"`
	// Source is what drafted most of those that were accepted.
	Source string `json:"prediction_source,omitempty"`
}

type promptDetails struct {
	CachedTokens int `json:"cached_tokens"`
}

// usageOf counts each prompt once, and the tokens of all its choices.
func usageOf(q *completionRequest, replies []Reply) *usage {
	u, most := &usage{}, 0
	for i, r := range replies {
		if i%q.n == 0 {
			u.PromptTokens += len(r.PromptTokens)
			u.PromptDetails.CachedTokens += r.Cached
		}
		u.CompletionTokens += len(r.Tokens)
		if s := r.Speculation; s != nil {
			u.Details.Accepted += s.Accepted
			u.Details.Rejected += s.Drafted - s.Accepted
			if s.Accepted > most {
				u.Details.Source, most = s.Source, s.Accepted
			}
		}
	}
	u.TotalTokens = u.PromptTokens + u.CompletionTokens
	return u
}

func (q *completionRequest) choice(i int, r Reply) choice {
	c := choice{Index: i, FinishReason: finishOf(r)}
	if q.chat {
		c.Message = &message{Role: "assistant", Content: r.Text}
	} else {
		c.Text = &r.Text
	}
	if q.logprobs {
		c.Logprobs = q.logprobsOf(r.Logprobs, 0)
	}
	return c
}

// finishOf is a reply's end in OpenAI's words, which know no cancellation.
func finishOf(r Reply) *string {
	s := r.FinishReason
	if s != "length" {
		s = "stop"
	}
	return &s
}
