package gguf_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/weft-mesh/weft/shard/gguf"
)

func TestGettersConvertWhatIsExactAndNameWhatIsNot(t *testing.T) {
	m := parse(t, build(t, smallModel(3))).Meta
	type result struct {
		v   any
		err error
	}
	of := func(v any, err error) result { return result{v, err} }
	good := map[string]struct {
		got  result
		want any
	}{
		"string":        {of(m.String("general.architecture")), "llama"},
		"u8":            {of(m.Uint("u8")), uint64(200)},
		"u64":           {of(m.Uint("u64")), uint64(1) << 63},
		"i8":            {of(m.Int("i8")), int64(-8)},
		"i16":           {of(m.Int("i16")), int64(-16)},
		"i32":           {of(m.Int("i32")), int64(-32)},
		"i64":           {of(m.Int("i64")), int64(-64)},
		"u16 as int":    {of(m.Int("u16")), int64(60000)},
		"f32":           {of(m.Float("f32")), 1.5},
		"f64":           {of(m.Float("f64")), 2.25},
		"int as float":  {of(m.Float("i8")), -8.0},
		"uint as float": {of(m.Float("u8")), 200.0},
		"bool":          {of(m.Bool("yes")), true},
		"strings":       {of(m.Strings("names")), []string{"a", "", "\xff"}},
		"bools":         {of(m.Bools("flags")), []bool{true, false}},
		"floats":        {of(m.Floats("floats")), []float32{1, -2}},
		"ints":          {of(m.Ints("ints")), []int64{-1, 2}},
		"uints":         {of(m.Uints("bytes")), []uint64{1, 2, 3}},
		"one a layer":   {of(m.PerLayer("bytes", 3)), []uint64{1, 2, 3}},
		"one for all":   {of(m.PerLayer("u8", 2)), []uint64{200, 200}},
		"missing":       {of(m.StringOr("none", "d")), "d"},
		"missing uint":  {of(m.UintOr("none", 4)), uint64(4)},
		"missing int":   {of(m.IntOr("none", -4)), int64(-4)},
		"missing float": {of(m.FloatOr("none", 0.5)), 0.5},
		"missing bool":  {of(m.BoolOr("none", true)), true},
	}
	for name, c := range good {
		if c.got.err != nil || !cmp.Equal(c.got.v, c.want) {
			t.Errorf("%s: %v, %v; want %v", name, c.got.v, c.got.err, c.want)
		}
	}
	bad := map[string]result{
		"i8 as uint":      of(m.Uint("i8")),
		"u64 as int":      of(m.Int("u64")),
		"f32 as int":      of(m.Int("f32")),
		"string as float": of(m.Float("general.architecture")),
		"u8 as bool":      of(m.Bool("u8")),
		"u8 as string":    of(m.String("u8")),
		"ints as uints":   of(m.Uints("ints")),
		"ints as strings": of(m.Strings("ints")),
		"names as ints":   of(m.Ints("names")),
		"bools as floats": of(m.Floats("flags")),
		"with default":    of(m.UintOr("i8", 4)),
		"too few layers":  of(m.PerLayer("bytes", 4)),
	}
	if _, err := m.PerLayer("u8", 1<<30); !errors.Is(err, gguf.ErrType) {
		t.Errorf("2^30 layers: %v", err)
	}
	for name, r := range bad {
		if !errors.Is(r.err, gguf.ErrType) || !strings.Contains(r.err.Error(), "expected") {
			t.Errorf("%s: %v, %v", name, r.v, r.err)
		}
	}
	for name, r := range map[string]result{"string": of(m.String("none")), "per layer": of(m.PerLayer("none", 2))} {
		if !errors.Is(r.err, gguf.ErrMissing) || !strings.Contains(r.err.Error(), "none") {
			t.Errorf("missing %s: %v", name, r.err)
		}
	}
	if keys := m.Keys(); keys[0] != "general.architecture" || !m.Has("u8") {
		t.Errorf("keys %v", keys)
	}
}

func TestValuesTellTheirTypeAndElements(t *testing.T) {
	m := parse(t, build(t, smallModel(3))).Meta
	v, _ := m.Value("names")
	if s, _ := v.At(1).Text(); s != "" || v.TypeName() != "array of string" || v.Elem() != gguf.String || v.Len() != 3 {
		t.Errorf("%+v", v)
	}
	i, _ := m.Value("ints")
	if n, ok := i.At(0).Int(); n != -1 || !ok {
		t.Errorf("%+v", i)
	}
	if u, _ := m.Value("u8"); u.TypeName() != "uint8" || u.Len() != 0 {
		t.Errorf("%+v", u)
	}
	if s := gguf.ValueType(99).String(); s != "value type 99" {
		t.Error(s)
	}
}

func TestTensorTypesKnowTheirBlocks(t *testing.T) {
	for name, want := range map[string][2]uint64{
		"F32": {1, 4}, "F16": {1, 2}, "BF16": {1, 2}, "Q4_0": {32, 18}, "Q4_1": {32, 20}, "Q5_0": {32, 22}, "Q5_1": {32, 24},
		"Q8_0": {32, 34}, "Q2_K": {256, 84}, "Q3_K": {256, 110}, "Q4_K": {256, 144}, "Q5_K": {256, 176}, "Q6_K": {256, 210},
		"Q8_K": {256, 292}, "IQ4_NL": {32, 18}, "IQ4_XS": {256, 136}, "MXFP4": {32, 17}, "TQ1_0": {256, 54},
	} {
		typ, err := gguf.ParseType(name)
		if err != nil || typ.String() != name || typ.BlockElems() != want[0] || typ.BlockBytes() != want[1] {
			t.Errorf("%s: %v %d %d %v", name, typ, typ.BlockElems(), typ.BlockBytes(), err)
		}
	}
	unknown := gguf.Type(1 << 31)
	if unknown.Known() || unknown.BlockBytes() != 0 || unknown.BlockElems() != 0 {
		t.Error("an unknown type is known")
	}
	if _, err := unknown.RowBytes(32); err == nil {
		t.Error("an unknown type has rows")
	}
	if _, err := gguf.ParseType("Q4_2"); err == nil {
		t.Error("a withdrawn type was found")
	}
}
