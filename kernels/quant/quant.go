// Package quant knows GGML's tensor formats: their block sizes, their exact
// meaning (Decode), and the packed form of the same numbers that kernels read.
//
// A packed matrix is an invertible permutation of the GGUF bytes: groups of 16
// rows, a plane of quants and a plane of scales (layout.go describes both).
// Pack makes it, Unpack gives the GGUF bytes back, View reads one from mapped
// memory. Row gives weights as the arithmetic contract sees them: integers, a
// scale and a minimum a sub-block.
//
// It never quantises: no format is written but from its own bytes. It opens no
// files and starts no goroutines; callers split Pack and Unpack by groups.
//
// Start at Type and Info, then Packed.
package quant

import (
	"errors"
	"fmt"
	"strings"
)

// Type is a GGML tensor type, numbered as in GGUF files.
type Type uint32

// The types that weft reads.
const (
	F32    Type = 0
	F16    Type = 1
	Q4_0   Type = 2
	Q4_1   Type = 3
	Q5_0   Type = 6
	Q5_1   Type = 7
	Q8_0   Type = 8
	Q2_K   Type = 10
	Q3_K   Type = 11
	Q4_K   Type = 12
	Q5_K   Type = 13
	Q6_K   Type = 14
	IQ4_NL Type = 20
	IQ4_XS Type = 23
	BF16   Type = 30
	MXFP4  Type = 39
)

// ErrType marks errors about a tensor type that weft does not read.
var ErrType = errors.New("unsupported tensor type")

// ErrShape marks errors about shapes and sizes that do not fit a type.
var ErrShape = errors.New("tensor shape does not fit its type")

// ErrValue marks errors about weights that the arithmetic contract refuses.
var ErrValue = errors.New("tensor holds a value that is not finite")

// MaxDim is the largest number of rows or columns of a matrix.
const MaxDim = 1 << 30

// Info describes a type.
type Info struct {
	Name       string
	BlockElems int // elements of a GGUF block
	BlockBytes int // bytes of a GGUF block
	SubBlock   int // elements that share a scale: 32 or 16; 0 for float types
	Minimum    bool
}

var infos = map[Type]Info{
	F32:    {"F32", 1, 4, 0, false},
	F16:    {"F16", 1, 2, 0, false},
	BF16:   {"BF16", 1, 2, 0, false},
	Q4_0:   {"Q4_0", 32, 18, 32, false},
	Q4_1:   {"Q4_1", 32, 20, 32, true},
	Q5_0:   {"Q5_0", 32, 22, 32, false},
	Q5_1:   {"Q5_1", 32, 24, 32, true},
	Q8_0:   {"Q8_0", 32, 34, 32, false},
	Q2_K:   {"Q2_K", 256, 84, 16, true},
	Q3_K:   {"Q3_K", 256, 110, 16, false},
	Q4_K:   {"Q4_K", 256, 144, 32, true},
	Q5_K:   {"Q5_K", 256, 176, 32, true},
	Q6_K:   {"Q6_K", 256, 210, 16, false},
	IQ4_NL: {"IQ4_NL", 32, 18, 32, false},
	IQ4_XS: {"IQ4_XS", 256, 136, 32, false},
	MXFP4:  {"MXFP4", 32, 17, 32, false},
}

// Types lists the types that weft reads, in order of their numbers.
func Types() []Type {
	return []Type{F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, BF16, MXFP4}
}

// foreign names types that GGML has or had and weft does not read, for errors.
var foreign = map[Type]string{
	4: "Q4_2", 5: "Q4_3", 9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
	21: "IQ3_S", 22: "IQ2_S", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M",
	31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 34: "TQ1_0", 35: "TQ2_0",
}

// String is GGML's name of the type, or "type N".
func (t Type) String() string {
	if i, ok := infos[t]; ok {
		return i.Name
	}
	if n, ok := foreign[t]; ok {
		return n
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// Supported reports whether weft reads t.
func (t Type) Supported() bool { _, ok := infos[t]; return ok }

// Float reports whether t stores plain floating point numbers.
func (t Type) Float() bool { return t == F32 || t == F16 || t == BF16 }

// Info describes t. The error, an ErrType, names an unsupported type and lists
// the others.
func (t Type) Info() (Info, error) {
	if i, ok := infos[t]; ok {
		return i, nil
	}
	names := make([]string, 0, len(infos))
	for _, s := range Types() {
		names = append(names, s.String())
	}
	return Info{}, fmt.Errorf("%w: %s; weft reads %s", ErrType, t, strings.Join(names, " "))
}

// RowBytes is the number of GGUF bytes of a row of cols elements.
func (t Type) RowBytes(cols int) (int64, error) {
	i, err := t.Info()
	if err != nil {
		return 0, err
	}
	if cols <= 0 || cols > MaxDim || cols%i.BlockElems != 0 {
		return 0, fmt.Errorf("%w: rows of %d elements; %s wants a multiple of %d, at most %d", ErrShape, cols, t, i.BlockElems, MaxDim)
	}
	return int64(cols/i.BlockElems) * int64(i.BlockBytes), nil
}

// Bytes is the number of GGUF bytes of a rows by cols matrix.
func (t Type) Bytes(rows, cols int) (int64, error) {
	n, err := t.RowBytes(cols)
	if err != nil {
		return 0, err
	}
	if rows <= 0 || rows > MaxDim {
		return 0, fmt.Errorf("%w: %d rows; want 1 to %d", ErrShape, rows, MaxDim)
	}
	return n * int64(rows), nil
}
