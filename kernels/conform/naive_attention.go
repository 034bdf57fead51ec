package conform

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

// memory is the KV memory: [block][layer][position in block][head][dimension].
type memory struct {
	layout kernels.KVLayout
	blocks int
	k, v   []float32
}

func (m *memory) Layout() kernels.KVLayout { return m.layout }
func (m *memory) Blocks() int              { return m.blocks }
func (m *memory) Close() error             { return nil }

func (naive) NewKV(l kernels.KVLayout, blocks int) (kernels.KV, error) {
	if blocks <= 0 || l.Layers <= 0 || l.Heads <= 0 || l.HeadDim <= 0 {
		return nil, fmt.Errorf("kv memory of %d blocks, %+v", blocks, l)
	}
	n := blocks * l.Layers * kernels.BlockPositions * l.Heads * l.HeadDim
	return &memory{l, blocks, make([]float32, n), make([]float32, n)}, nil
}

// at is where the head's elements of an absolute position lie.
func (m *memory) at(table []int32, layer, pos, head int) int {
	block := int(table[pos/kernels.BlockPositions])
	i := (block*m.layout.Layers+layer)*kernels.BlockPositions + pos%kernels.BlockPositions
	return (i*m.layout.Heads + head) * m.layout.HeadDim
}

// round is a key's or value's element as the memory keeps it.
func (m *memory) round(x float32) float32 {
	if m.layout.Type == kernels.KVF16 {
		return arith.F16ToF32(arith.F32ToF16(x))
	}
	return arith.Floor(x)
}

func (naive) StoreKV(b *kernels.Batch, kv kernels.KV, layer int, k, v kernels.Buffer) {
	m := kv.(*memory)
	n := m.layout.Heads * m.layout.HeadDim
	need(buf(k).cols == n && buf(v).cols == n, "store")
	for i, row := range b.Rows {
		at := m.at(b.Seqs[row.Seq], layer, int(row.Pos), 0)
		for j := range n {
			m.k[at+j], m.v[at+j] = m.round(buf(k).row(i)[j]), m.round(buf(v).row(i)[j])
			if !arith.Finite(m.k[at+j]) || !arith.Finite(m.v[at+j]) {
				fault(b, i, "kv")
			}
		}
	}
}

// partial is the state of softmax over some positions.
type partial struct {
	m, s float32
	o    []float32
}

// query is one head of one row.
type query struct {
	q            []float32
	mem          *memory
	table        []int32
	layer, head  int
	first, last  int // visible positions
	scale, limit float32
}

func (naive) Attention(b *kernels.Batch, dst, q kernels.Buffer, kv kernels.KV, layer int, p kernels.AttnParams) {
	m, d, src := kv.(*memory), buf(dst), buf(q)
	dim := m.layout.HeadDim
	need(d.cols == p.Heads*dim && src.cols == d.cols && p.Heads%m.layout.Heads == 0, "attention")
	for i, row := range b.Rows {
		for h := range p.Heads {
			a := query{
				q: src.row(i)[h*dim : (h+1)*dim], mem: m, table: b.Seqs[row.Seq], layer: layer,
				head: h / (p.Heads / m.layout.Heads), last: int(row.Pos), scale: p.Scale, limit: p.Softcap,
			}
			if p.Window > 0 {
				a.first = max(0, a.last-p.Window+1)
			}
			out, ok := a.attend()
			if !ok {
				fault(b, i, "attention")
				continue
			}
			copy(d.row(i)[h*dim:], out)
		}
	}
}

func (a *query) attend() (out []float32, ok bool) {
	var all, group *partial
	for c := a.first / 256; c <= a.last/256; c++ {
		if c%16 == 0 && group != nil {
			all, group = fold(all, group), nil
		}
		part, ok := a.chunk(c)
		if !ok {
			return nil, false
		}
		group = fold(group, part)
	}
	all = fold(all, group)
	for i, o := range all.o {
		all.o[i] = arith.Floor(float32(o / all.s))
	}
	return all.o, true
}

func (a *query) chunk(c int) (p *partial, ok bool) {
	from, to := max(a.first, 256*c), min(a.last, 256*c+255)
	scores := make([]float32, 0, 256)
	p = &partial{o: make([]float32, len(a.q))}
	for pos := from; pos <= to; pos++ {
		at := a.mem.at(a.table, a.layer, pos, a.head)
		var chain float32
		for d, x := range a.q {
			chain = arith.FMA(x, a.mem.k[at+d], chain)
		}
		s := arith.Floor(float32(chain * a.scale))
		if !arith.Finite(s) {
			return nil, false
		}
		if a.limit != 0 {
			s = arith.Floor(float32(a.limit * arith.Tanh(arith.Floor(float32(s/a.limit)))))
		}
		if pos == from || s > p.m {
			p.m = s
		}
		scores = append(scores, s)
	}
	var lanes [16]float32
	for pos := from; pos <= to; pos++ {
		e := arith.Exp(float32(scores[pos-from] - p.m))
		lanes[pos%16] = float32(lanes[pos%16] + e)
		at := a.mem.at(a.table, a.layer, pos, a.head)
		for d := range p.o {
			p.o[d] = arith.FMA(e, a.mem.v[at+d], p.o[d])
		}
	}
	p.s = arith.Tree16(&lanes)
	for d := range p.o {
		p.o[d] = arith.Floor(p.o[d])
	}
	return p, true
}

func fold(x, y *partial) *partial {
	if x == nil {
		return y
	}
	m := max(x.m, y.m)
	a, b := arith.Exp(float32(x.m-m)), arith.Exp(float32(y.m-m))
	z := &partial{m: m, s: arith.FMA(y.s, b, float32(x.s*a)), o: make([]float32, len(x.o))}
	for d := range z.o {
		z.o[d] = arith.Floor(arith.FMA(y.o[d], b, float32(x.o[d]*a)))
	}
	return z
}
