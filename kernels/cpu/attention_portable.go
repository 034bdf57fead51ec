package cpu

import (
	"math"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

// score stores the products of all queries with the keys of some of the
// chunk's blocks.
func (c *attnRun) score(first, blocks int) {
	s, at := c.s, first*kernels.BlockPositions
	if k := c.d.set.attn[c.kv.layout.Type].scores; k != nil {
		k(&s.q[0], &c.kv.mem[0], &s.places[first], &s.scores[at], blocks, c.n, c.dim)
		return
	}
	for b, place := range s.places[first : first+blocks] {
		keys := c.kv.mem[place : place+c.kv.plane]
		for i := range c.n {
			out := (*[kernels.BlockPositions]float32)(s.scores[i*scoreStride+at+b*kernels.BlockPositions:])
			scoreBlock(out, s.q[i*c.dim:(i+1)*c.dim], keys, c.kv.element)
		}
	}
}

// scoreBlock stores q.k for 16 positions: a chain over the head's dimensions.
func scoreBlock(out *[kernels.BlockPositions]float32, q []float32, keys []byte, element int) {
	var acc [kernels.BlockPositions]float32
	for j, v := range q {
		if element == 2 {
			k := (*[kernels.BlockPositions]uint16)(halves(keys)[j*kernels.BlockPositions:])
			for l := range acc {
				acc[l] = arith.FMA(v, arith.F16ToF32(k[l]), acc[l])
			}
			continue
		}
		k := (*[kernels.BlockPositions]float32)(floats(keys)[j*kernels.BlockPositions:])
		for l := range acc {
			acc[l] = arith.FMA(v, k[l], acc[l])
		}
	}
	*out = acc
}

// soften turns the queries' scores of a chunk into exponentials and sets the
// maxima and sums of their partials.
func (c *attnRun) soften() {
	s := c.s
	if k := c.d.set.soften; k != nil && c.p.Softcap == 0 {
		k(&s.scores[0], &s.spans[0], &s.chunk.m[0], &s.chunk.s[0], &s.bad[0], c.n, c.p.Scale)
		return
	}
	for i, span := range s.spans[:c.n] {
		m, sum, ok := softenScores((*[chunkPositions]float32)(s.scores[i*scoreStride:]), int(span[0]), int(span[1]), c.p)
		s.chunk.m[i], s.chunk.s[i] = m, sum
		if !ok {
			s.bad[i] = 1
		}
	}
}

// softenScores softens one query's scores lo..hi-1; ok is false if one is not
// finite.
func softenScores(s *[chunkPositions]float32, lo, hi int, p kernels.AttnParams) (m, sum float32, ok bool) {
	if lo >= hi {
		return nothing, 0, true
	}
	m = float32(math.Inf(-1))
	for j := lo; j < hi; j++ {
		v := arith.Floor(float32(s[j] * p.Scale))
		if !arith.Finite(v) {
			return 0, 0, false
		}
		if p.Softcap != 0 {
			v = arith.SoftCap(v, p.Softcap)
		}
		s[j] = v
		m = max(m, v)
	}
	var lanes [16]float32
	for j := lo; j < hi; j++ {
		e := arith.Exp(float32(s[j] - m))
		s[j] = e
		lanes[j%16] = float32(lanes[j%16] + e)
	}
	return m, arith.Tree16(&lanes), true
}

// weigh adds places lo..hi-1 of the chunk to the sums of n queries from first
// on.
func (c *attnRun) weigh(first, n, lo, hi int) {
	if lo >= hi {
		return
	}
	s, block, slot := c.s, lo/kernels.BlockPositions, lo%kernels.BlockPositions
	if k := c.d.set.attn[c.kv.layout.Type].weigh; k != nil && c.dim%16 == 0 {
		k(&s.scores[first*scoreStride+lo], &c.kv.mem[c.kv.plane], &s.places[block], &s.chunk.o[first*c.dim], slot, hi-lo, n, c.dim)
		return
	}
	for i := first; i < first+n; i++ {
		o := s.chunk.o[i*c.dim : (i+1)*c.dim]
		for j := lo; j < hi; j++ {
			p, place := s.scores[i*scoreStride+j], s.places[j/kernels.BlockPositions]+c.kv.plane
			values, at := c.kv.mem[place:place+c.kv.plane], j%kernels.BlockPositions*c.dim
			if c.kv.element == 2 {
				weighHalves(o, p, halves(values)[at:])
			} else {
				weighFloats(o, p, floats(values)[at:])
			}
		}
	}
}

func weighHalves(o []float32, p float32, v []uint16) {
	v = v[:len(o)]
	for d := range o {
		o[d] = arith.FMA(p, arith.F16ToF32(v[d]), o[d])
	}
}

func weighFloats(o []float32, p float32, v []float32) {
	v = v[:len(o)]
	for d := range o {
		o[d] = arith.FMA(p, v[d], o[d])
	}
}

// fold merges y, the later part, into x. y's sums pass the floor on the way,
// which leaves those alone that have passed it before.
func (c *attnRun) fold(x, y *partials) {
	a, b := c.s.a, c.s.b
	if k := c.d.set.foldScales; k != nil {
		k(&x.m[0], &x.s[0], &y.m[0], &y.s[0], &a[0], &b[0], len(a))
	} else {
		for i := range a {
			foldScale(x, y, a, b, i)
		}
	}
	if k := c.d.set.fold; k != nil && c.dim%16 == 0 {
		k(&x.o[0], &y.o[0], &a[0], &b[0], c.n, c.dim)
		return
	}
	for i := range c.n {
		out, o := x.o[i*c.dim:(i+1)*c.dim], y.o[i*c.dim:(i+1)*c.dim]
		for j := range out {
			out[j] = arith.Floor(arith.FMA(arith.Floor(o[j]), b[i], float32(out[j]*a[i])))
		}
	}
}

// foldScale merges query i's maximum and sum and gives the factors of its
// weighted sums.
func foldScale(x, y *partials, a, b []float32, i int) {
	m := max(x.m[i], y.m[i])
	a[i], b[i] = arith.Exp(float32(x.m[i]-m)), arith.Exp(float32(y.m[i]-m))
	x.m[i] = m
	x.s[i] = arith.FMA(y.s[i], b[i], float32(x.s[i]*a[i]))
}

// divide stores the result, F(o/sum).
func (d *Device) divide(out, o []float32, sum float32) {
	if k := d.set.divide; k != nil && len(out)%16 == 0 {
		k(&out[0], &o[0], sum, len(out))
		return
	}
	o = o[:len(out)]
	for i := range out {
		out[i] = arith.Floor(float32(o[i] / sum))
	}
}
