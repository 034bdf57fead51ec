package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// blockPositions is the number of positions of a KV block.
const blockPositions = 16

// attention emits the kernels over keys and values. Tiles of queries share
// what is read of either: each key or value is converted once a tile.
func attention(i isa) {
	for _, kv := range []string{"f16", "f32"} {
		scores(i, kv)
		weigh(i, kv)
	}
	soften(i)
	foldScales(i)
	fold(i)
	toHalf(i)
}

// loadKV reads a vector of keys or values.
func (i isa) loadKV(kv string, m Mem) VecVirtual {
	v := i.vec()
	if kv == "f16" {
		VCVTPH2PS(m, v)
	} else {
		VMOVUPS(m, v)
	}
	return v
}

func kvBytes(kv string) int {
	if kv == "f16" {
		return 2
	}
	return 4
}

// inTiles emits body for tiles of count, the widest first, until it is done.
func inTiles(name string, n GPVirtual, widths []int, body func(width int)) {
	for _, w := range widths {
		loop, next := fmt.Sprintf("%s%d", name, w), fmt.Sprintf("%sBelow%d", name, w)
		Label(loop)
		CMPQ(n, Imm(uint64(w)))
		JLT(LabelRef(next))
		body(w)
		SUBQ(Imm(uint64(w)), n)
		JMP(LabelRef(loop))
		Label(next)
	}
}

// rows addresses neighbouring rows of up to 12 queries.
type rows struct {
	base          [3]GPVirtual // of rows 0, 4 and 8
	stride, three GPVirtual
}

// newRows takes a row's elements from the argument of that name.
func newRows(elements string) rows {
	r := rows{base: [3]GPVirtual{GP64(), GP64(), GP64()}, stride: GP64(), three: GP64()}
	Load(Param(elements), r.stride)
	SHLQ(Imm(2), r.stride)
	LEAQ(Mem{Base: r.stride, Index: r.stride, Scale: 2}, r.three)
	return r
}

// spread sets the other bases by the first.
func (r rows) spread(n int) {
	for b := 1; 4*b < n; b++ {
		LEAQ(Mem{Base: r.base[b-1], Index: r.stride, Scale: 4}, r.base[b])
	}
}

func (r rows) at(row, disp int) Mem {
	m := Mem{Base: r.base[row/4], Disp: disp}
	switch row % 4 {
	case 1:
		m.Index, m.Scale = r.stride, 1
	case 2:
		m.Index, m.Scale = r.stride, 2
	case 3:
		m.Index, m.Scale = r.three, 1
	}
	return m
}

// advance moves the bases of n rows on.
func (r rows) advance(bytes, n int) {
	for b := 0; 4*b < n; b++ {
		ADDQ(U32(uint32(bytes)), r.base[b])
	}
}

// skip moves the first base on by n rows.
func (r rows) skip(n int) {
	for range n {
		ADDQ(r.stride, r.base[0])
	}
}

// scores takes blocks in pairs where one fills one vector.
func scores(i isa, kv string) {
	i.text("scores_"+kv, "func(q *float32, mem *byte, places *int, out *float32, blocks, n, dim int)",
		"Products of n queries with the keys of some blocks; portable form: scoreBlock.")
	s := scoring{isa: i, kv: kv, q: newRows("dim"), places: pointer("places"), column: GP64(), out: GP64(), left: GP64(), count: GP64(), plane: GP64(), keys: [2]GPVirtual{GP64(), GP64()}}
	blocks, widths := pointer("blocks"), []int{12, 8, 6, 4, 3, 2, 1}
	for range 24 {
		s.sums = append(s.sums, i.vec())
	}
	XORQ(s.column, s.column)
	if !i.wide {
		Label("blocks1")
		s.pass(1, []int{6, 4, 3, 2, 1})
		DECQ(blocks)
		JNZ(LabelRef("blocks1"))
	} else {
		inTiles("blocks", blocks, []int{2, 1}, func(n int) { s.pass(n, widths) })
	}
	VZEROUPPER()
	RET()
}

// scoring is the kernel of scores.
type scoring struct {
	isa
	kv        string
	q         rows
	places    GPVirtual
	column    GPVirtual // bytes from the first score to those at hand
	out, left GPVirtual // of queries
	count     GPVirtual // dimensions left
	plane     GPVirtual // bytes from a block's keys to its values
	keys      [2]GPVirtual
	sums      []VecVirtual
}

// pass scores all queries with some blocks.
func (s *scoring) pass(blocks int, widths []int) {
	Load(Param("q"), s.q.base[0])
	Load(Param("n"), s.left)
	Load(Param("out"), s.out)
	ADDQ(s.column, s.out)
	inTiles(fmt.Sprintf("queries%d_", blocks), s.left, widths, func(width int) { s.tile(blocks, width, width < widths[0]) })
	ADDQ(Imm(uint64(8*blocks)), s.places)
	ADDQ(U32(uint32(4*blockPositions*blocks)), s.column)
}

// tile scores some queries: a vector of positions by a broadcast element of
// each query. Where queries are few, as in decode, memory bounds it: then the
// values, which are read next, are asked for on the way.
func (s *scoring) tile(blocks, queries int, narrow bool) {
	vectors := blocks * blockPositions / s.lanes
	acc := s.sums[:queries*vectors]
	for _, v := range acc {
		s.clear(v)
	}
	s.q.spread(queries)
	for b := range blocks {
		Load(Param("mem"), s.keys[b])
		ADDQ(Mem{Base: s.places, Disp: 8 * b}, s.keys[b])
	}
	Load(Param("dim"), s.count)
	loop := fmt.Sprintf("dimension%d_%d", blocks, queries)
	if narrow {
		Load(Param("dim"), s.plane)
		SHLQ(Imm(uint64(4+kvBytes(s.kv)/2)), s.plane)
	}
	Label(loop)
	var k []VecVirtual
	for v := range vectors {
		at := v * s.lanes
		k = append(k, s.loadKV(s.kv, Mem{Base: s.keys[at/blockPositions], Disp: kvBytes(s.kv) * (at % blockPositions)}))
	}
	for t := range queries {
		if vectors == 1 {
			VFMADD231PS_BCST(s.q.at(t, 0), k[0], acc[t])
			continue
		}
		b := s.vec()
		VBROADCASTSS(s.q.at(t, 0), b)
		for v := range vectors {
			VFMADD231PS(b, k[v], acc[t*vectors+v])
		}
	}
	for b := range blocks {
		if narrow {
			PREFETCHT0(Mem{Base: s.keys[b], Index: s.plane, Scale: 1})
		}
		ADDQ(Imm(uint64(blockPositions*kvBytes(s.kv))), s.keys[b])
	}
	s.q.advance(4, queries)
	DECQ(s.count)
	JNZ(LabelRef(loop))
	for t := range queries {
		for v := range vectors {
			VMOVUPS(acc[t*vectors+v], Mem{Base: s.out, Disp: scoreStride*t + 4*s.lanes*v})
		}
	}
	s.q.skip(queries - 1)
	ADDQ(U32(uint32(scoreStride*queries)), s.out)
}

// weighing is the kernel that adds weighted values up.
type weighing struct {
	isa
	kv            string
	o             rows
	p             GPVirtual // of the first query at hand
	row           GPVirtual // bytes of a position's values
	column        GPVirtual // bytes before the slice at hand
	place, left   GPVirtual // of blocks, of positions
	weight, value GPVirtual
	count         GPVirtual // positions left of the block
}

func weigh(i isa, kv string) {
	i.text("weigh_"+kv, "func(p *float32, mem *byte, places *int, o *float32, slot, positions, n, dim int)",
		"Adds p times the values of some positions, from slot of the first block on, to n sums of dim elements, a multiple of 16; portable form: weighHalves.")
	w := weighing{isa: i, kv: kv, o: newRows("dim"), p: pointer("p"), row: GP64(), column: GP64(), place: GP64(), left: GP64(), weight: GP64(), value: GP64(), count: GP64()}
	n := pointer("n")
	Load(Param("dim"), w.row)
	SHLQ(Imm(uint64(kvBytes(kv)/2)), w.row)
	Load(Param("o"), w.o.base[0])
	inTiles("queries", n, []int{6, 4, 3, 2, 1}, func(queries int) {
		slices := []int{64, 32, 16}
		if !i.wide {
			slices = []int{32, 16}
			if queries > 3 {
				slices = []int{16}
			}
		}
		w.o.spread(queries)
		XORQ(w.column, w.column)
		for _, elements := range slices {
			loop, next := fmt.Sprintf("slice%d_%d", queries, elements), fmt.Sprintf("sliceBelow%d_%d", queries, elements)
			Label(loop)
			LEAQ(Mem{Base: w.column, Disp: elements * kvBytes(kv)}, w.value)
			CMPQ(w.value, w.row)
			JGT(LabelRef(next))
			w.slice(queries, elements/i.lanes)
			w.o.advance(4*elements, queries)
			ADDQ(U32(uint32(elements*kvBytes(kv))), w.column)
			JMP(LabelRef(loop))
			Label(next)
		}
		w.o.skip(queries - 1)
		ADDQ(U32(uint32(scoreStride*queries)), w.p)
	})
	VZEROUPPER()
	RET()
}

// slice adds all positions to a slice of the sums of some queries.
func (w *weighing) slice(queries, vectors int) {
	name := func(s string) string { return fmt.Sprintf("%s%d_%d", s, queries, vectors) }
	var sums []VecVirtual
	for t := range queries {
		for j := range vectors {
			sums = append(sums, w.loadAt(w.o.at(t, 4*w.lanes*j)))
		}
	}
	MOVQ(w.p, w.weight)
	Load(Param("places"), w.place)
	Load(Param("positions"), w.left)
	slot := w.value // until it is the address
	Load(Param("slot"), slot)
	MOVQ(U32(blockPositions), w.count)
	SUBQ(slot, w.count)
	IMULQ(w.row, slot)
	JMP(LabelRef(name("begin")))
	Label(name("block"))
	MOVQ(U32(blockPositions), w.count)
	XORQ(w.value, w.value)
	Label(name("begin"))
	mem, err := Param("mem").Resolve()
	if err != nil {
		panic(err)
	}
	ADDQ(mem.Addr, w.value)
	ADDQ(Mem{Base: w.place}, w.value)
	ADDQ(w.column, w.value)
	ADDQ(Imm(8), w.place)
	CMPQ(w.left, w.count)
	CMOVQLT(w.left, w.count)
	SUBQ(w.count, w.left)
	Label(name("position"))
	w.position(sums, queries, vectors)
	ADDQ(Imm(4), w.weight)
	ADDQ(w.row, w.value)
	DECQ(w.count)
	JNZ(LabelRef(name("position")))
	TESTQ(w.left, w.left)
	JNZ(LabelRef(name("block")))
	for t := range queries {
		for j := range vectors {
			VMOVUPS(sums[t*vectors+j], w.o.at(t, 4*w.lanes*j))
		}
	}
}

// position adds one position. Registers hold the values or, where queries are
// few, their weights.
func (w *weighing) position(sums []VecVirtual, queries, vectors int) {
	weight := func(t int) VecVirtual {
		b := w.vec()
		VBROADCASTSS(Mem{Base: w.weight, Disp: scoreStride * t}, b)
		return b
	}
	value := func(j int) VecVirtual {
		return w.loadKV(w.kv, Mem{Base: w.value, Disp: w.lanes * kvBytes(w.kv) * j})
	}
	if queries <= 3 {
		var b []VecVirtual
		for t := range queries {
			b = append(b, weight(t))
		}
		for j := range vectors {
			v := value(j)
			for t := range queries {
				VFMADD231PS(b[t], v, sums[t*vectors+j])
			}
		}
		return
	}
	var v []VecVirtual
	for j := range vectors {
		v = append(v, value(j))
	}
	for t := range queries {
		b := weight(t)
		for j := range vectors {
			VFMADD231PS(b, v[j], sums[t*vectors+j])
		}
	}
}

// toHalf rounds to half precision; an infinity or NaN in the result shows as
// all bits of the exponent.
func toHalf(i isa) {
	i.text("toHalf", "func(dst *uint16, x *float32, n int) (bad uint32)",
		"Halves nearest to x, n a multiple of 16; bad is not 0 if one is not finite; portable form: arith.F32ToF16.")
	dst, x, n := pointer("dst"), pointer("x"), pointer("n")
	abs, worst := i.constant(absMask), i.zero()
	Label("vector")
	v, t := i.load(x), i.vec()
	if i.wide {
		VPANDD(abs, v, t)
	} else {
		VPAND(abs, v, t)
	}
	VPMAXUD(t, worst, worst)
	VCVTPS2PH(Imm(0), v, Mem{Base: dst})
	ADDQ(Imm(uint64(4*i.lanes)), x)
	ADDQ(Imm(uint64(2*i.lanes)), dst)
	SUBQ(Imm(uint64(i.lanes)), n)
	JNZ(LabelRef("vector"))
	r := GP32()
	i.anyAtLeast(halfOverflow, worst, r)
	Store(r, Return("bad"))
	VZEROUPPER()
	RET()
}
