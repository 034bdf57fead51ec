package jinja

import (
	"errors"
	"fmt"
)

// Kind sorts the ways a template can fail.
type Kind int

// Kinds of errors.
const (
	SyntaxError    Kind = iota // the template does not parse
	UndefinedError             // something missing was used
	TypeError                  // an operation does not exist for these types
	ValueError                 // a value is out of an operation's domain
	LimitError                 // the template went past one of Limits
	RaisedError                // the template called raise_exception
)

var kindNames = [...]string{"syntax error", "undefined value", "type error", "value error", "limit", "raised by the template"}

func (k Kind) String() string { return kindNames[k] }

// Error is every error that Compile and Render return. For RaisedError, Message is
// what the template's author wrote for the caller to read.
type Error struct {
	Kind    Kind
	Line    int // 1-based line of the template, 0 when there is none
	Message string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("chat template: %s: %s", e.Kind, e.Message)
	}
	return fmt.Sprintf("chat template line %d: %s: %s", e.Line, e.Kind, e.Message)
}

func typeErrorf(format string, args ...any) error {
	return &Error{Kind: TypeError, Message: fmt.Sprintf(format, args...)}
}

func valueErrorf(format string, args ...any) error {
	return &Error{Kind: ValueError, Message: fmt.Sprintf(format, args...)}
}

func limitErrorf(format string, args ...any) error {
	return &Error{Kind: LimitError, Message: fmt.Sprintf(format, args...)}
}

func syntaxErrorf(line int, format string, args ...any) error {
	return &Error{Kind: SyntaxError, Line: line, Message: fmt.Sprintf(format, args...)}
}

// at gives an error its line unless a deeper node did already.
func at(line int, err error) error {
	var e *Error
	if errors.As(err, &e) && e.Line == 0 {
		e.Line = line
	}
	return err
}
