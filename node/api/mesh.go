package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// The mesh surface: what the command line asks a daemon for. Plain questions
// are answered with JSON, longer work with lines of JSON; see line.

// meshRoutes are below /weft/v1 and served on the local socket only.
func meshRoutes(n Node) routes {
	return routes{
		"/weft/v1/status":   get(n.Status),
		"/weft/v1/peers":    get(n.Peers),
		"/weft/v1/models":   get(n.Models),
		"/weft/v1/overview": get(n.Overview),
		"/weft/v1/checkup":  get(n.Checkup),
		"/weft/v1/invite":   post(n.Invite),
		"/weft/v1/rm":       post(func(ctx context.Context, r removeRequest) (Model, error) { return n.RemoveModel(ctx, r.Model) }),
		"/weft/v1/pin":      post(n.PinModel),
		"/weft/v1/leave":    post(func(ctx context.Context, _ struct{}) (struct{}, error) { return struct{}{}, n.Leave(ctx) }),
		"/weft/v1/add":      work(n.AddModel),
		"/weft/v1/pull":     work(n.PullModel),
		"/weft/v1/plan":     work(n.Plan),
		"/weft/v1/run":      {http.MethodPost: runHandler(n)},
	}
}

type removeRequest struct {
	Model string `json:"model"`
}

// meshError keeps an error's kind across the socket.
type meshError struct {
	Error *Error `json:"error"`
}

func writeMeshError(w http.ResponseWriter, err error) {
	e := AsError(err)
	writeJSON(w, e.HTTPStatus(), meshError{e})
}

func get[T any](f func(context.Context) (T, error)) map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{http.MethodGet: func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r.Context())
		if err != nil {
			writeMeshError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, v)
	}}
}

func post[Q, T any](f func(context.Context, Q) (T, error)) map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{http.MethodPost: func(w http.ResponseWriter, r *http.Request) {
		q, ok := readMesh[Q](w, r)
		if !ok {
			return
		}
		v, err := f(r.Context(), q)
		if err != nil {
			writeMeshError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, v)
	}}
}

func readMesh[Q any](w http.ResponseWriter, r *http.Request) (Q, bool) {
	var q Q
	b, ok := readBody(w, r)
	if !ok {
		return q, false
	}
	if err := json.Unmarshal(b, &q); err != nil {
		writeMeshError(w, Errorf(KindInvalid, "read the request: %w", err))
		return q, false
	}
	return q, true
}

// line is one line of a longer answer: any number of progress and event lines,
// then one result or one error.
type line struct {
	Progress *Progress       `json:"progress,omitempty"`
	Event    *Event          `json:"event,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *Error          `json:"error,omitempty"`
}

func work[Q, T any](f func(context.Context, Q, func(Progress)) (T, error)) map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{http.MethodPost: func(w http.ResponseWriter, r *http.Request) {
		q, ok := readMesh[Q](w, r)
		if !ok {
			return
		}
		out := newLines(w)
		v, err := f(r.Context(), q, func(p Progress) { _ = out.write(line{Progress: &p}) })
		out.finish(v, err)
	}}
}

// runHandler answers one prompt. Its client ends the reply by hanging up.
func runHandler(n Node) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, ok := readMesh[GenerateRequest](w, r)
		if !ok {
			return
		}
		out := newLines(w)
		v, err := n.Generate(r.Context(), q, func(e Event) error { return out.write(line{Event: &e}) })
		out.finish(v, err)
	}
}

// lines writes an answer line by line, each of them at once.
type lines struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

func newLines(w http.ResponseWriter) *lines {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	return &lines{w: w, rc: http.NewResponseController(w)}
}

func (l *lines) write(v line) error {
	b, err := marshal(v)
	if err != nil {
		return err
	}
	if err := l.rc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := l.w.Write(b); err != nil {
		return err
	}
	return l.rc.Flush()
}

func (l *lines) finish(v any, err error) {
	if err != nil {
		_ = l.write(line{Error: AsError(err)})
		return
	}
	b, err := marshal(v)
	if err != nil {
		_ = l.write(line{Error: AsError(err)})
		return
	}
	_ = l.write(line{Result: b})
}
