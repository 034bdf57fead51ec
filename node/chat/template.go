package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weft-mesh/weft/node/chat/jinja"
)

// Template is a compiled chat template. It never changes; renders may run at once.
type Template struct {
	tpl      *jinja.Template
	source   string
	fallback bool
	caps     Capabilities
}

// Input is what a prompt is made of.
type Input struct {
	Messages []Message
	// Tools is a JSON list of tool descriptions, kept in the order it is written;
	// empty or null for none.
	Tools json.RawMessage
	// AddGenerationPrompt ends the prompt where the assistant's reply begins. A
	// conversation that ends with an assistant message is continued inside that
	// message, whatever this says.
	AddGenerationPrompt bool
	// BOSToken and EOSToken are the vocabulary's texts for the two, "" for none.
	BOSToken, EOSToken string
	// Extra are further template variables, such as enable_thinking, as JSON.
	Extra map[string]json.RawMessage
	// Now is the clock of templates that print the date; nil makes those fail.
	Now func() time.Time
}

// Errors about the conversation rather than the template.
var (
	ErrNoMessages = errors.New("a chat needs at least one message")
	ErrPrefill    = errors.New("a chat may end with at most one assistant message")
)

// Compile parses a template. The error is a *jinja.Error that has the line.
func Compile(src string) (*Template, error) {
	tpl, err := jinja.Compile(src)
	if err != nil {
		return nil, err
	}
	t := &Template{tpl: tpl, source: src}
	t.caps = t.probe()
	return t, nil
}

// Source returns the template's text.
func (t *Template) Source() string { return t.source }

// Fallback reports whether the model had no template and this is the default one.
func (t *Template) Fallback() bool { return t.fallback }

// Render makes the prompt of a conversation. Errors name the message at fault or are
// a *jinja.Error; one of kind jinja.RaisedError carries the template's own words
// about the conversation. Render does not block and keeps nothing of in.
func (t *Template) Render(in Input) (string, error) {
	if len(in.Messages) == 0 {
		return "", ErrNoMessages
	}
	prefill, rest, isPrefill := splitPrefill(in.Messages)
	if isPrefill {
		if n := len(rest); n > 0 && rest[n-1].Role == "assistant" && len(rest[n-1].ToolCalls) == 0 {
			return "", ErrPrefill
		}
		in.Messages, in.AddGenerationPrompt = rest, true
	}
	vars, err := in.variables()
	if err != nil {
		return "", err
	}
	prompt, err := t.tpl.Render(vars, jinja.Options{Now: in.Now})
	if err != nil {
		return "", err
	}
	return prompt + prefill, nil
}

// splitPrefill takes a trailing assistant message off: the reply continues it. A
// message with tool calls is complete, so it stays.
func splitPrefill(all []Message) (prefill string, rest []Message, ok bool) {
	last := &all[len(all)-1]
	if last.Role != "assistant" || len(last.ToolCalls) > 0 {
		return "", all, false
	}
	return last.Content.String(), all[:len(all)-1], true
}

func (in *Input) variables() (map[string]jinja.Value, error) {
	messages := jinja.NewList()
	for i := range in.Messages {
		v, err := in.Messages[i].value()
		if err != nil {
			return nil, fmt.Errorf("message %d: %w", i, err)
		}
		messages.Items = append(messages.Items, v)
	}
	vars := map[string]jinja.Value{}
	for name, raw := range in.Extra {
		v, err := jinja.FromJSON(raw)
		if err != nil {
			return nil, fmt.Errorf("template variable %s: %w", name, err)
		}
		vars[name] = v
	}
	tools, err := in.tools()
	if err != nil {
		return nil, err
	}
	if tools != nil {
		vars["tools"] = tools
	}
	vars["messages"] = messages
	vars["add_generation_prompt"] = in.AddGenerationPrompt
	vars["bos_token"] = in.BOSToken
	vars["eos_token"] = in.EOSToken
	return vars, nil
}

func (in *Input) tools() (jinja.Value, error) {
	if len(in.Tools) == 0 {
		return nil, nil
	}
	v, err := jinja.FromJSON(in.Tools)
	if err != nil {
		return nil, fmt.Errorf("tools: %w", err)
	}
	list, ok := v.(*jinja.List)
	switch {
	case v == nil:
		return nil, nil
	case !ok:
		return nil, errors.New("tools must be a list of tool descriptions")
	case len(list.Items) == 0:
		return nil, nil
	}
	for i, tool := range list.Items {
		if _, ok := tool.(*jinja.Dict); !ok {
			return nil, fmt.Errorf("tool %d must be an object", i)
		}
	}
	return list, nil
}

// Capabilities say what a template does with parts of a conversation. They are found
// by rendering small conversations and looking for what went in.
type Capabilities struct {
	Tools     bool // descriptions of tools reach the prompt
	ToolCalls bool // calls and their results reach the prompt
	System    bool // a system message reaches the prompt
}

// Capabilities returns what the template supports.
func (t *Template) Capabilities() Capabilities { return t.caps }

func (t *Template) probe() Capabilities {
	const mark = "weftmark"
	shows := func(in Input) bool {
		in.AddGenerationPrompt = true
		in.Now = func() time.Time { return time.Unix(0, 0).UTC() }
		out, err := t.Render(in)
		return err == nil && strings.Contains(out, mark)
	}
	user := Message{Role: "user", Content: Text("hi")}
	call := Message{Role: "assistant", Content: Text(""), ToolCalls: []ToolCall{{
		ID: "call00001", Function: FunctionCall{Name: mark, Arguments: json.RawMessage(`{"a":1}`)},
	}}}
	answer := Message{Role: "tool", Content: Text("ok"), Name: "f", ToolCallID: "call00001"}
	tools := json.RawMessage(`[{"type":"function","function":{"name":"` + mark +
		`","description":"d","parameters":{"type":"object","properties":{}}}}]`)
	return Capabilities{
		Tools:     shows(Input{Messages: []Message{user}, Tools: tools}),
		ToolCalls: shows(Input{Messages: []Message{user, call, answer}}),
		System:    shows(Input{Messages: []Message{{Role: "system", Content: Text(mark)}, user}}),
	}
}
