package cpu

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
)

// BenchmarkStreams compares products of a few tokens with groups of rows read as
// one stream from memory and as several, in turn over matrices that no cache
// near a core holds, so that other work on the machine meets both alike. It
// prints the median rates.
func BenchmarkStreams(b *testing.B) {
	for _, set := range everySet() {
		for _, kind := range quant.Types() {
			for lines := range set.matmul {
				for _, k := range set.matmul[lines][kind] {
					if k.bytes == 0 {
						continue
					}
					for _, shape := range [][2]int{{1536, 768}, {576, 1536}, {2048, 2048}} {
						b.Run(fmt.Sprintf("%s/%s/a%d/tokens=%d/%dx%d", set.tier, kind, 8*(lines+1), k.tokens, shape[0], shape[1]), func(b *testing.B) {
							benchStreams(b, set, lines, kind, k, shape[0], shape[1])
						})
					}
				}
			}
		}
	}
}

func benchStreams(b *testing.B, set *kernelSet, lines int, kind quant.Type, streams tile, rows, cols int) {
	tokens := streams.tokens
	single := slices.IndexFunc(set.matmul[lines][kind], func(k tile) bool { return k.groups == 1 && k.tokens == tokens })
	one := set.matmul[lines][kind][single:]
	several := append(tiles{streams}, one...)
	var devices [2]*Device
	for i, list := range []tiles{one, several} {
		s := *set
		s.matmul[lines] = maps.Clone(set.matmul[lines])
		s.matmul[lines][kind] = list
		devices[i] = &Device{set: &s, pool: newPool(1), live: map[closer]struct{}{}, scratch: make([]scratch, 1), quantised: 1}
		defer devices[i].Close()
	}
	m := &matrix{kind: kind, format: formats[kind], rows: rows, cols: cols, groups: rows / 16}
	m.qStride, m.sStride = m.format.strides(kind, cols)
	size := m.groups * (m.qStride + m.sStride)
	r := rand.New(rand.NewPCG(1, 2))
	var list []*matrix
	for range 1 + (200<<20)/size {
		w := *m
		mem := make([]byte, size)
		w.d, w.quants, w.scales = devices[0], mem[:m.groups*m.qStride], mem[m.groups*m.qStride:]
		for i := range mem {
			mem[i] = byte(r.Uint32()) & 0x2f
		}
		list = append(list, &w)
	}
	x := &buffer{rows: tokens, cols: cols, stride: cols, data: make([]float32, tokens*cols)}
	y := &buffer{rows: tokens, cols: rows, stride: rows, data: make([]float32, tokens*rows)}
	for i := range x.data {
		x.data[i] = float32(r.NormFloat64())
	}
	a := need(devices[0].NewActs(tokens, cols, kernels.ActBits(8*(lines+1))))(b)
	batch := &kernels.Batch{Rows: make([]kernels.Row, tokens)}
	devices[0].Prepare(batch, a, x)
	var rates [2][]float64
	for b.Loop() {
		for i, d := range devices {
			for _, w := range list {
				begin := time.Now()
				d.MatMul(batch, y, w, a)
				rates[i] = append(rates[i], float64(size)/float64(max(1, time.Since(begin).Nanoseconds())))
			}
		}
	}
	for i, name := range []string{"one-GB/s", "several-GB/s"} {
		slices.Sort(rates[i])
		b.ReportMetric(rates[i][len(rates[i])/2], name)
	}
}
