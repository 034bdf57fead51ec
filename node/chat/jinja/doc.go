// Package jinja is a sandboxed subset of the Jinja2 template language: the part
// that chat templates on the Hugging Face hub use, with the settings used there
// (trim_blocks, lstrip_blocks, loop controls, a plain tojson, raise_exception and
// strftime_now) and Python's semantics for values, printing and errors.
//
// It never touches files, the network, the environment or the wall clock: the
// clock is injected. Templates are foreign input, so source size, nesting, steps,
// text, ranges and output are all bounded, and a template that goes past a bound
// ends in an error, never in a hang or a panic. What a template could only reach
// with a loader (include, import, extends) does not exist.
//
// Start reading at Compile and Template.Render; lexer.go, the parse_*.go files and
// the eval_*.go files follow a template's way through the package, and value.go
// holds what it computes with.
package jinja
