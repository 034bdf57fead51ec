package chat_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node/chat"
	"github.com/weft-mesh/weft/node/chat/jinja"
)

func compile(t *testing.T, src string) *chat.Template {
	t.Helper()
	tpl, err := chat.Compile(src)
	if err != nil {
		t.Fatal(err)
	}
	return tpl
}

func user(s string) chat.Message { return chat.Message{Role: "user", Content: chat.Text(s)} }
func assistant(s string) chat.Message {
	return chat.Message{Role: "assistant", Content: chat.Text(s)}
}

func TestRenderGivesTemplatesEveryField(t *testing.T) {
	tpl := compile(t, `{{ messages | tojson }}|{{ bos_token }}|{{ eos_token }}|{{ tools | tojson }}|{{ mode }}|{{ strftime_now('%Y') }}`)
	got, err := tpl.Render(chat.Input{
		Messages: []chat.Message{
			{Role: "assistant", Content: chat.Content{Null: true}, ReasoningContent: "hm", ToolCalls: []chat.ToolCall{
				{ID: "1", Function: chat.FunctionCall{Name: "f", Arguments: json.RawMessage(`"{\"z\":1,\"a\":[2]}"`)}},
				{Function: chat.FunctionCall{Name: "g", Arguments: json.RawMessage(`{"k": 1.0}`)}},
				{Function: chat.FunctionCall{Name: "h", Arguments: json.RawMessage(`"no json"`)}},
				{Function: chat.FunctionCall{Name: "i", Arguments: json.RawMessage(`""`)}},
				{Function: chat.FunctionCall{Name: "j"}},
			}},
			{Role: "tool", Content: chat.Text("r"), Name: "f", ToolCallID: "1"},
		},
		Tools:    json.RawMessage(`[{"b":1,"a":2}]`),
		BOSToken: "<s>", EOSToken: "</s>",
		Extra: map[string]json.RawMessage{"mode": json.RawMessage(`"fast"`)},
		Now:   func() time.Time { return time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC) },
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [` +
		`{"type": "function", "function": {"name": "f", "arguments": {"z": 1, "a": [2]}}, "id": "1"}, ` +
		`{"type": "function", "function": {"name": "g", "arguments": {"k": 1.0}}}, ` +
		`{"type": "function", "function": {"name": "h", "arguments": "no json"}}, ` +
		`{"type": "function", "function": {"name": "i", "arguments": {}}}, ` +
		`{"type": "function", "function": {"name": "j", "arguments": {}}}]}, ` +
		`{"role": "tool", "content": "r", "name": "f", "tool_call_id": "1"}]|<s>|</s>|[{"b": 1, "a": 2}]|fast|2031`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTrailingAssistantMessageIsContinued(t *testing.T) {
	tpl := compile(t, chat.ChatML)
	for _, generation := range []bool{false, true} {
		got, err := tpl.Render(chat.Input{
			Messages:            []chat.Message{user("Count."), assistant("1, 2")},
			AddGenerationPrompt: generation,
		})
		if want := "<|im_start|>user\nCount.<|im_end|>\n<|im_start|>assistant\n1, 2"; err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	_, err := tpl.Render(chat.Input{Messages: []chat.Message{user("x"), assistant("a"), assistant("b")}})
	if !errors.Is(err, chat.ErrPrefill) {
		t.Errorf("two trailing assistant messages: error %v", err)
	}
}

func TestRenderNamesWhatIsWrong(t *testing.T) {
	tpl := compile(t, `{% if messages[0].role == 'system' %}{{ raise_exception('no system, please') }}{% endif %}`)
	badCall := assistant("")
	badCall.ToolCalls = []chat.ToolCall{{Function: chat.FunctionCall{Name: "f", Arguments: json.RawMessage(`{`)}}}
	for want, in := range map[string]chat.Input{
		"at least one message":                   {},
		"message 1: the role is missing":         {Messages: []chat.Message{user("x"), {}}},
		"message 0: tool call 0: arguments of f": {Messages: []chat.Message{badCall}},
		"tools must be a list":                   {Messages: []chat.Message{user("x")}, Tools: json.RawMessage(`{}`)},
		"tool 0 must be an object":               {Messages: []chat.Message{user("x")}, Tools: json.RawMessage(`[1]`)},
		"tools: decode JSON":                     {Messages: []chat.Message{user("x")}, Tools: json.RawMessage(`[`)},
		"template variable v":                    {Messages: []chat.Message{user("x")}, Extra: map[string]json.RawMessage{"v": nil}},
		"no system, please":                      {Messages: []chat.Message{{Role: "system", Content: chat.Text("x")}}},
	} {
		if _, err := tpl.Render(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
	_, err := tpl.Render(chat.Input{Messages: []chat.Message{{Role: "system"}}})
	var e *jinja.Error
	if !errors.As(err, &e) || e.Kind != jinja.RaisedError || e.Message != "no system, please" {
		t.Errorf("the template's own error is lost: %v", err)
	}
	if _, err := chat.Compile("{% if %}"); err == nil {
		t.Error("a broken template compiles")
	}
}

func TestToolsThatAreNullOrEmptyAreUndefined(t *testing.T) {
	tpl := compile(t, `{{ tools is defined }}`)
	for _, tools := range []string{"", "null", "[]"} {
		got, err := tpl.Render(chat.Input{Messages: []chat.Message{user("x")}, Tools: json.RawMessage(tools)})
		if err != nil || got != "False" {
			t.Errorf("tools %q: %q, %v", tools, got, err)
		}
	}
}

func TestContentReadsStringsNullAndTextParts(t *testing.T) {
	for src, want := range map[string]chat.Content{
		`"a"`:  chat.Text("a"),
		`null`: {Null: true},
		`[{"type":"text","text":"a"},{"type":"text","text":""}]`: {Parts: []string{"a", ""}},
		`[]`: {},
	} {
		var got chat.Content
		if err := json.Unmarshal([]byte(src), &got); err != nil {
			t.Errorf("%s: %v", src, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", src, diff)
		}
		back, err := json.Marshal(got)
		if err != nil || (string(back) == "null") != want.Null {
			t.Errorf("%s is written as %s, %v", src, back, err)
		}
	}
	for _, src := range []string{`5`, `{}`, `[1]`, `[{"type":"text"}]`, `[{"type":"image_url","text":"a"}]`} {
		var got chat.Content
		if err := json.Unmarshal([]byte(src), &got); err == nil {
			t.Errorf("%s was accepted", src)
		}
	}
	var image chat.Content
	if err := json.Unmarshal([]byte(`[{"type":"image_url"}]`), &image); !errors.Is(err, chat.ErrContentPart) {
		t.Errorf("image part: error %v", err)
	}
}

func TestModelWithoutTemplateGetsChatMLOrAnError(t *testing.T) {
	yes := func(s string) bool { return s == "<|im_start|>" }
	no := func(string) bool { return false }
	tpl, err := chat.ForModel(" \n", yes)
	if err != nil || !tpl.Fallback() || tpl.Source() != chat.ChatML {
		t.Errorf("fallback: %v, %v", tpl, err)
	}
	if _, err := chat.ForModel("", no); !errors.Is(err, chat.ErrNoTemplate) || !strings.Contains(err.Error(), "--raw") {
		t.Errorf("no template, no marker: %v", err)
	}
	own, err := chat.ForModel("{{ messages[0].content }}", no)
	if err != nil || own.Fallback() {
		t.Errorf("own template: %v", err)
	}
}

func TestCapabilitiesAreThoseOfTheTemplate(t *testing.T) {
	qwen := compile(t, readRecorded(t, "chat_qwen.json").ChatTemplate)
	if got, want := qwen.Capabilities(), (chat.Capabilities{Tools: true, ToolCalls: true, System: true}); got != want {
		t.Errorf("qwen: %+v", got)
	}
	smol := compile(t, readRecorded(t, "chat_smollm2.json").ChatTemplate)
	if got, want := smol.Capabilities(), (chat.Capabilities{System: true}); got != want {
		t.Errorf("smollm2: %+v", got)
	}
	if got := compile(t, "{{ messages[-1].content }}").Capabilities(); got != (chat.Capabilities{}) {
		t.Errorf("a template that shows the last message only: %+v", got)
	}
}

func FuzzMessagesFromJSON(f *testing.F) {
	f.Add([]byte(`[{"role":"user","content":"x"}]`))
	f.Add([]byte(`[{"role":"assistant","content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{\"a\":1}"}}]}]`))
	f.Add([]byte(`[{"role":"user","content":[{"type":"text","text":"a"}]}]`))
	tpl, err := chat.Compile(chat.ChatML + "{{ messages | tojson }}")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var messages []chat.Message
		if json.Unmarshal(data, &messages) != nil {
			return
		}
		in := chat.Input{Messages: messages, AddGenerationPrompt: true}
		first, err := tpl.Render(in)
		again, err2 := tpl.Render(in)
		if first != again || (err == nil) != (err2 == nil) {
			t.Errorf("two renders differ: %q (%v), %q (%v)", first, err, again, err2)
		}
	})
}
