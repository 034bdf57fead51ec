package quant_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/weft-mesh/weft/kernels/quant"
)

// FuzzPack feeds foreign bytes as a matrix of any claimed type and shape:
// nothing panics, refused values name a row, and what is accepted unpacks to
// the same bytes, decodes, and gives finite weights.
func FuzzPack(f *testing.F) {
	for _, t := range quant.Types() {
		info, _ := t.Info()
		f.Add(uint32(t), 1, info.BlockElems, make([]byte, info.BlockBytes))
		f.Add(uint32(t), 3, info.BlockElems, bytes.Repeat([]byte{0x35}, 3*info.BlockBytes))
		f.Add(uint32(t), 2, 2*info.BlockElems, bytes.Repeat([]byte{0xff}, 4*info.BlockBytes))
	}
	f.Add(uint32(99), 1, 1, []byte{1})
	f.Add(uint32(quant.F32), 1<<30, 1<<30, []byte{1, 2, 3, 4})
	f.Add(uint32(quant.Q4_0), -1, 32, []byte{1})
	f.Fuzz(func(t *testing.T, typ uint32, rows, cols int, src []byte) {
		q := quant.Type(typ)
		size, err := q.Bytes(rows, cols)
		if err != nil || size != int64(len(src)) {
			if p, err := quant.View(q, rows, cols, src); err == nil {
				p.Row(0, new(quant.Row))
			}
			return
		}
		p, err := quant.New(q, rows, cols)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Pack(src, 0, p.Groups()); err != nil {
			if !errors.Is(err, quant.ErrValue) {
				t.Fatal(err)
			}
			return
		}
		back := make([]byte, size)
		if err := p.Unpack(back, 0, p.Groups()); err != nil || !bytes.Equal(src, back) {
			t.Fatalf("unpacking gives other bytes, %v", err)
		}
		if err := quant.Decode(make([]float32, rows*cols), q, src); err != nil {
			t.Fatal(err)
		}
		var r quant.Row
		row := make([]float32, cols)
		for i := range rows {
			p.DecodeRow(row, i, &r)
			for k, v := range row {
				if v-v != 0 {
					t.Fatalf("row %d element %d is %g", i, k, v)
				}
			}
		}
	})
}
