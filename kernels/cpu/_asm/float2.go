package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// floatMatmul2 emits the products of float weights for AVX2. The 16 rows of a
// group are two vectors.
func floatMatmul2() {
	for _, name := range []string{"f16", "bf16", "f32"} {
		for _, tokens := range []int{4, 1} {
			floatMul2(name, tokens)
		}
	}
}

func floatMul2(name string, tokens int) {
	avx2.text(fmt.Sprintf("mul_%s_g1t%d", name, tokens), matmulSignature,
		fmt.Sprintf("Products of 16 rows of %s with %d tokens; blocks counts columns; portable form: matmulTask.portableFloat.", name, tokens))
	q, x := pointer("q"), loadTokens("x", "xStride", tokens)
	left, count := pointer("blocks"), GP64()
	totals := AllocLocal(32 * 2 * tokens)
	var chain []VecVirtual // by token, then half of the rows
	for i := range 2 * tokens {
		chain = append(chain, avx2.zero())
		VMOVUPS(chain[i], totals.Offset(32*i))
	}
	Label("segment")
	MOVQ(U32(segmentColumns), count)
	CMPQ(left, count)
	CMOVQLT(left, count)
	SUBQ(count, left)
	for _, v := range chain {
		VPXOR(v, v, v)
	}
	Label("column")
	lo, size := floatHalf2(name, q, 0)
	hi, _ := floatHalf2(name, q, 1)
	for t := range tokens {
		b := YMM()
		VBROADCASTSS(x.at(t, 0), b)
		VFMADD231PS(b, lo, chain[2*t])
		VFMADD231PS(b, hi, chain[2*t+1])
	}
	ADDQ(Imm(uint64(2*size)), q)
	x.advance(4, tokens)
	DECQ(count)
	JNZ(LabelRef("column"))
	for i, v := range chain {
		VADDPS(totals.Offset(32*i), v, v)
		VMOVUPS(v, totals.Offset(32*i))
	}
	TESTQ(left, left)
	JNZ(LabelRef("segment"))
	storeFloats2(chain, tokens)
	VZEROUPPER()
	RET()
}

// floatHalf2 reads 8 rows of a column through the floor.
func floatHalf2(name string, q GPVirtual, half int) (w VecVirtual, size int) {
	w = YMM()
	switch name {
	case "f16":
		VCVTPH2PS(Mem{Base: q, Disp: 16 * half}, w)
		return w, 16
	case "bf16":
		VPMOVZXWD(Mem{Base: q, Disp: 16 * half}, w)
		VPSLLD(Imm(16), w, w)
		avx2.floor()(w)
		return w, 16
	}
	VMOVUPS(Mem{Base: q, Disp: 32 * half}, w)
	avx2.floor()(w)
	return w, 32
}

// storeFloats2 writes the totals, which the chains hold, through the floor.
func storeFloats2(chain []VecVirtual, tokens int) {
	y, stride := pointer("y"), GP64()
	if tokens > 1 {
		stride = pointer("yStride")
	}
	floor := avx2.floor()
	for i, v := range chain {
		floor(v)
		VMOVUPS(v, Mem{Base: y, Disp: 32 * (i % 2)})
		if i%2 == 1 && i < 2*tokens-1 {
			ADDQ(stride, y)
		}
	}
}
