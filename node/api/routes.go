package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
)

// routes are handlers by path pattern and method. The pattern has no method,
// so that a wrong one is told apart from a wrong path, in the API's own shape.
type routes map[string]map[string]http.HandlerFunc

func register(mux *http.ServeMux, tables ...routes) {
	for _, t := range tables {
		for path, methods := range t {
			mux.HandleFunc(path, byMethod(methods))
		}
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, Errorf(KindNotFound, "there is nothing at %s %s; the API is below /v1", r.Method, r.URL.Path))
	})
}

func byMethod(methods map[string]http.HandlerFunc) http.HandlerFunc {
	var names []string
	for m := range methods {
		names = append(names, m)
	}
	slices.Sort(names)
	allow := strings.Join(names, ", ")
	return func(w http.ResponseWriter, r *http.Request) {
		h, ok := methods[r.Method]
		if !ok && r.Method == http.MethodHead {
			h, ok = methods[http.MethodGet]
		}
		if !ok {
			w.Header().Set("Allow", allow)
			e := Errorf(KindInvalid, "%s takes %s, not %s", r.URL.Path, allow, r.Method)
			writeErrorStatus(w, http.StatusMethodNotAllowed, e)
			return
		}
		h(w, r)
	}
}

// readBody reads a request's JSON body within the limits.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		writeErrorStatus(w, http.StatusUnsupportedMediaType, Errorf(KindInvalid, "the content type is %q; send JSON with Content-Type: application/json", r.Header.Get("Content-Type")))
		return nil, false
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout))
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	_ = rc.SetReadDeadline(time.Time{})
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &big):
		writeErrorStatus(w, http.StatusRequestEntityTooLarge, Errorf(KindInvalid, "the request has more than %d bytes", big.Limit))
		return nil, false
	case err != nil:
		writeError(w, Errorf(KindInvalid, "read the request: %w", err))
		return nil, false
	}
	return b, true
}

// openAIError is the body of every error of the OpenAI surface.
type openAIError struct {
	Error openAIErrorBody `json:"error"`
}

type openAIErrorBody struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

func openAIErrorOf(e *Error) openAIError {
	b := openAIErrorBody{Message: e.Message, Type: e.OpenAIType()}
	if e.Param != "" {
		b.Param = &e.Param
	}
	if c := e.openAICode(); c != "" {
		b.Code = &c
	}
	return openAIError{b}
}

// openAICode is the error's code in the OpenAI shape, "" for none.
func (e *Error) openAICode() string {
	switch e.Kind {
	case KindInvalid:
		return ""
	case KindTooLarge:
		return "context_length_exceeded"
	case KindAuth:
		return "invalid_api_key"
	case KindNotFound:
		if e.Param == "model" {
			return "model_not_found"
		}
		return "not_found"
	default:
		return string(e.Kind)
	}
}

func writeError(w http.ResponseWriter, err error) {
	e := AsError(err)
	writeErrorStatus(w, e.HTTPStatus(), e)
}

func writeErrorStatus(w http.ResponseWriter, status int, e *Error) {
	if e.Kind == KindAuth {
		w.Header().Set("WWW-Authenticate", `Bearer realm="weft"`)
	}
	if e.Kind == KindBusy {
		w.Header().Set("Retry-After", "5")
	}
	writeJSON(w, status, openAIErrorOf(e))
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, fmt.Appendf(nil, `{"error":{"message":%q,"type":"server_error","param":null,"code":null}}`+"\n", err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.WriteHeader(status)
	_, _ = w.Write(b) // a client that is gone needs no answer
}

// marshal writes JSON with a final newline and without HTML escapes.
func marshal(v any) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return []byte(b.String()), err
}
