package quant_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/kernels/quant"
)

// Check must refuse what Pack refuses: Pack fills the planes before it says so.
func TestCheckRefusesWhatPackRefuses(t *testing.T) {
	for _, typ := range quant.Types() {
		r := rand.New(rand.NewPCG(uint64(typ), 5))
		rows, n := 35, cols(typ, 3)
		rowBytes, _ := typ.RowBytes(n)
		info, _ := typ.Info()
		src := fill(r, typ, rowBytes*int64(rows))
		p, _ := quant.New(typ, rows, n)
		if err := errors.Join(p.Pack(src, 0, 3), p.Check(0, 3)); err != nil {
			t.Fatal(err)
		}
		places := halves[typ]
		if len(places) == 0 {
			places = []int{0}
		}
		for _, at := range places {
			bad := append([]byte(nil), src...)
			row := r.IntN(rows)
			o := row*int(rowBytes) + r.IntN(3)*info.BlockBytes + at
			switch typ {
			case quant.MXFP4:
				bad[o] = 255
			case quant.F32:
				bad[o+2], bad[o+3] = 0x80, 0x7f
			case quant.BF16:
				bad[o], bad[o+1] = 0xc0, 0xff
			default:
				bad[o+1] |= 0x7c
			}
			if err := p.Pack(bad, 0, 3); !errors.Is(err, quant.ErrValue) {
				t.Fatal(typ, err)
			}
			// Pack stops at the bad group; give Check the groups from there on.
			err := p.Check(row/16, 1)
			if !errors.Is(err, quant.ErrValue) || !strings.Contains(err.Error(), fmt.Sprintf("row %d of", row)) {
				t.Errorf("%s, bad row %d: %v", typ, row, err)
			}
		}
	}
	p, _ := quant.New(quant.Q4_0, 16, 32)
	if err := p.Check(0, 2); !errors.Is(err, quant.ErrShape) {
		t.Errorf("groups past the end: %v", err)
	}
}
