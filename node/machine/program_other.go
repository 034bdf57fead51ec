//go:build !linux

package machine

// returnProgram does nothing here: what of a program's file is resident is the
// system's affair.
func returnProgram() {}
