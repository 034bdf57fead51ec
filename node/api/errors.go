package api

import (
	"errors"
	"fmt"
	"net/http"
)

// Kind sorts errors by what their reader can do about them.
type Kind string

// The kinds of errors.
const (
	KindInvalid     Kind = "invalid_request" // the request itself is wrong
	KindNotFound    Kind = "not_found"       // no such model, peer or path
	KindConflict    Kind = "conflict"        // a name clashes
	KindAuth        Kind = "unauthorized"    // no key, or a wrong one
	KindForbidden   Kind = "forbidden"       // this caller may not
	KindBusy        Kind = "busy"            // no room now: try again
	KindTooLarge    Kind = "context_length"  // the prompt does not fit the context
	KindNoCapacity  Kind = "no_capacity"     // no plan fits the mesh's memory
	KindStageLost   Kind = "stage_lost"      // a node died during the reply
	KindUnavailable Kind = "unavailable"     // not ready, or shutting down
	KindInternal    Kind = "internal"        // weft's own fault
)

// Error is an error with a kind; its message names the thing, the cause and
// what to do.
type Error struct {
	Kind    Kind   `json:"kind"`
	Message string `json:"message"`
	Param   string `json:"param,omitempty"` // the request field at fault
	Node    string `json:"node,omitempty"`  // the node at fault
	cause   error
}

// Errorf makes an error of a kind; %w keeps its cause.
func Errorf(k Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: k, Message: err.Error(), cause: errors.Unwrap(err)}
}

func (e *Error) Error() string { return e.Message }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.cause }

// AsError gives err as an *Error, of KindInternal when it is none.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Kind: KindInternal, Message: err.Error(), cause: err}
}

// HTTPStatus is the status that a client sees for the error.
func (e *Error) HTTPStatus() int {
	switch e.Kind {
	case KindInvalid, KindTooLarge:
		return http.StatusBadRequest
	case KindNotFound:
		return http.StatusNotFound
	case KindConflict:
		return http.StatusConflict
	case KindAuth:
		return http.StatusUnauthorized
	case KindForbidden:
		return http.StatusForbidden
	case KindBusy:
		return http.StatusTooManyRequests
	case KindNoCapacity, KindUnavailable:
		return http.StatusServiceUnavailable
	case KindStageLost:
		return http.StatusBadGateway
	default:
		return http.StatusInternalServerError
	}
}

// OpenAIType is the error's type in the OpenAI shape.
func (e *Error) OpenAIType() string {
	switch e.Kind {
	case KindInvalid, KindTooLarge, KindNotFound, KindConflict:
		return "invalid_request_error"
	case KindAuth:
		return "authentication_error"
	case KindForbidden:
		return "permission_error"
	case KindBusy:
		return "rate_limit_error"
	default:
		return "server_error"
	}
}
