package api

import (
	"encoding/json"
	"testing"
)

func fuzzRequest(f *testing.F, decode func([]byte) (*completionRequest, error), seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := decode(b)
		if err != nil {
			if AsError(err).Kind != KindInvalid || err.Error() == "" {
				t.Errorf("%q: %#v", b, err)
			}
			return
		}
		if len(q.each) == 0 || len(q.each) > maxChoices {
			t.Errorf("%q asks for %d replies", b, len(q.each))
		}
		for _, r := range q.each {
			if r.Choice < 0 || r.Choice >= maxChoices || r.Logprobs > maxTop+1 || len(r.Stop) > maxStops || r.MaxTokens < 0 {
				t.Errorf("%q gives %+v", b, r)
			}
			if (len(r.Messages) > 0) == (r.Prompt != nil || len(r.Tokens) > 0) {
				t.Errorf("%q gives both or neither of messages and prompt", b)
			}
			if _, err := json.Marshal(r); err != nil {
				t.Errorf("%q cannot go on: %v", b, err)
			}
		}
	})
}

func FuzzChatRequest(f *testing.F) {
	fuzzRequest(f, chatRequest, `{}`, `{"messages":[{"role":"user","content":"hi"}],"n":2,"stop":["a"],"seed":-3,"logit_bias":{"1":2}}`,
		`{"messages":[{"role":"assistant","content":null,"tool_calls":[{"function":{"name":"f","arguments":{}}}]}],"tools":[{}],"stream":true,"stream_options":{"include_usage":true}}`,
		`{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}],"temperature":1e308,"top_p":null}`, `[`, `null`, `"x"`)
}

func FuzzTextRequest(f *testing.F) {
	fuzzRequest(f, textRequest, `{"prompt":"a"}`, `{"prompt":["a","b"],"n":3,"logprobs":5}`, `{"prompt":[1,2]}`, `{"prompt":[[1],[2]],"max_tokens":1}`, `{"prompt":[null]}`, `{"prompt":{}}`)
}
