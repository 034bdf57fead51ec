package quant_test

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weft-mesh/weft/kernels/arith"
	"github.com/weft-mesh/weft/kernels/quant"
)

// fill gives random GGUF bytes of t whose scales and floats are finite.
func fill(r *rand.Rand, t quant.Type, n int64) []byte {
	info, err := t.Info()
	if err != nil {
		panic(err)
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	for o := 0; o < len(b); o += info.BlockBytes {
		tame(r, t, b[o:o+info.BlockBytes])
	}
	return b
}

// halves lists where the f16 scales of a block lie.
var halves = map[quant.Type][]int{
	quant.F16: {0}, quant.Q4_0: {0}, quant.Q5_0: {0}, quant.Q8_0: {0}, quant.IQ4_NL: {0}, quant.IQ4_XS: {0},
	quant.Q4_1: {0, 2}, quant.Q5_1: {0, 2}, quant.Q4_K: {0, 2}, quant.Q5_K: {0, 2},
	quant.Q2_K: {80, 82}, quant.Q3_K: {108}, quant.Q6_K: {208},
}

func tame(r *rand.Rand, t quant.Type, b []byte) {
	for _, at := range halves[t] {
		if b[at+1]&0x7c == 0x7c {
			b[at+1] &^= 0x40
		}
	}
	switch t {
	case quant.MXFP4:
		b[0] = byte(100 + r.IntN(60))
	case quant.BF16:
		b[1] &^= 0x40
	case quant.F32:
		b[3] &^= 0x40
	}
}

func cols(t quant.Type, blocks int) int {
	info, _ := t.Info()
	return info.BlockElems * blocks
}

func TestUnpackInvertsPack(t *testing.T) {
	for _, typ := range quant.Types() {
		t.Run(typ.String(), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				rows := rapid.IntRange(1, 40).Draw(rt, "rows")
				n := cols(typ, rapid.IntRange(1, 5).Draw(rt, "blocks"))
				r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
				size, _ := typ.Bytes(rows, n)
				src := fill(r, typ, size)
				p, err := quant.New(typ, rows, n)
				if err != nil {
					rt.Fatal(err)
				}
				for i := range p.Quants { // what lay there before must not matter
					p.Quants[i] = 0xa5
				}
				cut := rapid.IntRange(0, p.Groups()).Draw(rt, "cut")
				rowBytes, _ := typ.RowBytes(n)
				at := min(int64(cut*16), int64(rows)) * rowBytes
				if err := errors.Join(p.Pack(src[:at], 0, cut), p.Pack(src[at:], cut, p.Groups()-cut)); err != nil {
					rt.Fatal(err)
				}
				back := make([]byte, size)
				if err := errors.Join(p.Unpack(back[at:], cut, p.Groups()-cut), p.Unpack(back[:at], 0, cut)); err != nil {
					rt.Fatal(err)
				}
				if !bytes.Equal(src, back) {
					rt.Fatal("the bytes changed")
				}
			})
		})
	}
}

// The packed form read by Row and the raw form read by Decode are two
// independent readings of a format; both must give the same weights.
func TestRowAgreesWithDecode(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	for _, typ := range quant.Types() {
		rows, n := 21, cols(typ, 3)
		size, _ := typ.Bytes(rows, n)
		src := fill(r, typ, size)
		p, _ := quant.New(typ, rows, n)
		if err := p.Pack(src, 0, p.Groups()); err != nil {
			t.Fatal(err)
		}
		want := make([]float32, rows*n)
		if err := quant.Decode(want, typ, src); err != nil {
			t.Fatal(err)
		}
		got := make([]float32, n)
		var row quant.Row
		for i := range rows {
			p.DecodeRow(got, i, &row)
			for k := range got {
				w := want[i*n+k]
				// Minimums and scales below 2^-24 are dropped by the contract: at
				// most 2^-24*63 an element. All else is F of the same number.
				if got[k] != arith.Floor(w) && math.Abs(float64(got[k]-w)) > 63*0x1p-24 {
					t.Fatalf("%s row %d element %d: packed %g, decoded %g", typ, i, k, got[k], w)
				}
			}
		}
	}
}

func TestPaddingRowsAreZeroBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 9))
	for _, typ := range quant.Types() {
		n := cols(typ, 2)
		one, _ := quant.New(typ, 1, n)
		for i := range one.Quants {
			one.Quants[i] = 255
		}
		for i := range one.Scales {
			one.Scales[i] = 255
		}
		size, _ := typ.Bytes(1, n)
		if err := one.Pack(fill(r, typ, size), 0, 1); err != nil {
			t.Fatal(err)
		}
		width := 4
		if typ == quant.F16 || typ == quant.BF16 {
			width = 2
		}
		for i, b := range one.Quants {
			if typ.Float() && i >= n*width*16 {
				continue
			}
			if i/width%16 != 0 && b != 0 {
				t.Fatalf("%s: byte %d of a padding row is %d", typ, i, b)
			}
		}
		if typ.Float() != (len(one.Scales) == 0) || len(one.Quants)%64 != 0 || len(one.Scales)%64 != 0 {
			t.Fatalf("%s: planes of %d and %d bytes", typ, len(one.Quants), len(one.Scales))
		}
	}
}

// The layout is written down in Packed's documentation; these are its formulas
// applied to quants taken from Decode-free knowledge of Q4_0 and Q8_0.
func TestVectorsHoldSixteenRowsOfFourColumns(t *testing.T) {
	p, _ := quant.New(quant.Q8_0, 16, 32)
	src := make([]byte, 16*34)
	for row := range 16 {
		src[34*row], src[34*row+1] = byte(row), 0x3c
		for k := range 32 {
			src[34*row+2+k] = byte(row*32 + k)
		}
	}
	if err := p.Pack(src, 0, 1); err != nil {
		t.Fatal(err)
	}
	for row := range 16 {
		for k := range 32 {
			if got, want := p.Quants[64*(k/4)+4*row+k%4], byte(row*32+k)^0x80; got != want {
				t.Fatalf("Q8_0 row %d column %d: %d, want %d", row, k, got, want)
			}
		}
		if p.Scales[2*row] != byte(row) || p.Scales[2*row+1] != 0x3c {
			t.Fatalf("Q8_0 scale of row %d", row)
		}
	}
	f, _ := quant.New(quant.F16, 3, 5)
	if len(f.Quants) != 192 {
		t.Fatalf("F16 group of 5 columns takes %d bytes, want 192", len(f.Quants))
	}
	for row := range 3 {
		for k := range 5 {
			src[2*(row*5+k)], src[2*(row*5+k)+1] = byte(row), byte(k)
		}
	}
	if err := f.Pack(src[:30], 0, 1); err != nil {
		t.Fatal(err)
	}
	for row := range 3 {
		for k := range 5 {
			if f.Quants[32*k+2*row] != byte(row) || f.Quants[32*k+2*row+1] != byte(k) {
				t.Fatalf("F16 row %d column %d", row, k)
			}
		}
	}
}

func TestValuesThatAreNotFiniteAreRefusedByRow(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 9))
	for _, typ := range quant.Types() {
		rows, n := 19, cols(typ, 2)
		rowBytes, _ := typ.RowBytes(n)
		info, _ := typ.Info()
		places := halves[typ]
		if len(places) == 0 {
			places = []int{0}
		}
		for _, at := range places {
			src := fill(r, typ, rowBytes*int64(rows))
			o := 17*int(rowBytes) + int(rowBytes) - info.BlockBytes + at
			switch typ {
			case quant.MXFP4:
				src[o] = 255
			case quant.F32:
				src[o+2], src[o+3] = 0x80, 0xff
			case quant.BF16:
				src[o], src[o+1] = 0x80, 0x7f
			default:
				src[o+1] = 0x7c
			}
			p, _ := quant.New(typ, rows, n)
			err := p.Pack(src, 0, p.Groups())
			if !errors.Is(err, quant.ErrValue) || !strings.Contains(err.Error(), "row 17 of a "+typ.String()) {
				t.Errorf("%s with a bad scale at %d: %v", typ, at, err)
			}
		}
	}
}

func TestTinyScalesCountAsZero(t *testing.T) {
	p, _ := quant.New(quant.MXFP4, 1, 64)
	src := make([]byte, 34)
	src[0], src[17] = 104, 103 // 2^-24 and 2^-25
	src[1], src[18] = 0x21, 0x21
	if err := p.Pack(src, 0, 1); err != nil {
		t.Fatal(err)
	}
	var row quant.Row
	p.Row(0, &row)
	if row.Scale[0] != 0x1p-24 || row.Scale[1] != 0 || row.Weights[0] != 1 || row.Weights[16] != 2 {
		t.Errorf("scales %g, weights %v", row.Scale, row.Weights)
	}
	k, _ := quant.New(quant.Q4_K, 1, 256)
	b := make([]byte, 144)
	b[3] = 0x80 // dmin is -0: the minimum must be +0
	b[4] = 1
	if err := k.Pack(b, 0, 1); err != nil {
		t.Fatal(err)
	}
	k.Row(0, &row)
	for i := range row.Minimum {
		if math.Float32bits(row.Minimum[i]) != 0 || math.Float32bits(row.Scale[i]) != 0 {
			t.Errorf("sub-block %d: %g %g", i, row.Scale[i], row.Minimum[i])
		}
	}
}

func TestUnsupportedTypesAreNamed(t *testing.T) {
	for typ, name := range map[quant.Type]string{16: "IQ2_XXS", 34: "TQ1_0", 999: "type 999"} {
		_, err := typ.Info()
		if !errors.Is(err, quant.ErrType) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "Q4_K") {
			t.Errorf("%d: %v", typ, err)
		}
		if typ.Supported() {
			t.Errorf("%s claims to be supported", typ)
		}
		if _, err := quant.New(typ, 16, 256); !errors.Is(err, quant.ErrType) {
			t.Errorf("New(%s): %v", typ, err)
		}
		if err := quant.Decode(nil, typ, nil); !errors.Is(err, quant.ErrType) {
			t.Errorf("Decode(%s): %v", typ, err)
		}
		if _, _, err := quant.Strides(typ, 256); !errors.Is(err, quant.ErrType) {
			t.Errorf("Strides(%s): %v", typ, err)
		}
	}
}

func TestShapesAndSizesAreChecked(t *testing.T) {
	bad := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, quant.ErrShape) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := quant.New(quant.Q4_K, 4, 96)
	bad("columns", err)
	_, err = quant.New(quant.F32, 0, 96)
	bad("no rows", err)
	_, err = quant.New(quant.F32, 4, -1)
	bad("negative columns", err)
	_, _, err = quant.PackedSize(quant.F32, quant.MaxDim+1, 1)
	bad("too many rows", err)
	_, err = quant.New(quant.F32, quant.MaxDim, quant.MaxDim)
	bad("more than memory", err)
	p, err := quant.New(quant.Q4_0, 20, 64)
	if err != nil {
		t.Fatal(err)
	}
	bad("short source", p.Pack(make([]byte, 10), 0, 2))
	bad("groups past the end", p.Pack(make([]byte, 36*16), 1, 2))
	bad("negative group", p.Unpack(nil, -1, 1))
	bad("short room", p.Unpack(make([]byte, 10), 0, 2))
	bad("half a block", quant.Decode(make([]float32, 32), quant.Q4_0, make([]byte, 17)))
	bad("wrong length", quant.Decode(make([]float32, 31), quant.Q4_0, make([]byte, 18)))
	whole := append([]byte(nil), p.Quants...)
	_, err = quant.View(quant.Q4_0, 20, 64, whole)
	bad("view without scales", err)
	b := make([]byte, 64+p.Bytes()+128)
	for off := range 2 {
		_, err = quant.View(quant.Q4_0, 20, 64, b[32*off+8:][:p.Bytes()])
		bad("view that is not aligned", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a row past the end was read")
		}
	}()
	p.Row(20, new(quant.Row))
}

func TestPackAllocatesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 9))
	for _, typ := range quant.Types() {
		n := cols(typ, 4)
		size, _ := typ.Bytes(32, n)
		src := fill(r, typ, size)
		p, _ := quant.New(typ, 32, n)
		if a := testing.AllocsPerRun(10, func() { _ = p.Pack(src, 0, 2) }); a != 0 {
			t.Errorf("%s: %g allocations", typ, a)
		}
	}
}

func BenchmarkPack(b *testing.B) {
	r := rand.New(rand.NewPCG(5, 9))
	for _, typ := range quant.Types() {
		b.Run(typ.String(), func(b *testing.B) {
			size, _ := typ.Bytes(256, 2048)
			src := fill(r, typ, size)
			p, _ := quant.New(typ, 256, 2048)
			b.SetBytes(size)
			for b.Loop() {
				if err := p.Pack(src, 0, p.Groups()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
