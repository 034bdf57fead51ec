package api

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// quietStart is how long a streamed request may wait for its first token before
// the stream begins with comments, so that nobody on the way gives up. Until
// then an error still has a status of its own.
const quietStart = 5 * time.Second

// stream answers with server-sent events.
func (o *openAI) stream(w http.ResponseWriter, r *http.Request, q *completionRequest, h head) {
	s := &events{w: w, rc: http.NewResponseController(w), q: q, head: h, begin: o.now(), now: o.now, sent: make([]int, len(q.each))}
	replies, err := o.generate(r.Context(), q, s.event)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && !s.open {
		writeError(w, err)
		return
	}
	if err != nil {
		_ = s.send(openAIErrorOf(AsError(err)))
	} else {
		s.end(replies)
	}
	_ = s.write([]byte("data: [DONE]\n\n"))
}

// events writes one answer's stream. Several choices share it.
type events struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	q     *completionRequest
	begin time.Time
	now   func() time.Time

	mu    sync.Mutex // guards what follows, and the writing
	head  head
	open  bool
	quiet time.Time // of the last comment
	sent  []int     // bytes of text, by choice
}

// event takes an event of choice i.
func (s *events) event(i int, e Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case e.Progress != nil:
		return s.waiting()
	case e.Start != nil:
		s.head.Model = e.Start.Model
		c := choice{Index: i}
		if !s.q.chat {
			return nil // nothing but text has a place there
		}
		empty := ""
		c.Delta = &delta{Role: "assistant", Content: &empty}
		return s.send(s.chunk(c))
	}
	if e.Text == "" && (!s.q.logprobs || len(e.Tokens) == 0) {
		return nil
	}
	c := choice{Index: i}
	if s.q.chat {
		c.Delta = &delta{Content: &e.Text}
	} else {
		c.Text = &e.Text
	}
	if s.q.logprobs {
		c.Logprobs = s.q.logprobsOf(e.Tokens, s.sent[i])
	}
	s.sent[i] += len(e.Text)
	return s.send(s.chunk(c))
}

// waiting keeps the connection alive while a model is loaded.
func (s *events) waiting() error {
	now := s.now()
	if now.Sub(s.begin) < quietStart || now.Sub(s.quiet) < quietStart {
		return nil
	}
	s.quiet = now
	return s.write([]byte(": waiting\n\n"))
}

func (s *events) end(replies []Reply) {
	for i, r := range replies {
		s.head.Model = r.Model
		c := choice{Index: i, FinishReason: finishOf(r)}
		if s.q.chat {
			c.Delta = &delta{}
		} else {
			empty := ""
			c.Text = &empty
		}
		if s.send(s.chunk(c)) != nil {
			return
		}
	}
	if s.q.usage {
		_ = s.send(completion{head: s.head, Choices: []choice{}, Usage: usageOf(s.q, replies)})
	}
}

// chunkWithUsage is a chunk of a stream that will end with the usage: all the
// others then carry a null.
type chunkWithUsage struct {
	completion
	Usage *usage `json:"usage"`
}

func (s *events) chunk(c choice) any {
	v := completion{head: s.head, Choices: []choice{c}}
	if s.q.usage {
		return chunkWithUsage{completion: v}
	}
	return v
}

func (s *events) send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.write(append(append([]byte("data: "), b...), "\n\n"...))
}

// write sends bytes at once; the first ones open the stream.
func (s *events) write(b []byte) error {
	if !s.open {
		s.open = true
		h := s.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Accel-Buffering", "no") // proxies that know it pass pieces on at once
		h.Set("X-Content-Type-Options", "nosniff")
		s.w.WriteHeader(http.StatusOK)
	}
	_ = s.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return s.rc.Flush()
}
