package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/weft-mesh/weft/node/chat"
)

// Bounds of what one request may ask.
const (
	maxChoices  = 16
	maxMessages = 8192
	maxPrompts  = 16
	maxStops    = 16
	maxStopLen  = 1024 // bytes
	maxBias     = 1024
	maxTop      = 20 // alternatives to a token
)

// fields reads a request's JSON object field by field, so that an error names
// the field. The first error stays; later reads give nothing. null counts as
// absent, and fields that nobody reads are ignored.
type fields struct {
	m   map[string]json.RawMessage
	err *Error
}

func readFields(body []byte) *fields {
	f := &fields{}
	if !utf8.Valid(body) {
		f.err = Errorf(KindInvalid, "the request is not UTF-8")
		return f
	}
	if err := json.Unmarshal(body, &f.m); err != nil {
		var typ *json.UnmarshalTypeError
		if errors.As(err, &typ) {
			f.err = Errorf(KindInvalid, "the request must be a JSON object, not %s", typ.Value)
		} else {
			f.err = Errorf(KindInvalid, "the request is not JSON: %w", err)
		}
	}
	return f
}

// fail notes the first error.
func (f *fields) fail(param, format string, args ...any) {
	if f.err == nil {
		f.err = &Error{Kind: KindInvalid, Param: param, Message: fmt.Sprintf(format, args...)}
	}
}

// get gives a field's JSON; false when it is absent or an error came before.
func (f *fields) get(name string) (json.RawMessage, bool) {
	v, ok := f.m[name]
	if !ok || f.err != nil || bytes.Equal(v, []byte("null")) {
		return nil, false
	}
	return v, true
}

// kindOf names a JSON value's type in an error.
func kindOf(v json.RawMessage) string {
	switch v = bytes.TrimSpace(v); {
	case len(v) == 0:
		return "nothing"
	case v[0] == '{':
		return "an object"
	case v[0] == '[':
		return "a list"
	case v[0] == '"':
		return "a string"
	case v[0] == 't' || v[0] == 'f':
		return "a boolean"
	case v[0] == 'n':
		return "null"
	}
	return "the number " + string(v[:min(len(v), 40)])
}

func (f *fields) text(name string) string {
	var s string
	if v, ok := f.get(name); ok && json.Unmarshal(v, &s) != nil {
		f.fail(name, "%s must be a string, not %s", name, kindOf(v))
	}
	return s
}

func (f *fields) flag(name string) bool {
	var b bool
	if v, ok := f.get(name); ok && json.Unmarshal(v, &b) != nil {
		f.fail(name, "%s must be true or false, not %s", name, kindOf(v))
	}
	return b
}

// number gives nil when the field is absent.
func (f *fields) number(name string, low, high float64) *float64 {
	v, ok := f.get(name)
	if !ok {
		return nil
	}
	var x float64
	if json.Unmarshal(v, &x) != nil {
		f.fail(name, "%s must be a number, not %s", name, kindOf(v))
		return nil
	}
	if math.IsNaN(x) || x < low || x > high {
		f.fail(name, "%s is %v; it must be from %v to %v", name, x, low, high)
		return nil
	}
	return &x
}

func (f *fields) integer(name string, low, high int) *int {
	v, ok := f.get(name)
	if !ok {
		return nil
	}
	var x int
	if json.Unmarshal(v, &x) != nil {
		f.fail(name, "%s must be an integer, not %s", name, kindOf(v))
		return nil
	}
	if x < low || x > high {
		f.fail(name, "%s is %d; it must be from %d to %d", name, x, low, high)
		return nil
	}
	return &x
}

// seed takes any 64-bit integer, signed or not; -1 means a random one, as
// several programs write it.
func (f *fields) seed(name string) *uint64 {
	v, ok := f.get(name)
	if !ok {
		return nil
	}
	if i, err := strconv.ParseInt(string(v), 10, 64); err == nil {
		if i == -1 {
			return nil
		}
		u := uint64(i)
		return &u
	}
	if u, err := strconv.ParseUint(string(v), 10, 64); err == nil {
		return &u
	}
	f.fail(name, "%s must be an integer of 64 bits, not %s", name, kindOf(v))
	return nil
}

// texts takes a string or a list of strings.
func (f *fields) texts(name string, most int) []string {
	v, ok := f.get(name)
	if !ok {
		return nil
	}
	var one string
	if json.Unmarshal(v, &one) == nil {
		return []string{one}
	}
	var list []*string
	if json.Unmarshal(v, &list) != nil {
		f.fail(name, "%s must be a string or a list of strings", name)
		return nil
	}
	if len(list) > most {
		f.fail(name, "%s has %d entries; at most %d are possible", name, len(list), most)
		return nil
	}
	out := make([]string, 0, len(list))
	for i, s := range list {
		if s == nil {
			f.fail(name, "entry %d of %s must be a string, not null", i, name)
			return nil
		}
		out = append(out, *s)
	}
	return out
}

func (f *fields) stops() []string {
	list := f.texts("stop", maxStops)
	for _, s := range list {
		if s == "" || len(s) > maxStopLen {
			f.fail("stop", "a stop string has %d bytes; 1 to %d are possible", len(s), maxStopLen)
			return nil
		}
	}
	return list
}

func (f *fields) bias() map[int]float64 {
	v, ok := f.get("logit_bias")
	if !ok {
		return nil
	}
	var m map[string]float64
	if json.Unmarshal(v, &m) != nil {
		f.fail("logit_bias", "logit_bias must map token ids to numbers")
		return nil
	}
	if len(m) > maxBias {
		f.fail("logit_bias", "logit_bias has %d entries; at most %d are possible", len(m), maxBias)
		return nil
	}
	out := make(map[int]float64, len(m))
	for k, b := range m {
		id, err := strconv.ParseInt(k, 10, 32)
		if err != nil || id < 0 {
			f.fail("logit_bias", "logit_bias names the token %.40q; ids are numbers from 0", k)
			return nil
		}
		if math.Abs(b) > 100 {
			f.fail("logit_bias", "logit_bias of token %d is %v; it must be from -100 to 100", id, b)
			return nil
		}
		out[int(id)] = b
	}
	return out
}

// messages reads a conversation. The newer role developer is the older system.
func (f *fields) messages() []chat.Message {
	v, ok := f.get("messages")
	if !ok {
		f.fail("messages", "messages are missing")
		return nil
	}
	var raw []json.RawMessage
	if json.Unmarshal(v, &raw) != nil {
		f.fail("messages", "messages must be a list, not %s", kindOf(v))
		return nil
	}
	if len(raw) == 0 || len(raw) > maxMessages {
		f.fail("messages", "there are %d messages; 1 to %d are possible", len(raw), maxMessages)
		return nil
	}
	out := make([]chat.Message, len(raw))
	for i, r := range raw {
		name := fmt.Sprintf("messages[%d]", i)
		out[i].Content.Null = true // unless it is there
		if err := json.Unmarshal(r, &out[i]); err != nil {
			f.fail(name+jsonPath(err), "%s: %s", name, jsonReason(err, r))
			return nil
		}
		switch out[i].Role {
		case "developer":
			out[i].Role = "system"
		case "system", "user", "assistant", "tool", "function":
		default:
			f.fail(name+".role", "%s has the role %.40q; system, developer, user, assistant and tool are known", name, out[i].Role)
			return nil
		}
		if out[i].Content.Null && out[i].Role != "assistant" {
			f.fail(name+".content", "%s has no content", name)
			return nil
		}
	}
	return out
}

func jsonPath(err error) string {
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &typ) && typ.Field != "":
		return "." + typ.Field
	case errors.As(err, &typ):
		return ""
	}
	return ".content" // the one field that reads itself
}

func jsonReason(err error, v json.RawMessage) string {
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &typ) && typ.Field != "":
		return fmt.Sprintf("%s is a JSON %s, which does not fit", typ.Field, typ.Value)
	case errors.As(err, &typ):
		return "it must be an object, not " + kindOf(v)
	}
	return err.Error()
}

// prompts reads a completion's prompt: a text, texts, token ids or lists of
// them.
func (f *fields) prompts() []GenerateRequest {
	v, ok := f.get("prompt")
	if !ok {
		f.fail("prompt", "the prompt is missing")
		return nil
	}
	var one string
	if json.Unmarshal(v, &one) == nil {
		return []GenerateRequest{{Prompt: &one}}
	}
	if ids := tokenIDs(v); ids != nil {
		return []GenerateRequest{{Tokens: ids}}
	}
	var list []json.RawMessage
	if json.Unmarshal(v, &list) != nil || len(list) == 0 {
		f.fail("prompt", "the prompt must be a string, a list of strings, a list of token ids or a list of such lists")
		return nil
	}
	if len(list) > maxPrompts {
		f.fail("prompt", "there are %d prompts; at most %d are possible in one request", len(list), maxPrompts)
		return nil
	}
	out := make([]GenerateRequest, len(list))
	for i, p := range list {
		var text string
		ids := tokenIDs(p)
		switch {
		case bytes.Equal(p, []byte("null")):
			f.fail("prompt", "prompt %d is null", i)
		case json.Unmarshal(p, &text) == nil:
			out[i].Prompt = &text
		case ids != nil:
			out[i].Tokens = ids
		default:
			f.fail("prompt", "prompt %d must be a string or a list of token ids, not %s", i, kindOf(p))
		}
	}
	return out
}

// tokenIDs reads a list of at least one number; nil for anything else.
func tokenIDs(v json.RawMessage) []int32 {
	var list []*int32
	if json.Unmarshal(v, &list) != nil || len(list) == 0 {
		return nil
	}
	out := make([]int32, len(list))
	for i, id := range list {
		if id == nil {
			return nil
		}
		out[i] = *id
	}
	return out
}
