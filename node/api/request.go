package api

import (
	"encoding/json"

	"github.com/weft-mesh/weft/node/spec"
)

// completionRequest is a request of either completion endpoint, checked.
type completionRequest struct {
	chat     bool
	each     []GenerateRequest // one for each choice
	stream   bool
	usage    bool // a last chunk with the usage
	logprobs bool
	n        int
}

// legacyMaxTokens is what the completions endpoint gives when nothing is said.
const legacyMaxTokens = 16

// chatRequest decodes a body of /v1/chat/completions.
func chatRequest(body []byte) (*completionRequest, error) {
	f := readFields(body)
	g := f.sampling()
	g.Messages = f.messages()
	g.Tools = f.tools()
	g.TemplateArgs = f.templateArgs()
	f.format()
	if n := f.integer("max_tokens", 1, maxInt32); n != nil {
		g.MaxTokens = *n
	}
	if n := f.integer("max_completion_tokens", 1, maxInt32); n != nil {
		g.MaxTokens = *n
	}
	logprobs := f.flag("logprobs")
	top := f.integer("top_logprobs", 0, maxTop)
	switch {
	case logprobs && top != nil:
		g.Logprobs = 1 + *top
	case logprobs:
		g.Logprobs = 1
	case top != nil && *top > 0:
		f.fail("top_logprobs", "top_logprobs needs logprobs to be true")
	}
	return f.finish(true, []GenerateRequest{g}, logprobs)
}

// textRequest decodes a body of /v1/completions.
func textRequest(body []byte) (*completionRequest, error) {
	f := readFields(body)
	g := f.sampling()
	prompts := f.prompts()
	f.format()
	if f.flag("echo") {
		f.fail("echo", "echo is not supported; put the prompt before the reply yourself")
	}
	if f.text("suffix") != "" {
		f.fail("suffix", "suffix is not supported: weft continues a text, it does not fill gaps")
	}
	g.MaxTokens = legacyMaxTokens
	if n := f.integer("max_tokens", 1, maxInt32); n != nil {
		g.MaxTokens = *n
	}
	n := f.integer("n", 1, maxChoices)
	if best := f.integer("best_of", 1, maxChoices); best != nil && *best != 1 && (n == nil || *best != *n) {
		f.fail("best_of", "best_of is not supported")
	}
	top := f.integer("logprobs", 0, maxTop)
	if top != nil {
		g.Logprobs = 1 + *top
	}
	each := make([]GenerateRequest, len(prompts))
	for i, p := range prompts {
		each[i] = g
		each[i].Prompt, each[i].Tokens = p.Prompt, p.Tokens
	}
	return f.finish(false, each, top != nil)
}

const maxInt32 = 1<<31 - 1

// sampling reads what both endpoints have in common.
func (f *fields) sampling() GenerateRequest {
	g := GenerateRequest{
		Model: f.text("model"), Stop: f.stops(), Seed: f.seed("seed"), LogitBias: f.bias(), IgnoreEOS: f.flag("ignore_eos"),
		Temperature: f.number("temperature", 0, 100), TopP: f.number("top_p", 0, 1), MinP: f.number("min_p", 0, 1),
		TopK: f.integer("top_k", -1, maxInt32), Speculate: f.text("speculate"), DraftModel: f.text("draft_model"),
	}
	if _, err := spec.ParseMode(g.Speculate); err != nil {
		f.fail("speculate", "%v", err)
	}
	if g.TopK != nil && *g.TopK < 0 { // the other way to say that all tokens count
		*g.TopK = 0
	}
	for _, p := range []struct {
		name      string
		low, high float64
		to        *float64
	}{
		{"frequency_penalty", -2, 2, &g.FrequencyPenalty},
		{"presence_penalty", -2, 2, &g.PresencePenalty},
		{"repetition_penalty", 0.01, 100, &g.RepeatPenalty},
		{"repeat_penalty", 0.01, 100, &g.RepeatPenalty},
	} {
		if v := f.number(p.name, p.low, p.high); v != nil {
			*p.to = *v
		}
	}
	return g
}

// format refuses replies in a form that weft cannot promise.
func (f *fields) format() {
	v, ok := f.get("response_format")
	if !ok {
		return
	}
	var r struct {
		Type string `json:"type"`
	}
	switch {
	case json.Unmarshal(v, &r) != nil:
		f.fail("response_format", "response_format must be an object with a type")
	case r.Type != "text":
		f.fail("response_format", "response_format %.40q is not supported; only text is", r.Type)
	}
}

// tools gives the tools for the chat template.
func (f *fields) tools() json.RawMessage {
	if _, ok := f.get("functions"); ok {
		f.fail("functions", "functions are not supported; use tools")
	}
	use := true
	if v, ok := f.get("tool_choice"); ok {
		var s string
		if json.Unmarshal(v, &s) != nil || (s != "auto" && s != "none") {
			f.fail("tool_choice", "tool_choice can be auto or none; a call cannot be forced")
		}
		use = s != "none"
	}
	v, ok := f.get("tools")
	if !ok {
		return nil
	}
	var list []map[string]json.RawMessage
	if json.Unmarshal(v, &list) != nil {
		f.fail("tools", "tools must be a list of objects")
	}
	if !use || len(list) == 0 {
		return nil
	}
	return v
}

func (f *fields) templateArgs() map[string]json.RawMessage {
	v, ok := f.get("chat_template_kwargs")
	if !ok {
		return nil
	}
	var m map[string]json.RawMessage
	if json.Unmarshal(v, &m) != nil {
		f.fail("chat_template_kwargs", "chat_template_kwargs must be an object, not %s", kindOf(v))
	}
	return m
}

// finish reads how to answer, and multiplies the prompts by the choices.
func (f *fields) finish(isChat bool, prompts []GenerateRequest, logprobs bool) (*completionRequest, error) {
	q := &completionRequest{chat: isChat, n: 1, logprobs: logprobs, stream: f.flag("stream")}
	if n := f.integer("n", 1, maxChoices); n != nil {
		q.n = *n
	}
	if v, ok := f.get("stream_options"); ok {
		var o struct {
			IncludeUsage bool `json:"include_usage"`
		}
		if json.Unmarshal(v, &o) != nil {
			f.fail("stream_options", "stream_options must be an object, with include_usage true or false")
		}
		q.usage = o.IncludeUsage && q.stream
	}
	if q.n*len(prompts) > maxChoices {
		f.fail("n", "%d prompts with %d choices each are more than %d replies in one request", len(prompts), q.n, maxChoices)
	}
	if f.err != nil {
		return nil, f.err
	}
	for _, p := range prompts {
		for choice := range q.n {
			p.Choice = choice
			q.each = append(q.each, p)
		}
	}
	return q, nil
}
