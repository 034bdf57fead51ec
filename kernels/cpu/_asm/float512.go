package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// segmentColumns is the number of columns of a chain.
const segmentColumns = 256

// floatMatmul512 emits the products of float weights with f32 activations.
func floatMatmul512() {
	for _, name := range []string{"f16", "bf16", "f32"} {
		for _, shape := range [][2]int{{2, 4}, {1, 4}, {2, 1}, {1, 1}} {
			floatMul(name, shape[0], shape[1])
		}
	}
}

func floatMul(name string, groups, tokens int) {
	TEXT(fmt.Sprintf("mul_%s_g%dt%d_avx512vnni", name, groups, tokens), attr.NOSPLIT, matmulSignature)
	Doc(fmt.Sprintf("Products of %d x 16 rows of %s with %d tokens; blocks counts columns; portable form: matmulTask.portableFloat.", groups, name, tokens))
	Pragma("noescape")
	q := groupPointers("q", "qStride", groups)
	x := loadTokens("x", "xStride", tokens)
	left, count := pointer("blocks"), GP64()
	totals := newTotals512(groups * tokens)
	var chain []VecVirtual
	for range groups * tokens {
		chain = append(chain, ZMM())
	}
	f := newFloor512()
	Label("segment")
	MOVQ(U32(segmentColumns), count)
	CMPQ(left, count)
	CMOVQLT(left, count)
	SUBQ(count, left)
	for _, v := range chain {
		VPXORD(v, v, v)
	}
	Label("column")
	for g := range groups {
		w, bytes := floatColumn(name, q[g], f)
		for t := range tokens {
			VFMADD231PS_BCST(x.at(t, 0), w, chain[g*tokens+t])
		}
		ADDQ(Imm(bytes), q[g])
	}
	x.advance(4, tokens)
	DECQ(count)
	JNZ(LabelRef("column"))
	totals.add(chain)
	TESTQ(left, left)
	JNZ(LabelRef("segment"))
	totals.store(groups, tokens, chain)
	VZEROUPPER()
	RET()
}

// floatColumn reads one column of a group through the floor. A half is never
// below it, but for -0, which changes no sum.
func floatColumn(name string, q GPVirtual, f floor512) (w VecVirtual, bytes uint64) {
	w = ZMM()
	switch name {
	case "f16":
		VCVTPH2PS(Mem{Base: q}, w)
		return w, 32
	case "bf16":
		VPMOVZXWD(Mem{Base: q}, w)
		VPSLLD(Imm(16), w, w)
		f.apply(w)
		return w, 32
	}
	VMOVUPS(Mem{Base: q}, w)
	f.apply(w)
	return w, 64
}
