package conform

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
)

// xorshift repeats the generator of the recorded inputs.
type xorshift uint32

func (s *xorshift) next() uint32 {
	x := uint32(*s)
	x ^= x << 13
	x ^= x >> 17
	x ^= x << 5
	*s = xorshift(x)
	return x
}

func (s *xorshift) floats(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(int32(s.next())>>8) / (1 << 22)
	}
	return v
}

func (s *xorshift) half() uint16 {
	x := s.next()
	return uint16(x>>16)&0x8000 | uint16(10+(x>>8&3))<<10 | uint16(x>>12&1023)
}

func (s *xorshift) halves(n int) []uint16 {
	h := make([]uint16, n)
	for i := range h {
		h[i] = s.half()
	}
	return h
}

func hex(v []float32) string {
	var b strings.Builder
	for _, f := range v {
		fmt.Fprintf(&b, "%08x", math.Float32bits(f))
	}
	return b.String()
}

// study is the recorded results.
func study(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile("testdata/study.json")
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]string
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// observe runs a scenario on the oracle and gives its only reading.
func observe(t *testing.T, b kernels.Batch, scenario func(*trace)) []float32 {
	t.Helper()
	tr, err := play(Naive(), b, scenario)
	if err != nil || len(tr.values) != 1 || len(tr.b.Faults) > 0 {
		t.Fatal(err, tr.b.Faults)
	}
	return tr.values[0].data
}

func le16(b []byte, h uint16) { b[0], b[1] = byte(h), byte(h>>8) }

// studyWeights draws a matrix as the record's generator did and writes it as
// GGUF bytes.
func studyWeights(s *xorshift, t quant.Type, rows, cols int) []byte {
	info := must(t.Info())
	q := make([]byte, rows*cols)
	for i := range q {
		q[i] = byte(s.next() >> 9)
	}
	d := s.halves(2 * rows * cols / info.BlockElems) // scale, minimum by turns
	sub := make([]byte, 2*rows*cols/32)
	for i := range sub {
		sub[i] = byte(s.next() >> 8 & 63)
	}
	b := make([]byte, must(t.Bytes(rows, cols)))
	for i := range len(b) / info.BlockBytes {
		block, in := b[i*info.BlockBytes:], q[i*info.BlockElems:]
		le16(block, d[2*i])
		if t == quant.Q8_0 {
			copy(block[2:], in[:32])
			continue
		}
		le16(block[2:], d[2*i+1])
		for j := range 4 {
			lo, hi := sub[16*i+2*j:], sub[16*i+8+2*j:]
			block[4+j] = lo[0] | hi[0]>>4<<6
			block[8+j] = lo[1] | hi[1]>>4<<6
			block[12+j] = hi[0]&15 | hi[1]<<4
		}
		for k := range 128 {
			at := k/32*64 + k%32
			block[16+k] = in[at]&15 | in[at+32]<<4
		}
	}
	return b
}

func TestTheOracleGivesTheStudysProducts(t *testing.T) {
	want := study(t)
	for _, c := range []struct {
		name       string
		t          quant.Type
		rows, cols int
	}{{"q80", quant.Q8_0, 19, 544}, {"q4k", quant.Q4_K, 18, 768}} {
		s := xorshift(12345)
		p := packed(c.t, c.rows, c.cols, studyWeights(&s, c.t, c.rows, c.cols))
		x := s.floats(2 * c.cols)
		for bits, top := range map[kernels.ActBits]string{kernels.Act8: "127", kernels.Act16: "16319"} {
			if got := hex(observe(t, rows(2), product(p, x, 2, bits))); got != want[c.name+"_"+top] {
				t.Errorf("%s, %d bits: other bits than recorded", c.t, bits)
			}
		}
	}
}

func TestTheOracleGivesTheStudysFloatOperations(t *testing.T) {
	want := study(t)
	s := xorshift(777)
	w := make([]byte, 2*9*300)
	for i, h := range s.halves(9 * 300) {
		le16(w[2*i:], h)
	}
	p, x := packed(quant.F16, 9, 300, w), s.floats(300)
	if got := hex(observe(t, rows(1), product(p, x, 1, kernels.Act8))); got != want["f16"] {
		t.Error("F16 product: other bits than recorded")
	}
	v, weight := s.floats(100), s.floats(100)
	norm := observe(t, rows(1), func(tr *trace) {
		in := tr.buffer(1, 100, v)
		tr.d.Norm(tr.b, in, in, tr.vector(weight), 1e-5)
		tr.read("norm", in, 1)
	})
	if hex(norm) != want["norm"] {
		t.Error("norm: other bits than recorded")
	}
	g, one := s.floats(64), make([]float32, 64)
	for i := range g {
		g[i] *= 20
		one[i] = 1
	}
	silu := observe(t, rows(1), func(tr *trace) {
		a, b := tr.buffer(1, 64, g), tr.buffer(1, 64, one)
		tr.d.SiLUMul(tr.b, a, a, b)
		tr.read("silu", a, 1)
	})
	if hex(silu) != want["silu"] {
		t.Error("SiLU: other bits than recorded")
	}
	studyAttention(t, &s, want)
}

func studyAttention(t *testing.T, s *xorshift, want map[string]string) {
	const dim, n = 16, 4700
	q := s.floats(dim)
	key, value := make([]float32, n*dim), make([]float32, n*dim)
	for i := range key {
		h, v := s.half(), s.half()
		key[i], value[i] = fromHalf(h), fromHalf(v)
	}
	table := tableOf(n/16 + 1)
	for _, r := range [][2]int{{0, 1}, {0, 17}, {0, 256}, {0, 300}, {0, 4096}, {0, 4097}, {0, n}, {4000, n}, {100, 600}} {
		b := kernels.Batch{Rows: []kernels.Row{{Pos: int32(r[1] - 1)}}, Seqs: [][]int32{table}}
		out := observe(t, b, func(tr *trace) {
			kv := must(tr.d.NewKV(kernels.KVLayout{Type: kernels.KVF16, Layers: 2, Heads: 1, HeadDim: dim}, len(table)))
			scene{kvHeads: 1, dim: dim}.fill(tr, kv, 0, key, value)
			o := tr.buffer(1, dim, nil)
			tr.d.Attention(tr.b, o, tr.buffer(1, dim, q), kv, 0, kernels.AttnParams{Heads: 1, Scale: 0.25, Window: r[1] - r[0]})
			tr.read("attention", o, 1)
		})
		if name := fmt.Sprintf("attention_%d_%d", r[0], r[1]); hex(out) != want[name] {
			t.Errorf("%s: other bits than recorded", name)
		}
	}
}

// fromHalf widens a normal half by its definition.
func fromHalf(h uint16) float32 {
	v := math.Ldexp(1+float64(h&1023)/1024, int(h>>10&31)-15)
	return float32(math.Copysign(v, 1-2*float64(h>>15)))
}
