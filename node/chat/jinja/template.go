package jinja

import (
	"maps"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxSource is the longest template in bytes that Compile accepts.
const MaxSource = 1 << 20

// Limits bound what one Render may do. A zero field means its default.
type Limits struct {
	// Output is the most bytes of text that may be written, captured text
	// included. Default 16 MiB.
	Output int
	// Text is the most bytes one string may grow to. Default 8 MiB.
	Text int
	// Steps is the most work: roughly one step for each node evaluated, each item
	// visited and each 64 bytes of text made. Default 5 million, some tenths of a
	// second at worst.
	Steps int
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		field *int
		value int
	}{{&l.Output, 16 << 20}, {&l.Text, 8 << 20}, {&l.Steps, 5_000_000}} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
	return l
}

// Template is a compiled template. It never changes, so it may be rendered from
// many goroutines at once.
type Template struct {
	body []stmt
}

// Compile parses a template. The error is an *Error with the line.
func Compile(src string) (*Template, error) {
	if len(src) > MaxSource {
		return nil, limitErrorf("the template has %d bytes, more than the %d allowed", len(src), MaxSource)
	}
	if !utf8.ValidString(src) {
		return nil, syntaxErrorf(0, "the template is not valid UTF-8")
	}
	toks, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := &parser{toks: toks}
	body, err := p.statements()
	if err != nil {
		return nil, err
	}
	return &Template{body: body}, nil
}

// Options are what a render needs beside its variables.
type Options struct {
	// Now is the clock of strftime_now; nil makes strftime_now an error.
	Now    func() time.Time
	Limits Limits
}

// Render runs the template with the given variables and returns its text. Lists and
// dicts among the variables belong to the render: a template may change them. The
// error is an *Error. Render does not block and is safe for concurrent use.
func (t *Template) Render(vars map[string]Value, opts Options) (string, error) {
	rt := &run{limits: opts.Limits.withDefaults(), now: opts.Now}
	rt.steps = rt.limits.Steps
	globals := &scope{vars: maps.Clone(builtinGlobals)}
	for name, v := range vars {
		if !isValue(v) {
			return "", typeErrorf("variable %s has the Go type %T, which is no template value", name, v)
		}
		globals.set(name, v)
	}
	top := &scope{parent: globals}
	out := new(strings.Builder)
	rt.out = out
	if err := rt.exec(t.body, top); err != nil {
		return "", err
	}
	return out.String(), nil
}

// run is the state of one render.
type run struct {
	limits  Limits
	steps   int
	written int
	depth   int
	out     *strings.Builder
	now     func() time.Time
}

// charge takes n steps off the budget, and one for the call itself.
func (rt *run) charge(n int) error {
	if rt.steps -= n + 1; rt.steps < 0 {
		rt.steps = 0
		return limitErrorf("the template does more than %d steps of work", rt.limits.Steps)
	}
	return nil
}

// scan charges for reading v from end to end, if it is a text.
func (rt *run) scan(v Value) error {
	if s, ok := v.(string); ok && len(s) >= 64 {
		return rt.charge(len(s) / 64)
	}
	return nil
}

// text admits a string of n bytes before it is built.
func (rt *run) text(n int) error {
	if n < 0 || n > rt.limits.Text {
		return limitErrorf("a text grows past %d bytes", rt.limits.Text)
	}
	return rt.charge(n / 64)
}

// maxItems bounds the length of one list; the step budget bounds their sum.
const maxItems = 1 << 20

// made admits a list of n items before it is built.
func (rt *run) made(n int) error {
	if n < 0 || n > maxItems {
		return limitErrorf("a list grows past %d items", maxItems)
	}
	return rt.charge(n)
}

func (rt *run) enter() error {
	if rt.depth++; rt.depth > maxDepth {
		return limitErrorf("the template recurses deeper than %d levels", maxDepth)
	}
	return rt.charge(0)
}

func (rt *run) leave() { rt.depth-- }

func (rt *run) write(s string) error {
	if rt.written += len(s); rt.written > rt.limits.Output {
		return limitErrorf("the output grows past %d bytes", rt.limits.Output)
	}
	rt.out.WriteString(s)
	return rt.charge(len(s) / 64)
}

// capture runs f and returns what it wrote.
func (rt *run) capture(f func() error) (string, error) {
	outer := rt.out
	inner := new(strings.Builder)
	rt.out = inner
	err := f()
	rt.out = outer
	return inner.String(), err
}

// scope is a level of variables. Lookups go outwards, assignments stay.
type scope struct {
	vars   map[string]Value
	parent *scope
}

func (s *scope) set(name string, v Value) {
	if s.vars == nil {
		s.vars = map[string]Value{}
	}
	s.vars[name] = v
}

func (s *scope) lookup(name string) (Value, bool) {
	for ; s != nil; s = s.parent {
		if v, ok := s.vars[name]; ok {
			return v, true
		}
	}
	return nil, false
}
