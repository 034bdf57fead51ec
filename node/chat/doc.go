// Package chat turns a conversation into the prompt text a model was trained on, by
// rendering the model's own chat template.
//
// It never tokenises, never talks to anybody and knows no model family: what a
// prompt looks like is the template's business, and node/chat/jinja runs it. A
// template comes from a model file and is therefore foreign input; see the limits
// of that package.
//
// Start reading at ForModel (which template a model gets) and Template.Render. The
// rules around the template, namely the reply that continues a trailing assistant
// message, parts of content joined by newlines and tool-call arguments turned into
// objects, are those of llama-server's OpenAI surface.
package chat
