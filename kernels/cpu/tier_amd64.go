//go:build amd64 && !noasm

package cpu

import "runtime"

func machineSets() []*kernelSet { return nil }

func relax() { runtime.Gosched() }
