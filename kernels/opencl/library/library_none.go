//go:build static || !(windows || ((linux || darwin) && (amd64 || arm64)))

package library

// Loads says whether this build can open libraries.
const Loads = false

func open(string) (uintptr, error) { return 0, ErrNone }

func symbol(uintptr, string) (uintptr, error) { return 0, ErrNone }

// Call is never reached: there is no symbol to call.
func Call(uintptr, ...uintptr) uintptr { panic(ErrNone) }

// CallSlice is never reached either.
func CallSlice(uintptr, []uintptr) uintptr { panic(ErrNone) }
