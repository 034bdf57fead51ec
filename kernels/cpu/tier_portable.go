//go:build (!amd64 && !arm64) || noasm

package cpu

import "runtime"

// machineSets is empty: this build has portable Go alone.
func machineSets(func(tier string) bool) []*kernelSet { return nil }

// relax passes a moment of a spin loop.
func relax() { runtime.Gosched() }
