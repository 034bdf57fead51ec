package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/weft-mesh/weft/node/chat/jinja"
)

// Message is one turn of a conversation, in the shape of the OpenAI API.
type Message struct {
	Role    string  `json:"role"`
	Content Content `json:"content"`
	// Name is the optional name of who speaks, or of the tool that answers.
	Name string `json:"name,omitempty"`
	// ToolCalls are the calls an assistant message makes.
	ToolCalls []ToolCall `json:"tool_calls,omitempty"`
	// ToolCallID is the call that a message of role "tool" answers.
	ToolCallID string `json:"tool_call_id,omitempty"`
	// ReasoningContent is what the model thought before its answer; templates of
	// thinking models decide whether to show it again.
	ReasoningContent string `json:"reasoning_content,omitempty"`
}

// Content is the text of a message: null, one text or a list of text parts.
type Content struct {
	// Null says that the content was null or absent, which some templates treat
	// unlike an empty text.
	Null bool
	// Parts are the texts; a plain string is one part.
	Parts []string
}

// Text makes the content of a plain string.
func Text(s string) Content { return Content{Parts: []string{s}} }

// String joins the parts with newlines.
func (c Content) String() string { return strings.Join(c.Parts, "\n") }

// MarshalJSON writes null or the joined text.
func (c Content) MarshalJSON() ([]byte, error) {
	if c.Null {
		return []byte("null"), nil
	}
	return json.Marshal(c.String())
}

// ErrContentPart is wrapped by the error about a content part that is not text.
var ErrContentPart = errors.New("only text content is supported")

// UnmarshalJSON reads null, a string, or a list of parts {"type":"text","text":…}.
func (c *Content) UnmarshalJSON(data []byte) error {
	*c = Content{}
	if string(data) == "null" {
		c.Null = true
		return nil
	}
	var text string
	if err := json.Unmarshal(data, &text); err == nil {
		c.Parts = []string{text}
		return nil
	}
	var parts []struct {
		Type string  `json:"type"`
		Text *string `json:"text"`
	}
	if err := json.Unmarshal(data, &parts); err != nil {
		return errors.New("message content must be a string, null or a list of text parts")
	}
	for i, p := range parts {
		if p.Type != "text" || p.Text == nil {
			return fmt.Errorf("message content part %d has the type %q: %w", i, p.Type, ErrContentPart)
		}
		c.Parts = append(c.Parts, *p.Text)
	}
	return nil
}

// ToolCall is a function call that the assistant asked for.
type ToolCall struct {
	ID       string       `json:"id,omitempty"`
	Type     string       `json:"type,omitempty"` // "function" when empty
	Function FunctionCall `json:"function"`
}

// FunctionCall names a function and its arguments. Arguments is JSON text: an object,
// or, as the OpenAI API sends it, a string that holds one.
type FunctionCall struct {
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
}

// value is the message as templates see it. Absent fields are undefined there.
func (m *Message) value() (jinja.Value, error) {
	if m.Role == "" {
		return nil, errors.New("the role is missing")
	}
	d := jinja.NewDict()
	d.SetString("role", m.Role)
	if m.Content.Null {
		d.SetString("content", nil)
	} else {
		d.SetString("content", m.Content.String())
	}
	for _, field := range []struct{ name, text string }{
		{"name", m.Name}, {"tool_call_id", m.ToolCallID}, {"reasoning_content", m.ReasoningContent},
	} {
		if field.text != "" {
			d.SetString(field.name, field.text)
		}
	}
	if len(m.ToolCalls) > 0 {
		calls := jinja.NewList()
		for i := range m.ToolCalls {
			call, err := m.ToolCalls[i].value()
			if err != nil {
				return nil, fmt.Errorf("tool call %d: %w", i, err)
			}
			calls.Items = append(calls.Items, call)
		}
		d.SetString("tool_calls", calls)
	}
	return d, nil
}

func (c *ToolCall) value() (jinja.Value, error) {
	args, err := c.Function.arguments()
	if err != nil {
		return nil, err
	}
	function := jinja.NewDict()
	function.SetString("name", c.Function.Name)
	function.SetString("arguments", args)
	kind := c.Type
	if kind == "" {
		kind = "function"
	}
	d := jinja.NewDict()
	d.SetString("type", kind)
	d.SetString("function", function)
	if c.ID != "" {
		d.SetString("id", c.ID)
	}
	return d, nil
}

// arguments gives templates an object where the text holds one, and the text itself
// where a model produced something that is no JSON.
func (f *FunctionCall) arguments() (jinja.Value, error) {
	if len(f.Arguments) == 0 {
		return jinja.NewDict(), nil
	}
	v, err := jinja.FromJSON(f.Arguments)
	if err != nil {
		return nil, fmt.Errorf("arguments of %s: %w", f.Name, err)
	}
	text, ok := v.(string)
	if !ok {
		return v, nil
	}
	if strings.TrimSpace(text) == "" {
		return jinja.NewDict(), nil
	}
	if inner, err := jinja.FromJSON([]byte(text)); err == nil {
		return inner, nil
	}
	return text, nil
}
