package gguf_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/weft-mesh/weft/shard/gguf"
	"pgregory.net/rapid"
)

// writeBytes gives each tensor bytes that depend on its name and place.
func fill(t gguf.Tensor, w io.Writer) error {
	_, err := w.Write(content(t))
	return err
}

func content(t gguf.Tensor) []byte {
	b := make([]byte, t.Size)
	for i := range b {
		b[i] = byte(i*7) + t.Name[len(t.Name)-1]
	}
	return b
}

func build(t rapid.TB, b *gguf.Builder) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := b.Write(&out, fill); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func parse(t rapid.TB, b []byte) *gguf.File {
	t.Helper()
	f, err := gguf.Parse(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// smallModel holds every value type and a few tensors.
func smallModel(version uint32) *gguf.Builder {
	b := &gguf.Builder{Version: version}
	b.Set("general.architecture", "llama")
	b.Set("u8", uint8(200))
	b.Set("i8", int8(-8))
	b.Set("u16", uint16(60000))
	b.Set("i16", int16(-16))
	b.Set("u32", uint32(1<<31))
	b.Set("i32", int32(-32))
	b.Set("u64", uint64(1)<<63)
	b.Set("i64", int64(-64))
	b.Set("f32", float32(1.5))
	b.Set("f64", 2.25)
	b.Set("yes", true)
	b.Set("names", []string{"a", "", "\xff"})
	b.Set("flags", []bool{true, false})
	b.Set("floats", []float32{1, -2})
	b.Set("ints", []int32{-1, 2})
	b.Set("bytes", []uint8{1, 2, 3})
	b.Add("token_embd.weight", gguf.F32, 4, 2)
	b.Add("blk.0.attn_q.weight", gguf.Q8_0, 32, 3)
	b.Add("output_norm.weight", gguf.F16, 5)
	return b
}

func TestSmallModelReadsBackInBothVersions(t *testing.T) {
	for _, version := range []uint32{2, 3} {
		raw := build(t, smallModel(version))
		f := parse(t, raw)
		if f.Version != version || f.Alignment != 32 || len(f.Tensors) != 3 {
			t.Errorf("version %d, alignment %d, %d tensors", f.Version, f.Alignment, len(f.Tensors))
		}
		q, ok := f.Tensor("blk.0.attn_q.weight")
		if !ok || q.Size != 3*34 || q.Rows() != 3 || q.Elems() != 96 || q.Offset%32 != 0 {
			t.Errorf("tensor %+v", q)
		}
		for _, ten := range f.Tensors {
			got, err := f.Data(ten)
			if err != nil || !bytes.Equal(got, content(ten)) {
				t.Errorf("%s: data differs, %v", ten.Name, err)
			}
		}
		if !bytes.HasPrefix(raw, f.HeaderBytes()) {
			t.Error("header bytes are not the file's beginning")
		}
		if again := build(t, smallModel(version)); !bytes.Equal(raw, again) {
			t.Error("the same calls gave other bytes")
		}
	}
}

func TestHeaderAloneGivesTheSameModelWithoutData(t *testing.T) {
	raw := build(t, smallModel(3))
	whole := parse(t, raw)
	f, err := gguf.ParseHeader(whole.HeaderBytes(), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(whole.Tensors, f.Tensors); diff != "" {
		t.Error(diff)
	}
	if _, err := f.Data(f.Tensors[0]); err == nil {
		t.Error("data from a header alone")
	}
	f.Evict(f.Tensors[0])
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(whole.Parts(), f.Parts()); diff != "" {
		t.Error(diff)
	}
}

// drawValue draws a metadata value of any type.
func drawValue(t *rapid.T) any {
	return rapid.OneOf(
		rapid.Uint8().AsAny(), rapid.Int8().AsAny(), rapid.Uint16().AsAny(), rapid.Int16().AsAny(), rapid.Uint32().AsAny(),
		rapid.Int32().AsAny(), rapid.Uint64().AsAny(), rapid.Int64().AsAny(), rapid.Float32().AsAny(), rapid.Float64().AsAny(),
		rapid.Bool().AsAny(), rapid.String().AsAny(), rapid.Int().AsAny(), rapid.Uint().AsAny(),
		rapid.SliceOf(rapid.String()).AsAny(), rapid.SliceOf(rapid.Int8()).AsAny(), rapid.SliceOf(rapid.Uint16()).AsAny(),
		rapid.SliceOf(rapid.Int16()).AsAny(), rapid.SliceOf(rapid.Uint32()).AsAny(), rapid.SliceOf(rapid.Int32()).AsAny(),
		rapid.SliceOf(rapid.Uint64()).AsAny(), rapid.SliceOf(rapid.Int64()).AsAny(), rapid.SliceOf(rapid.Float32()).AsAny(),
		rapid.SliceOf(rapid.Float64()).AsAny(), rapid.SliceOf(rapid.Bool()).AsAny(), rapid.SliceOf(rapid.Uint8()).AsAny(),
	).Draw(t, "value")
}

func TestAnythingWrittenReadsBackAndWritesAgainToTheSameBytes(t *testing.T) {
	types := []gguf.Type{gguf.F32, gguf.Q4_0, gguf.Q6_K, gguf.BF16, gguf.I8, gguf.MXFP4}
	rapid.Check(t, func(t *rapid.T) {
		b := &gguf.Builder{Version: rapid.SampledFrom([]uint32{0, 2, 3}).Draw(t, "version")}
		if rapid.Bool().Draw(t, "aligned") {
			b.Set(gguf.AlignmentKey, uint32(1)<<rapid.IntRange(0, 8).Draw(t, "alignment"))
		}
		for i := range rapid.IntRange(0, 6).Draw(t, "keys") {
			b.Set(fmt.Sprintf("key.%d", i), drawValue(t))
		}
		for i := range rapid.IntRange(0, 4).Draw(t, "tensors") {
			typ := rapid.SampledFrom(types).Draw(t, "type")
			dims := []uint64{typ.BlockElems() * rapid.Uint64Range(1, 3).Draw(t, "blocks")}
			for range rapid.IntRange(0, 3).Draw(t, "more") {
				dims = append(dims, rapid.Uint64Range(1, 3).Draw(t, "dim"))
			}
			b.Add(fmt.Sprintf("tensor.%d", i), typ, dims...)
		}
		raw := build(t, b)
		f := parse(t, raw)
		again := &gguf.Builder{Version: f.Version}
		again.SetAll(f.Meta)
		for _, ten := range f.Tensors {
			again.Add(ten.Name, ten.Type, ten.Dims...)
		}
		if !bytes.Equal(raw, build(t, again)) {
			t.Fatal("the copy differs from the original")
		}
	})
}

// writeSplit writes a model in count parts and returns their paths.
func writeSplit(t *testing.T, dir string, count int) []string {
	t.Helper()
	var paths []string
	for i := range count {
		b := &gguf.Builder{}
		b.Set("general.architecture", "llama")
		b.Set("split.no", uint16(i))
		b.Set("split.count", uint16(count))
		b.Set("split.tensors.count", int32(2*count))
		b.Add(fmt.Sprintf("blk.%d.a", i), gguf.F32, 8)
		b.Add(fmt.Sprintf("blk.%d.b", i), gguf.Q4_0, 32, 2)
		path := filepath.Join(dir, gguf.SplitName("model", i, count))
		if err := os.WriteFile(path, build(t, b), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func TestSplitModelOpensByAnyPartAndFromHeaders(t *testing.T) {
	paths := writeSplit(t, t.TempDir(), 3)
	for _, path := range paths {
		f := openTest(t, path)
		if len(f.Tensors) != 6 || !cmp.Equal(f.Paths(), paths) {
			t.Fatalf("%d tensors in %v", len(f.Tensors), f.Paths())
		}
		ten, _ := f.Tensor("blk.2.b")
		got, err := f.Data(ten)
		if err != nil || ten.Part != 2 || !bytes.Equal(got, content(ten)) {
			t.Errorf("%+v, %v", ten, err)
		}
		h, err := gguf.ParseHeaders(f.Parts())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(f.Tensors, h.Tensors); diff != "" {
			t.Error(diff)
		}
	}
}

func TestEvictedTensorStaysReadable(t *testing.T) {
	f := openTest(t, filepath.Join("testdata", "llama-Q2_K.gguf"))
	ten := f.Tensors[len(f.Tensors)-1]
	before, err := f.Data(ten)
	if err != nil {
		t.Fatal(err)
	}
	kept := bytes.Clone(before)
	f.Evict(ten)
	if !bytes.Equal(kept, before) {
		t.Error("the bytes changed")
	}
}

func TestBuilderRefusesWhatNoReaderAccepts(t *testing.T) {
	for name, prepare := range map[string]func(*gguf.Builder){
		"unknown Go type": func(b *gguf.Builder) { b.Set("k", struct{}{}) },
		"empty key":       func(b *gguf.Builder) { b.Set("", 1) },
		"alignment 3":     func(b *gguf.Builder) { b.Set(gguf.AlignmentKey, 3) },
		"version 4":       func(b *gguf.Builder) { b.Version = 4 },
		"no dimensions":   func(b *gguf.Builder) { b.Add("t", gguf.F32) },
		"half a block":    func(b *gguf.Builder) { b.Add("t", gguf.Q4_0, 16) },
		"unknown type":    func(b *gguf.Builder) { b.Add("t", gguf.Type(99), 16) },
		"twice":           func(b *gguf.Builder) { b.Add("t", gguf.F32, 1); b.Add("t", gguf.F32, 1) },
		"mixed array":     func(b *gguf.Builder) { b.Set("k", []gguf.Value{{}}) },
	} {
		b := &gguf.Builder{}
		prepare(b)
		if err := b.Write(io.Discard, fill); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	for name, fill := range map[string]func(gguf.Tensor, io.Writer) error{
		"too few bytes":  func(_ gguf.Tensor, w io.Writer) error { _, err := w.Write([]byte{1}); return err },
		"too many bytes": func(t gguf.Tensor, w io.Writer) error { _, err := w.Write(make([]byte, t.Size+1)); return err },
	} {
		b := &gguf.Builder{}
		b.Add("t", gguf.F32, 2)
		if err := b.Write(io.Discard, fill); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}
