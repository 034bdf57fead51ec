//go:build !linux

package netlab

import (
	"errors"
	"runtime"
)

// Available says why there can be no lab here: only Linux has what it takes.
func Available() error {
	return errors.New("a network lab needs Linux, this is " + runtime.GOOS)
}
