// Command _asm writes the assembly of package cpu, and the Go stubs that
// declare it. Run it by `go generate` in package cpu.
//
// Every kernel's name ends in its instruction set: _amx (matrix tiles, and
// AVX-512), _avx512vnni (AVX-512 F, BW, DQ, VL, VNNI), _avxvnni (AVX-VNNI, AVX2,
// FMA, F16C) or _avx2 (AVX2, FMA, F16C). Start at matmul512.go, the matrix
// product, which has the shape of the others: a chain of operations per output
// in the order of package kernels' contract, one vector lane per output.
// Those of arm64, _neon (ASIMD) and _neondot (with SDOT), have an emitter of
// their own: start at neonemit.go.
package main

import (
	"flag"
	"fmt"
	"os"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// parts are the files that the assembly is written to.
var parts = map[string]func(){
	"products512": func() {
		matmul512()
		floatMatmul512()
	},
	"products2": func() {
		matmul2(isaAVX2)
		floatMatmul2()
	},
	"products_vnni": func() { matmul2(isaAVXVNNI) },
	"products_amx": func() {
		unpackers()
		matrixProducts()
	},
	"rows": func() {
		pause()
		quantise512()
		quantise16(avx512)
		elementwise(avx512)
		attention(avx512)
		scans(avx512)
		rotate(avx512)
		quantise2()
		quantise16(avx2)
		elementwise(avx2)
		attention(avx2)
		scans(avx2)
		rotate(avx2)
	},
}

// encoders put down in bytes what Go's assembler does not know of a part.
var encoders = map[string]func() error{"products_vnni": encodeVEX, "products_amx": encodeTiles}

func main() {
	part := flag.String("part", "", "which part to write: products512, products2, products_vnni, products_amx, rows, products_neon or rows_neon")
	flag.Parse()
	if armParts[*part] != nil {
		if err := writeArm(*part); err != nil {
			fmt.Fprintf(os.Stderr, "_asm: %v\n", err)
			os.Exit(1)
		}
		return
	}
	emit, ok := parts[*part]
	if !ok {
		fmt.Fprintf(os.Stderr, "_asm: no part %q\n", *part)
		os.Exit(2)
	}
	ConstraintExpr("amd64,!noasm")
	emit()
	Generate()
	if encode := encoders[*part]; encode != nil {
		if err := encode(); err != nil {
			fmt.Fprintf(os.Stderr, "_asm: %v\n", err)
			os.Exit(1)
		}
	}
}

// Bit patterns of the contract's limits.
const (
	absMask   = 0x7fffffff
	tiny      = 0x2b800000 // 2^-40: smaller elements count as +0
	notFinite = 0x7f800000 // the least pattern that is not finite
	// halfOverflow is 65520, from which on a number rounds to an infinite half.
	halfOverflow = 0x477ff000
)

// Comparison predicates of VPCMPUD and VCMPPS.
const (
	cmpLess         = 1
	cmpGreaterEqual = 5 // VPCMPUD: not less
	cmpOrderedGE    = 0x1d
)

// constant512 broadcasts 32 bits to a vector.
func constant512(bits uint32) VecVirtual {
	r, z := GP32(), ZMM()
	MOVL(U32(bits), r)
	VPBROADCASTD(r, z)
	return z
}

// floor512 stores the contract's F on each lane of v.
type floor512 struct{ abs, least VecVirtual }

func newFloor512() floor512 { return floor512{constant512(absMask), constant512(tiny)} }

func (f floor512) apply(v VecVirtual) {
	t, k := ZMM(), K()
	VPANDD(f.abs, v, t)
	VPCMPUD(Imm(cmpGreaterEqual), f.least, t, k)
	VMOVAPS_Z(v, k, v)
}

// pause passes a moment of a spin loop.
func pause() {
	TEXT("pause", NOSPLIT, "func()")
	Doc("pause passes a moment of a spin loop.")
	for range 4 {
		PAUSE()
	}
	RET()
}
