package gguf_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/shard/gguf"
)

// raw assembles a file by hand, for what Builder refuses to write.
type raw []byte

func (r raw) u32(v uint32) raw   { return binary.LittleEndian.AppendUint32(r, v) }
func (r raw) u64(v uint64) raw   { return binary.LittleEndian.AppendUint64(r, v) }
func (r raw) str(s string) raw   { return append(r.u64(uint64(len(s))), s...) }
func (r raw) bytes(b []byte) raw { return append(r, b...) }

func head(tensors, keys uint64) raw { return raw("GGUF").u32(3).u64(tensors).u64(keys) }

// tensor appends a tensor info.
func (r raw) tensor(name string, typ gguf.Type, off uint64, dims ...uint64) raw {
	r = r.str(name).u32(uint32(len(dims)))
	for _, d := range dims {
		r = r.u64(d)
	}
	return r.u32(uint32(typ)).u64(off)
}

// data pads to 32 and appends n zero bytes.
func (r raw) data(n int) raw {
	for len(r)%32 != 0 {
		r = append(r, 0)
	}
	return append(r, make([]byte, n)...)
}

func nested(depth int) raw {
	r := head(0, 1).str("k").u32(uint32(gguf.Array))
	for range depth {
		r = r.u32(uint32(gguf.Array)).u64(1)
	}
	return r.u32(uint32(gguf.Uint8)).u64(1).bytes([]byte{1})
}

func TestHostileFilesAreRefusedByName(t *testing.T) {
	long := strings.Repeat("n", 300)
	for _, c := range []struct {
		name string
		file raw
		says []string
	}{
		{"empty", raw{}, []string{"0 bytes"}},
		{"no header", raw("GGUF"), []string{"4 bytes"}},
		{"an error page", raw("<!DOCTYPE html><html><head>"), []string{"GGUF", "<!DO"}},
		{"big-endian", raw("GGUF\x00\x00\x00\x03").u64(0).u64(0), []string{"big-endian"}},
		{"version 1", raw("GGUF").u32(1).u64(0).u64(0), []string{"version 1"}},
		{"version 9", raw("GGUF").u32(9).u64(0).u64(0), []string{"version 9"}},
		{"huge tensor count", head(math.MaxUint64, 0), []string{"tensor count"}},
		{"more tensors than bytes", head(100000, 0), []string{"tensor count", "truncated"}},
		{"huge key count", head(0, math.MaxUint64), []string{"key count"}},
		{"more keys than bytes", head(0, 1000), []string{"key count", "truncated"}},
		{"huge key length", head(0, 1).u64(math.MaxUint64).bytes(make([]byte, 99)), []string{"key 0"}},
		{"empty key", head(0, 1).str("").u32(0).bytes([]byte{1, 2, 3}), []string{"empty name"}},
		{"unknown value type", head(0, 1).str("k").u32(77).u64(0), []string{`"k"`, "77"}},
		{"bool of 2", head(0, 1).str("k").u32(uint32(gguf.Bool)).bytes([]byte{2}), []string{`"k"`, "bool"}},
		{"array with a bool of 2", head(0, 1).str("k").u32(uint32(gguf.Array)).u32(uint32(gguf.Bool)).u64(1).bytes([]byte{2}), []string{`"k"`, "bool"}},
		{"huge string", head(0, 1).str("k").u32(uint32(gguf.String)).u64(1 << 60).bytes(make([]byte, 99)), []string{`"k"`, "truncated"}},
		{"huge array", head(0, 1).str("k").u32(uint32(gguf.Array)).u32(uint32(gguf.Float64)).u64(1 << 61).bytes(make([]byte, 99)), []string{`"k"`}},
		{"huge string array", head(0, 1).str("k").u32(uint32(gguf.Array)).u32(uint32(gguf.String)).u64(1 << 61).bytes(make([]byte, 99)), []string{`"k"`}},
		{"unknown element type", head(0, 1).str("k").u32(uint32(gguf.Array)).u32(50).u64(0), []string{`"k"`, "50"}},
		{"string array that ends", head(0, 1).str("k").u32(uint32(gguf.Array)).u32(uint32(gguf.String)).u64(2).str("a").u64(9), []string{`"k"`, "truncated"}},
		{"deep array", nested(5), []string{`"k"`, "deep"}},
		{"key twice", head(0, 2).str("k").u32(0).bytes([]byte{1}).str("k").u32(0).bytes([]byte{1}), []string{`"k"`, "twice"}},
		{"alignment 24", head(0, 1).str(gguf.AlignmentKey).u32(uint32(gguf.Uint32)).u32(24), []string{"24", "power of two"}},
		{"alignment 0", head(0, 1).str(gguf.AlignmentKey).u32(uint32(gguf.Uint32)).u32(0), []string{"power of two"}},
		{"alignment 2^31", head(0, 1).str(gguf.AlignmentKey).u32(uint32(gguf.Uint32)).u32(1 << 31), []string{"power of two"}},
		{"alignment as text", head(0, 1).str(gguf.AlignmentKey).u32(uint32(gguf.String)).str("32"), []string{gguf.AlignmentKey, "has string"}},
		{"unknown tensor type", head(1, 0).tensor("w", 4, 0, 32).data(128), []string{`"w"`, "type 4"}},
		{"five dimensions", head(1, 0).tensor("w", gguf.F32, 0, 1, 1, 1, 1, 1).data(128), []string{`"w"`, "5 dimensions"}},
		{"no dimensions", head(1, 0).tensor("w", gguf.F32, 0).data(128), []string{`"w"`, "0 dimensions"}},
		{"empty dimension", head(1, 0).tensor("w", gguf.F32, 0, 4, 0).data(128), []string{`"w"`, "empty"}},
		{"shape overflow", head(1, 0).tensor("w", gguf.F32, 0, 1<<32, 1<<32, 1<<32).data(128), []string{`"w"`, "large"}},
		{"shape wraps to small", head(1, 0).tensor("w", gguf.F32, 0, 1<<63, 2).data(128), []string{`"w"`, "large"}},
		{"half a block", head(1, 0).tensor("w", gguf.Q4_K, 0, 100).data(128), []string{`"w"`, "256"}},
		{"unaligned", head(1, 0).tensor("w", gguf.F32, 8, 4).data(128), []string{`"w"`, "alignment"}},
		{"offset far outside", head(1, 0).tensor("w", gguf.F32, math.MaxUint64-31, 4).data(128), []string{`"w"`, "truncated"}},
		{"beyond the end", head(1, 0).tensor("w", gguf.F32, 0, 33).data(128), []string{`"w"`, "expected at least", "truncated"}},
		{"no data at all", head(1, 0).tensor("w", gguf.F32, 0, 1), []string{`"w"`, "truncated"}},
		{"overlap", head(2, 0).tensor("v", gguf.F32, 0, 16).tensor("w", gguf.F32, 32, 8).data(128), []string{`"v"`, `"w"`, "overlap"}},
		{"tensor twice", head(2, 0).tensor("w", gguf.F32, 0, 8).tensor("w", gguf.F32, 32, 8).data(128), []string{`"w"`, "twice"}},
		{"long name", head(1, 0).tensor(long, gguf.F32, 0, 8).data(128), []string{"300"}},
		{"no name", head(1, 0).tensor("", gguf.F32, 0, 8).data(128), []string{"empty name"}},
	} {
		_, err := gguf.Parse(bytes.NewReader(c.file), int64(len(c.file)))
		if err == nil {
			t.Errorf("%s: accepted", c.name)
			continue
		}
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %q does not say %q", c.name, err, s)
			}
		}
	}
}

func TestNestedArraysReadToTheAllowedDepth(t *testing.T) {
	b := nested(2)
	v, ok := parse(t, b).Meta.Value("k")
	if !ok || v.Len() != 1 || v.At(0).At(0).At(0).Type() != gguf.Uint8 {
		t.Errorf("%v %v", v, ok)
	}
	again := &gguf.Builder{}
	again.Set("k", v)
	v2, _ := parse(t, build(t, again)).Meta.Value("k")
	if v2.At(0).At(0).Len() != 1 {
		t.Error("a nested array did not survive a copy")
	}
	wide := head(0, 1).str("k").u32(uint32(gguf.Array)).u32(uint32(gguf.Array)).u64(1 << 17)
	for range 1 << 17 {
		wide = wide.u32(0).u64(0)
	}
	if _, err := gguf.Parse(bytes.NewReader(wide), int64(len(wide))); err == nil {
		t.Error("131072 nested arrays were accepted")
	}
}

func TestTruncationAtEveryByteIsAnError(t *testing.T) {
	b := build(t, smallModel(3))
	last := parse(t, b).Tensors[2]
	needed := int(last.Offset + last.Size)
	for n := range needed {
		_, err := gguf.Parse(bytes.NewReader(b[:n]), int64(n))
		if err == nil {
			t.Fatalf("%d of %d bytes were accepted", n, needed)
		}
		if n >= 24 && !errors.Is(err, gguf.ErrTruncated) {
			t.Errorf("%d bytes: %v does not say that the file is truncated", n, err)
		}
		if _, err := gguf.ParseHeader(b[:n], int64(len(b))); err == nil && n < len(parse(t, b).HeaderBytes()) {
			t.Fatalf("a header of %d bytes was accepted", n)
		}
	}
}

func TestHeadersThatDoNotBelongTogetherAreRefused(t *testing.T) {
	paths := writeSplit(t, t.TempDir(), 3)
	parts := openTest(t, paths[0]).Parts()
	single := parse(t, build(t, smallModel(3))).Parts()[0]
	for name, given := range map[string][]gguf.Part{
		"none":        nil,
		"one missing": parts[:2],
		"only one":    parts[:1],
		"wrong order": {parts[1], parts[0], parts[2]},
		"one twice":   {parts[0], parts[0], parts[2]},
		"a stranger":  {parts[0], parts[1], single},
		"short file":  {{Header: parts[0].Header, Size: 3}, parts[1], parts[2]},
	} {
		if _, err := gguf.ParseHeaders(given); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	b, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gguf.Parse(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), "split") {
		t.Errorf("a part alone: %v", err)
	}
}

func TestOpenNamesWhatIsWrongWithFiles(t *testing.T) {
	dir := t.TempDir()
	paths := writeSplit(t, dir, 3)
	renamed := filepath.Join(dir, "renamed.gguf")
	other := filepath.Join(dir, gguf.SplitName("other", 0, 4))
	for from, to := range map[string]string{paths[0]: renamed, paths[1]: other} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	empty := filepath.Join(dir, "empty.gguf")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(paths[2]); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		filepath.Join(dir, "none.gguf"): "none.gguf",
		dir:                             "regular file",
		renamed:                         "original name",
		other:                           "original name",
		empty:                           "0 bytes",
		paths[0]:                        "part 3 of 3 is missing",
	} {
		_, err := gguf.Open(path)
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), filepath.Dir(path)) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestDataOutsideTheFileIsRefused(t *testing.T) {
	f := openTest(t, filepath.Join("testdata", "llama-Q2_K.gguf"))
	for _, ten := range []gguf.Tensor{{Part: 1}, {Part: -1}, {Offset: math.MaxUint64}, {Size: math.MaxUint64}, {Offset: 1 << 40, Size: 1}} {
		if _, err := f.Data(ten); err == nil {
			t.Errorf("%+v: data", ten)
		}
		f.Evict(ten)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Data(f.Tensors[0]); !errors.Is(err, gguf.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	var small bytes.Buffer
	if err := smallModel(3).Write(&small, fill); err != nil {
		f.Fatal(err)
	}
	f.Add(small.Bytes())
	f.Add([]byte(nested(2)))
	f.Add([]byte(head(1, 0).tensor("w", gguf.F32, 0, 8).data(128)))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := gguf.Parse(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, ten := range file.Tensors {
			if data, err := file.Data(ten); err != nil || uint64(len(data)) != ten.Size {
				t.Fatalf("%+v: %d bytes, %v", ten, len(data), err)
			}
		}
		if _, err := gguf.ParseHeader(file.HeaderBytes(), int64(len(b))); err != nil {
			t.Fatalf("the header of a good file is refused: %v", err)
		}
	})
}
