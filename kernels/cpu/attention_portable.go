package cpu

import (
	"math"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

// score stores the products of all queries with a block's keys; at is the
// block's place in the chunk.
func (c *attnTileRun) score(keys []byte, at int) {
	s := c.s
	if k := c.d.set.attn[c.kv.layout.Type].scores; k != nil {
		k(&s.q[0], &keys[0], &s.scores[at], c.n, c.dim)
		return
	}
	for i := range c.n {
		out := (*[kernels.BlockPositions]float32)(s.scores[i*chunkPositions+at:])
		scoreBlock(out, s.q[i*c.dim:(i+1)*c.dim], keys, c.kv.element)
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

// soften turns query i's scores of the chunk at base into exponentials and
// sets the maximum and sum of its partial.
func (c *attnTileRun) soften(i, base int) {
	q := &c.s.queries[i]
	lo, hi := max(q.lo-base, 0), min(q.hi-base, chunkPositions)
	q.chunk.any = lo < hi
	if !q.chunk.any {
		return
	}
	s := (*[chunkPositions]float32)(c.s.scores[i*chunkPositions:])
	if k := c.d.set.soften; k != nil && c.p.Softcap == 0 {
		m, sum, bad := k(&s[0], lo, hi, c.p.Scale)
		q.chunk.m, q.chunk.s = m, sum
		q.bad = q.bad || bad != 0
		return
	}
	m, sum, ok := softenScores(s, lo, hi, c.p)
	q.chunk.m, q.chunk.s = m, sum
	q.bad = q.bad || !ok
}

// softenScores is soften in plain Go; ok is false if a score is not finite.
func softenScores(s *[chunkPositions]float32, lo, hi int, p kernels.AttnParams) (m, sum float32, ok bool) {
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

// weigh adds count positions of a block, from slot on, to the sums of n
// queries from first on; at is the first position's place in the chunk.
func (c *attnTileRun) weigh(first, n int, values []byte, slot, count, at int) {
	s := c.s
	if k := c.d.set.attn[c.kv.layout.Type].weigh; k != nil && c.dim%16 == 0 {
		k(&s.scores[first*chunkPositions+at], &values[c.kv.element*slot*c.dim], &s.o[first*c.dim], count, n, c.dim)
		return
	}
	for i := first; i < first+n; i++ {
		o := s.o[i*c.dim : (i+1)*c.dim]
		for j := range count {
			p := s.scores[i*chunkPositions+at+j]
			if c.kv.element == 2 {
				weighHalves(o, p, halves(values)[(slot+j)*c.dim:])
			} else {
				weighFloats(o, p, floats(values)[(slot+j)*c.dim:])
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

func (d *Device) floorAll(x []float32) {
	if k := d.set.floor; k != nil && len(x)%16 == 0 {
		k(&x[0], len(x))
		return
	}
	arith.FloorAll(x)
}

// fold merges y, the later one, into x.
func (d *Device) fold(x, y *partial) {
	if !x.any {
		x.m, x.s, x.any = y.m, y.s, true
		copy(x.o, y.o)
		return
	}
	m := max(x.m, y.m)
	a, b := arith.Exp(float32(x.m-m)), arith.Exp(float32(y.m-m))
	x.m = m
	x.s = arith.FMA(y.s, b, float32(x.s*a))
	if k := d.set.fold; k != nil && len(x.o)%16 == 0 {
		k(&x.o[0], &y.o[0], a, b, len(x.o))
		return
	}
	for i := range x.o {
		x.o[i] = arith.Floor(arith.FMA(y.o[i], b, float32(x.o[i]*a)))
	}
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
