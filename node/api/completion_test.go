package api_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/chat"
)

// steady replaces what differs from call to call.
func steady(s string) string {
	s = regexp.MustCompile(`"((?:chat)?cmpl)-[0-9a-f]{24}"`).ReplaceAllString(s, `"$1-ID"`)
	return regexp.MustCompile(`"created":\d{10}\b`).ReplaceAllString(s, `"created":0`)
}

func TestReplies(t *testing.T) {
	const usage = `"usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":1},"completion_tokens_details":{"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}`
	const lp = `{"token":"one","logprob":-0.5,"bytes":[111,110,101],"top_logprobs":[{"token":"one","logprob":-0.5,"bytes":[111,110,101]}]}`
	chatHead := `{"id":"chatcmpl-ID","object":"chat.completion","created":0,"model":"tiny",`
	textHead := `{"id":"cmpl-ID","object":"text_completion","created":0,"model":"tiny",`
	chatChunk := `data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":0,"model":"tiny","choices":[`
	textChunk := `data: {"id":"cmpl-ID","object":"text_completion","created":0,"model":"tiny","choices":[`
	for _, c := range []struct{ name, path, body, want string }{
		{
			"chat", "chat/completions", `{"messages":[{"role":"user","content":"hi"}]}`,
			chatHead + `"choices":[{"index":0,"message":{"role":"assistant","content":"one two three","refusal":null},"logprobs":null,"finish_reason":"stop"}],` + usage + "}\n",
		},
		{
			"chat, cut, with log-probabilities", "chat/completions", `{"max_tokens":1,"logprobs":true,"top_logprobs":1,"messages":[{"role":"user","content":"hi"}]}`,
			chatHead + `"choices":[{"index":0,"message":{"role":"assistant","content":"one","refusal":null},"logprobs":{"content":[` + lp + `],"refusal":null},"finish_reason":"length"}],` +
				strings.NewReplacer(`s":3`, `s":1`, `s":5`, `s":3`).Replace(usage) + "}\n",
		},
		{
			"text", "completions", `{"prompt":"a"}`,
			textHead + `"choices":[{"index":0,"text":"one two three","logprobs":null,"finish_reason":"stop"}],` + usage + "}\n",
		},
		{
			"text with log-probabilities", "completions", `{"prompt":[1,2],"logprobs":1,"max_tokens":2}`,
			textHead + `"choices":[{"index":0,"text":"one two","logprobs":{"tokens":["one"," two"],"token_logprobs":[-0.5,-0.5],"top_logprobs":[{"one":-0.5},{" two":-0.5}],"text_offset":[0,3]},"finish_reason":"length"}],` +
				strings.NewReplacer(`s":3`, `s":2`, `s":5`, `s":4`).Replace(usage) + "}\n",
		},
		{
			"two prompts, two choices", "completions", `{"prompt":["a","b"],"n":2,"max_tokens":1}`,
			textHead + `"choices":[{"index":0,"text":"one","logprobs":null,"finish_reason":"length"},{"index":1,"text":"one","logprobs":null,"finish_reason":"length"},{"index":2,"text":"one","logprobs":null,"finish_reason":"length"},{"index":3,"text":"one","logprobs":null,"finish_reason":"length"}],` +
				`"usage":{"prompt_tokens":4,"completion_tokens":4,"total_tokens":8,"prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}` + "\n",
		},
		{
			"streamed chat", "chat/completions", `{"stream":true,"max_tokens":2,"messages":[{"role":"user","content":"hi"}]}`,
			chatChunk + `{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}` + "\n\n" +
				chatChunk + `{"index":0,"delta":{"content":"one"},"logprobs":null,"finish_reason":null}]}` + "\n\n" +
				chatChunk + `{"index":0,"delta":{"content":" two"},"logprobs":null,"finish_reason":null}]}` + "\n\n" +
				chatChunk + `{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}]}` + "\n\ndata: [DONE]\n\n",
		},
		{
			"streamed chat with usage and log-probabilities", "chat/completions", `{"stream":true,"stream_options":{"include_usage":true},"logprobs":true,"top_logprobs":1,"max_tokens":1,"messages":[{"role":"user","content":"hi"}]}`,
			chatChunk + `{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}` + "\n\n" +
				chatChunk + `{"index":0,"delta":{"content":"one"},"logprobs":{"content":[` + lp + `],"refusal":null},"finish_reason":null}],"usage":null}` + "\n\n" +
				chatChunk + `{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}],"usage":null}` + "\n\n" +
				chatChunk + `],"usage":{"prompt_tokens":2,"completion_tokens":1,"total_tokens":3,"prompt_tokens_details":{"cached_tokens":1},"completion_tokens_details":{"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}` + "\n\ndata: [DONE]\n\n",
		},
		{
			"streamed text with log-probabilities", "completions", `{"stream":true,"logprobs":0,"max_tokens":2,"prompt":"a"}`,
			textChunk + `{"index":0,"text":"one","logprobs":{"tokens":["one"],"token_logprobs":[-0.5],"top_logprobs":[{"one":-0.5}],"text_offset":[0]},"finish_reason":null}]}` + "\n\n" +
				textChunk + `{"index":0,"text":" two","logprobs":{"tokens":[" two"],"token_logprobs":[-0.5],"top_logprobs":[{" two":-0.5}],"text_offset":[3]},"finish_reason":null}]}` + "\n\n" +
				textChunk + `{"index":0,"text":"","logprobs":null,"finish_reason":"length"}]}` + "\n\ndata: [DONE]\n\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := overHTTP(t, newFake(), api.HTTPOptions{})
			status, h, body := w.send("POST", "/v1/"+c.path, c.body)
			if status != 200 {
				t.Fatal(body)
			}
			if d := cmp.Diff(c.want, steady(body)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			typ := "application/json"
			if strings.HasPrefix(c.name, "streamed") {
				typ = "text/event-stream"
			}
			if got := h.Get("Content-Type"); got != typ {
				t.Errorf("content type %q, want %q", got, typ)
			}
		})
	}
}

func TestAStreamThatFailsEndsWithTheError(t *testing.T) {
	f := newFake()
	f.fail = &api.Error{Kind: api.KindStageLost, Message: "node b was lost"}
	w := overHTTP(t, f, api.HTTPOptions{})
	status, _, body := w.send("POST", "/v1/completions", `{"prompt":"a","stream":true}`)
	end := `data: {"error":{"message":"node b was lost","type":"server_error","param":null,"code":"stage_lost"}}` + "\n\ndata: [DONE]\n\n"
	if status != 200 || !strings.HasSuffix(body, end) || !strings.Contains(body, `"text":"one"`) {
		t.Errorf("got %d %s", status, body)
	}
}

func TestAFailedChoiceEndsTheOthers(t *testing.T) {
	f := newFake()
	f.fail = &api.Error{Kind: api.KindBusy, Message: "full"}
	w := overHTTP(t, f, api.HTTPOptions{})
	status, _, body := w.send("POST", "/v1/completions", `{"prompt":"a","n":16}`)
	if status != 429 {
		t.Errorf("got %d %s", status, body)
	}
}

func TestFieldsReachTheNode(t *testing.T) {
	num := func(v float64) *float64 { return &v }
	seed, minus, k, zero, text := uint64(42), ^uint64(4), 40, 0, "a"
	hi := []chat.Message{{Role: "user", Content: chat.Text("hi")}}
	const msg = `"messages":[{"role":"user","content":"hi"}]`
	for _, c := range []struct {
		name, path, body string
		want             api.GenerateRequest
	}{
		{"defaults", "chat/completions", `{` + msg + `}`, api.GenerateRequest{Messages: hi}},
		{"nulls and unknown fields", "chat/completions", `{"temperature":null,"stop":null,"seed":null,"user":"x","unknown":{"a":[1]},"tools":null,` + msg + `}`, api.GenerateRequest{Messages: hi}},
		{
			"sampling", "chat/completions", `{"model":"m","temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.1,"seed":42,"frequency_penalty":1,"presence_penalty":-1,"repeat_penalty":1.1,"logit_bias":{"5":-100},"stop":["a","b"],"max_completion_tokens":9,"ignore_eos":true,` + msg + `}`,
			api.GenerateRequest{Model: "m", Messages: hi, Temperature: num(0.5), TopP: num(0.9), TopK: &k, MinP: num(0.1), Seed: &seed, FrequencyPenalty: 1, PresencePenalty: -1, RepeatPenalty: 1.1, LogitBias: map[int]float64{5: -100}, Stop: []string{"a", "b"}, MaxTokens: 9, IgnoreEOS: true},
		},
		{
			"other spellings", "chat/completions", `{"seed":-5,"top_k":-1,"stop":"a","repetition_penalty":1.2,` + msg + `}`,
			api.GenerateRequest{Messages: hi, Seed: &minus, TopK: &zero, Stop: []string{"a"}, RepeatPenalty: 1.2},
		},
		{"random seed", "chat/completions", `{"seed":-1,` + msg + `}`, api.GenerateRequest{Messages: hi}},
		{"log-probabilities", "chat/completions", `{"logprobs":true,` + msg + `}`, api.GenerateRequest{Messages: hi, Logprobs: 1}},
		{"five alternatives", "chat/completions", `{"logprobs":true,"top_logprobs":5,` + msg + `}`, api.GenerateRequest{Messages: hi, Logprobs: 6}},
		{
			"tools", "chat/completions", `{"tools":[{"type":"function"}],"chat_template_kwargs":{"enable_thinking":false},` + msg + `}`,
			api.GenerateRequest{Messages: hi, Tools: json.RawMessage(`[{"type":"function"}]`), TemplateArgs: map[string]json.RawMessage{"enable_thinking": json.RawMessage("false")}},
		},
		{"no tool wanted", "chat/completions", `{"tools":[{"type":"function"}],"tool_choice":"none",` + msg + `}`, api.GenerateRequest{Messages: hi}},
		{
			"conversation", "chat/completions", `{"messages":[{"role":"developer","content":"be"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"x"}]}`,
			api.GenerateRequest{Messages: []chat.Message{
				{Role: "system", Content: chat.Text("be")},
				{Role: "user", Content: chat.Content{Parts: []string{"a", "b"}}},
				{Role: "assistant", Content: chat.Content{Null: true}, ToolCalls: []chat.ToolCall{{ID: "1", Type: "function", Function: chat.FunctionCall{Name: "f", Arguments: json.RawMessage(`"{}"`)}}}},
				{Role: "tool", ToolCallID: "1", Content: chat.Text("x")},
			}},
		},
		{"text", "completions", `{"prompt":"a"}`, api.GenerateRequest{Prompt: &text, MaxTokens: 16}},
		{"text with all of it", "completions", `{"prompt":["a"],"max_tokens":3,"logprobs":2,"best_of":1,"echo":false,"suffix":null}`, api.GenerateRequest{Prompt: &text, MaxTokens: 3, Logprobs: 3}},
		{"ids", "completions", `{"prompt":[[1,2,3]]}`, api.GenerateRequest{Tokens: []int32{1, 2, 3}, MaxTokens: 16}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake()
			w := overHTTP(t, f, api.HTTPOptions{})
			if status, _, body := w.send("POST", "/v1/"+c.path, c.body); status != 200 {
				t.Fatal(body)
			}
			if d := cmp.Diff([]api.GenerateRequest{c.want}, f.requests()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestChoicesAreNumbered(t *testing.T) {
	f := newFake()
	w := overHTTP(t, f, api.HTTPOptions{})
	w.send("POST", "/v1/completions", `{"prompt":["a","b"],"n":3,"seed":1}`)
	seen := map[string]int{}
	for _, r := range f.requests() {
		seen[*r.Prompt] += 1 << r.Choice
	}
	if d := cmp.Diff(map[string]int{"a": 7, "b": 7}, seen); d != "" {
		t.Error(d)
	}
}

func TestAModelThatIsAFilesPathIsUnknown(t *testing.T) {
	f := newFake()
	w := overHTTP(t, f, api.HTTPOptions{})
	for _, model := range []string{"/etc/passwd", "../m", `c:\\m`, "m.gguf", "M.GGUF"} {
		status, _, body := w.send("POST", "/v1/completions", `{"prompt":"a","model":"`+model+`"}`)
		if status != 404 || !strings.Contains(body, "model_not_found") {
			t.Errorf("%s: %d %s", model, status, body)
		}
	}
	if n := len(f.requests()); n != 0 {
		t.Errorf("%d of them reached the node", n)
	}
}
