//go:build !linux

package cpu

import "runtime"

// yield lets other goroutines run. Other threads of the machine get their turn
// when the system says.
func yield() { runtime.Gosched() }
