package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node/api"
)

// web is an HTTP surface under test.
type web struct {
	t    *testing.T
	base string
	c    *http.Client
}

func overHTTP(t *testing.T, n api.Node, o api.HTTPOptions) *web {
	t.Helper()
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	s, err := api.ServeHTTP(n, o)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &web{t: t, base: "http://" + s.Addr(), c: &http.Client{Transport: tr}}
}

// send gives status, headers and body; header lines are "Name: value".
func (w *web) send(method, path, body string, header ...string) (int, http.Header, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.base+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range header {
		k, v, _ := strings.Cut(h, ": ")
		if k == "Host" {
			req.Host = v
		}
		req.Header.Set(k, v)
	}
	resp, err := w.c.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

type wantError struct {
	Error struct {
		Message, Type string
		Param, Code   *string
	}
}

func readError(t *testing.T, body string) (message, typ, param, code string) {
	t.Helper()
	var e wantError
	dec := json.NewDecoder(strings.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil || e.Error.Message == "" || e.Error.Type == "" {
		t.Fatalf("%q has not the shape of an OpenAI error: %v", body, err)
	}
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	return e.Error.Message, e.Error.Type, text(e.Error.Param), text(e.Error.Code)
}

func TestWhoMayCall(t *testing.T) {
	open := overHTTP(t, newFake(), api.HTTPOptions{Hosts: []string{"Weft.Example"}})
	keyed := overHTTP(t, newFake(), api.HTTPOptions{Keys: []string{"key-number-one", "key-number-two"}})
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(open.base, "http://"))
	for _, c := range []struct {
		name   string
		w      *web
		path   string
		header []string
		want   int
	}{
		{"by address", open, "/v1/models", nil, 200},
		{"by localhost", open, "/v1/models", []string{"Host: localhost:" + port}, 200},
		{"by IPv6 loopback", open, "/v1/models", []string{"Host: [::1]:" + port}, 200},
		{"by a configured name", open, "/v1/models", []string{"Host: weft.example"}, 200},
		{"by a rebound name", open, "/v1/models", []string{"Host: evil.example:" + port}, 403},
		{"by a name that ends alike", open, "/v1/models", []string{"Host: evil-localhost"}, 403},
		{"by another address", open, "/v1/models", []string{"Host: 10.0.0.1"}, 403},
		{"health by a rebound name", open, "/healthz", []string{"Host: evil.example"}, 403},
		{"same origin", open, "/v1/models", []string{"Host: localhost:" + port, "Origin: http://localhost:" + port}, 200},
		{"a page of another site", open, "/v1/models", []string{"Origin: https://evil.example"}, 403},
		{"a page of another port", open, "/v1/models", []string{"Host: localhost:" + port, "Origin: http://localhost:1"}, 403},
		{"a page without origin", open, "/v1/models", []string{"Origin: null"}, 403},
		{"a page's plain request", open, "/v1/models", []string{"Sec-Fetch-Site: cross-site"}, 403},
		{"typed into a browser", open, "/v1/models", []string{"Sec-Fetch-Site: none"}, 200},
		{"no key", keyed, "/v1/models", nil, 401},
		{"wrong key", keyed, "/v1/models", []string{"Authorization: Bearer key-number-three"}, 401},
		{"basic", keyed, "/v1/models", []string{"Authorization: Basic key-number-one"}, 401},
		{"right key", keyed, "/v1/models", []string{"Authorization: Bearer key-number-two"}, 200},
		{"metrics without key", keyed, "/metrics", nil, 401},
		{"health without key", keyed, "/healthz", nil, 200},
		{"unknown path without key", keyed, "/x", nil, 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, h, body := c.w.send(http.MethodGet, c.path, "", c.header...)
			if status != c.want {
				t.Errorf("status %d, want %d: %s", status, c.want, body)
			}
			if status >= 400 {
				readError(t, body)
			}
			if v := h.Values("Access-Control-Allow-Origin"); len(v) > 0 {
				t.Errorf("lets pages of %v read", v)
			}
		})
	}
}

func TestListeningBeyondLoopbackNeedsAKey(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "example.com:80"} {
		_, err := api.ServeHTTP(newFake(), api.HTTPOptions{Addr: addr})
		if api.AsError(err).Kind != api.KindInvalid || !strings.Contains(err.Error(), "--api-key") || !strings.Contains(err.Error(), "WEFT_API_KEY") {
			t.Errorf("%s: %v", addr, err)
		}
	}
	w := overHTTP(t, newFake(), api.HTTPOptions{Addr: "0.0.0.0:0", Keys: []string{"long-enough"}})
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(w.base, "http://"))
	w.base = "http://127.0.0.1:" + port
	if status, _, body := w.send(http.MethodGet, "/v1/models", "", "Authorization: Bearer long-enough"); status != 200 {
		t.Errorf("with a key: %d %s", status, body)
	}
	for _, o := range []api.HTTPOptions{{Addr: "4711"}, {Keys: []string{"short"}}} {
		if _, err := api.ServeHTTP(newFake(), o); api.AsError(err).Kind != api.KindInvalid {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestAPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = api.ServeHTTP(newFake(), api.HTTPOptions{Addr: l.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "in use") || !strings.Contains(err.Error(), "--http") {
		t.Errorf("asked for: %v", err)
	}
	var ports []string
	for range 2 { // the second one finds the default taken
		s, err := api.ServeHTTP(newFake(), api.HTTPOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		ports = append(ports, s.Addr())
	}
	if ports[0] == ports[1] || !strings.HasPrefix(ports[1], "127.0.0.1:") {
		t.Errorf("defaults are %v", ports)
	}
}

func TestErrorsHaveTheOpenAIShape(t *testing.T) {
	w := overHTTP(t, newFake(), api.HTTPOptions{})
	const chat, text = "/v1/chat/completions", "/v1/completions"
	hi := `"messages":[{"role":"user","content":"hi"}]`
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		param                    string
	}{
		{"unknown path", "GET", "/v2", "", 404, ""},
		{"mesh surface", "GET", "/weft/v1/status", "", 404, ""},
		{"wrong method", "GET", chat, "", 405, ""},
		{"delete", "DELETE", "/v1/models", "", 405, ""},
		{"no JSON", "POST", chat, "{", 400, ""},
		{"a list", "POST", chat, "[]", 400, ""},
		{"not UTF-8", "POST", chat, "{\"model\":\"\xff\"}", 400, ""},
		{"unknown model entry", "GET", "/v1/models/none", "", 404, "model"},
		{"no messages", "POST", chat, `{}`, 400, "messages"},
		{"empty messages", "POST", chat, `{"messages":[]}`, 400, "messages"},
		{"messages as text", "POST", chat, `{"messages":"hi"}`, 400, "messages"},
		{"message as text", "POST", chat, `{"messages":["hi"]}`, 400, "messages[0]"},
		{"role as number", "POST", chat, `{"messages":[{"role":1,"content":""}]}`, 400, "messages[0].role"},
		{"unknown role", "POST", chat, `{"messages":[{"role":"king","content":""}]}`, 400, "messages[0].role"},
		{"no content", "POST", chat, `{"messages":[{"role":"user"}]}`, 400, "messages[0].content"},
		{"image", "POST", chat, `{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}`, 400, "messages[0].content"},
		{"temperature as text", "POST", chat, `{"temperature":"hot",` + hi + `}`, 400, "temperature"},
		{"temperature below 0", "POST", chat, `{"temperature":-1,` + hi + `}`, 400, "temperature"},
		{"top_p above 1", "POST", chat, `{"top_p":1.5,` + hi + `}`, 400, "top_p"},
		{"top_k with a fraction", "POST", chat, `{"top_k":1.5,` + hi + `}`, 400, "top_k"},
		{"penalty too large", "POST", chat, `{"presence_penalty":3,` + hi + `}`, 400, "presence_penalty"},
		{"model as number", "POST", chat, `{"model":1,` + hi + `}`, 400, "model"},
		{"stream as text", "POST", chat, `{"stream":"yes",` + hi + `}`, 400, "stream"},
		{"stream_options as list", "POST", chat, `{"stream_options":[],` + hi + `}`, 400, "stream_options"},
		{"seed as text", "POST", chat, `{"seed":"x",` + hi + `}`, 400, "seed"},
		{"n 0", "POST", chat, `{"n":0,` + hi + `}`, 400, "n"},
		{"n too large", "POST", chat, `{"n":1000,` + hi + `}`, 400, "n"},
		{"stop as number", "POST", chat, `{"stop":1,` + hi + `}`, 400, "stop"},
		{"stop with null", "POST", chat, `{"stop":[null],` + hi + `}`, 400, "stop"},
		{"empty stop", "POST", chat, `{"stop":"",` + hi + `}`, 400, "stop"},
		{"many stops", "POST", chat, `{"stop":[` + strings.Repeat(`"a",`, 20) + `"a"],` + hi + `}`, 400, "stop"},
		{"bias as list", "POST", chat, `{"logit_bias":[],` + hi + `}`, 400, "logit_bias"},
		{"bias of a word", "POST", chat, `{"logit_bias":{"the":1},` + hi + `}`, 400, "logit_bias"},
		{"bias too large", "POST", chat, `{"logit_bias":{"1":1000},` + hi + `}`, 400, "logit_bias"},
		{"max_tokens 0", "POST", chat, `{"max_tokens":0,` + hi + `}`, 400, "max_tokens"},
		{"top_logprobs alone", "POST", chat, `{"top_logprobs":2,` + hi + `}`, 400, "top_logprobs"},
		{"top_logprobs too many", "POST", chat, `{"logprobs":true,"top_logprobs":50,` + hi + `}`, 400, "top_logprobs"},
		{"JSON mode", "POST", chat, `{"response_format":{"type":"json_object"},` + hi + `}`, 400, "response_format"},
		{"response_format as text", "POST", chat, `{"response_format":"text",` + hi + `}`, 400, "response_format"},
		{"tools as object", "POST", chat, `{"tools":{},` + hi + `}`, 400, "tools"},
		{"forced tool", "POST", chat, `{"tool_choice":"required",` + hi + `}`, 400, "tool_choice"},
		{"functions", "POST", chat, `{"functions":[],` + hi + `}`, 400, "functions"},
		{"template arguments as list", "POST", chat, `{"chat_template_kwargs":[],` + hi + `}`, 400, "chat_template_kwargs"},
		{"no prompt", "POST", text, `{}`, 400, "prompt"},
		{"prompt as number", "POST", text, `{"prompt":1}`, 400, "prompt"},
		{"prompt with an object", "POST", text, `{"prompt":[{}]}`, 400, "prompt"},
		{"prompt with null", "POST", text, `{"prompt":[null]}`, 400, "prompt"},
		{"too many prompts", "POST", text, `{"prompt":[` + strings.Repeat(`"a",`, 20) + `"a"]}`, 400, "prompt"},
		{"prompts times n", "POST", text, `{"n":10,"prompt":["a","b"]}`, 400, "n"},
		{"echo", "POST", text, `{"echo":true,"prompt":"a"}`, 400, "echo"},
		{"suffix", "POST", text, `{"suffix":"b","prompt":"a"}`, 400, "suffix"},
		{"best_of", "POST", text, `{"best_of":3,"prompt":"a"}`, 400, "best_of"},
		{"logprobs as flag", "POST", text, `{"logprobs":true,"prompt":"a"}`, 400, "logprobs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, h, body := w.send(c.method, c.path, c.body)
			_, typ, param, _ := readError(t, body)
			if status != c.status || param != c.param || typ != "invalid_request_error" {
				t.Errorf("got %d, param %q, type %s; want %d, param %q: %s", status, param, typ, c.status, c.param, body)
			}
			if status == 405 && h.Get("Allow") == "" {
				t.Error("405 without Allow")
			}
		})
	}
}

func TestRequestsThatAreNoJSONAreRefused(t *testing.T) {
	w := overHTTP(t, newFake(), api.HTTPOptions{})
	for _, typ := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx", ""} {
		status, _, body := w.send("POST", "/v1/completions", `{"prompt":"a"}`, "Content-Type: "+typ)
		if readError(t, body); status != 415 {
			t.Errorf("%q: %d %s", typ, status, body)
		}
	}
	if status, _, body := w.send("POST", "/v1/completions", `{"prompt":"a"}`, "Content-Type: application/json; charset=utf-8"); status != 200 {
		t.Errorf("with a charset: %d %s", status, body)
	}
	status, _, body := w.send("POST", "/v1/completions", `{"prompt":"`+strings.Repeat("a", 17<<20)+`"}`)
	if readError(t, body); status != 413 {
		t.Errorf("17 MiB: %d %.200s", status, body)
	}
}

func TestErrorsOfTheNodeBecomeStatuses(t *testing.T) {
	for _, c := range []struct {
		err       error
		status    int
		typ, code string
	}{
		{&api.Error{Kind: api.KindTooLarge, Message: "long", Param: "messages"}, 400, "invalid_request_error", "context_length_exceeded"},
		{&api.Error{Kind: api.KindNotFound, Message: "no /secret/path"}, 404, "invalid_request_error", "model_not_found"},
		{&api.Error{Kind: api.KindConflict, Message: "two"}, 409, "invalid_request_error", "conflict"},
		{&api.Error{Kind: api.KindBusy, Message: "full"}, 429, "rate_limit_error", "busy"},
		{&api.Error{Kind: api.KindNoCapacity, Message: "big"}, 503, "server_error", "no_capacity"},
		{&api.Error{Kind: api.KindUnavailable, Message: "down"}, 503, "server_error", "unavailable"},
		{&api.Error{Kind: api.KindStageLost, Message: "lost"}, 502, "server_error", "stage_lost"},
		{errPlain, 500, "server_error", "internal"},
	} {
		for _, stream := range []string{"false", "true"} {
			f := newFake()
			f.fail, f.noStart = c.err, true
			w := overHTTP(t, f, api.HTTPOptions{})
			status, h, body := w.send("POST", "/v1/completions", `{"prompt":"a","model":"m","stream":`+stream+`}`)
			msg, typ, _, code := readError(t, body)
			if status != c.status || typ != c.typ || code != c.code {
				t.Errorf("%v: %d %s", c.err, status, body)
			}
			if strings.Contains(msg, "/secret") {
				t.Errorf("a path of this machine goes out: %s", msg)
			}
			if status == 429 && h.Get("Retry-After") == "" {
				t.Error("429 without Retry-After")
			}
		}
	}
}

func TestErrorsOfOtherEndpoints(t *testing.T) {
	f := newFake()
	f.fail = errPlain
	w := overHTTP(t, f, api.HTTPOptions{})
	for _, path := range []string{"/metrics", "/v1/models", "/v1/models/tiny"} {
		status, _, body := w.send("GET", path, "")
		if readError(t, body); status != 500 {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

func TestModelsAreListed(t *testing.T) {
	w := overHTTP(t, newFake(), api.HTTPOptions{})
	status, _, body := w.send("GET", "/v1/models", "")
	want := `{"object":"list","data":[` +
		`{"id":"tiny","object":"model","created":1700000000,"owned_by":"weft","context_length":128},` +
		`{"id":"twin@abababababab","object":"model","created":1700000000,"owned_by":"weft","context_length":128},` +
		`{"id":"twin@cdcdcdcdcdcd","object":"model","created":1700000000,"owned_by":"weft","context_length":128}]}` + "\n"
	if status != 200 || body != want {
		t.Errorf("got %d %s", status, body)
	}
	status, _, body = w.send("GET", "/v1/models/twin@cdcdcdcdcdcd", "")
	if status != 200 || !strings.Contains(body, `"id":"twin@cdcdcdcdcdcd"`) {
		t.Errorf("one: %d %s", status, body)
	}
}

func TestHealthAndMetrics(t *testing.T) {
	w := overHTTP(t, newFake(), api.HTTPOptions{})
	if status, _, body := w.send("GET", "/healthz", ""); status != 200 || strings.TrimSpace(body) != `{"status":"ok"}` {
		t.Errorf("health: %d %s", status, body)
	}
	if status, _, _ := w.send("HEAD", "/healthz", ""); status != 200 {
		t.Errorf("HEAD: %d", status)
	}
	status, h, body := w.send("GET", "/metrics", "")
	if status != 200 || body != "weft_peers 1\n" || !strings.HasPrefix(h.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Errorf("metrics: %d %v %s", status, h, body)
	}
}

func TestADisconnectedClientCancelsItsReply(t *testing.T) {
	for _, stream := range []string{"true", "false"} {
		f := newFake()
		f.block = true
		w := overHTTP(t, f, api.HTTPOptions{})
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "POST", w.base+"/v1/completions", strings.NewReader(`{"prompt":"a","stream":`+stream+`}`))
		req.Header.Set("Content-Type", "application/json")
		go func() { <-f.begun; cancel() }()
		resp, err := w.c.Do(req)
		if err == nil {
			_, err = io.ReadAll(bufio.NewReader(resp.Body))
			resp.Body.Close()
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("stream %s: %v", stream, err)
		}
		<-f.ended
	}
}

func TestTheTenantComesFromTheKey(t *testing.T) {
	f := newFake()
	w := overHTTP(t, f, api.HTTPOptions{Keys: []string{"key-number-one", "key-number-two"}})
	for _, k := range []string{"key-number-one", "key-number-two", "key-number-one"} {
		if status, _, body := w.send("POST", "/v1/completions", `{"prompt":"a"}`, "Authorization: Bearer "+k); status != 200 {
			t.Fatal(body)
		}
	}
	got := f.requests()
	if got[0].Tenant == "" || strings.Contains(got[0].Tenant, "key") || got[0].Tenant == got[1].Tenant || got[0].Tenant != got[2].Tenant {
		t.Errorf("tenants are %q, %q, %q", got[0].Tenant, got[1].Tenant, got[2].Tenant)
	}
	open := newFake()
	overHTTP(t, open, api.HTTPOptions{}).send("POST", "/v1/completions", `{"prompt":"a"}`)
	if d := cmp.Diff("", open.requests()[0].Tenant); d != "" {
		t.Error(d)
	}
}

func TestAPanicOfOneReplyEndsThatRequestAlone(t *testing.T) {
	f := newFake()
	f.panics = true
	w := overHTTP(t, f, api.HTTPOptions{})
	code, _, body := w.send(http.MethodPost, "/v1/completions", `{"prompt":"x"}`)
	if code != http.StatusInternalServerError || !strings.Contains(body, "a template went wild") {
		t.Fatalf("%d %s", code, body)
	}
	if code, _, _ := w.send(http.MethodGet, "/healthz", ""); code != http.StatusOK {
		t.Fatalf("the server is gone: %d", code)
	}
}
