package chat

import (
	"errors"
	"strings"
)

// ChatML is the template of models whose vocabulary has the ChatML markers but whose
// file brings no template.
const ChatML = `{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' + (message.content or '') + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}`

// ErrNoTemplate says that a model can complete text but not chat.
var ErrNoTemplate = errors.New("the model has no chat template and its vocabulary has no <|im_start|>; use --raw to prompt it without one")

// ForModel compiles a model's own template. A model without one gets ChatML if
// hasToken("<|im_start|>") says that its vocabulary has that token, and
// ErrNoTemplate otherwise.
func ForModel(source string, hasToken func(text string) bool) (*Template, error) {
	if strings.TrimSpace(source) != "" {
		return Compile(source)
	}
	if !hasToken("<|im_start|>") {
		return nil, ErrNoTemplate
	}
	t, err := Compile(ChatML)
	if err != nil {
		return nil, err
	}
	t.fallback = true
	return t, nil
}
