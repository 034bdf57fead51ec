package packed_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/kernels/quant"
	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/store/manifest"
	"github.com/weft-mesh/weft/shard/store/packed"
)

// matrix makes Q8_0 weights with finite scales.
func matrix(rows, cols int) ([]byte, packed.Spec) {
	b := make([]byte, rows*cols/32*34)
	_, _ = rand.NewChaCha8([32]byte{byte(rows), byte(cols)}).Read(b)
	for at := 0; at < len(b); at += 34 {
		b[at+1] &^= 0x40
	}
	return b, packed.Spec{Tensor: manifest.Sum(b), Type: quant.Q8_0, Rows: rows, Cols: cols, Size: int64(len(b))}
}

func create(t *testing.T, dir string, s packed.Spec, b []byte) {
	t.Helper()
	if err := packed.Create(t.Context(), dir, s, bytes.NewReader(b), packed.Options{Parallel: 2, Verify: true}); err != nil {
		t.Fatal(err)
	}
}

func TestPackedFileGivesAnyBytesOfTheTensorBack(t *testing.T) {
	dir := t.TempDir()
	for _, rows := range []int{1, 16, 17, 1000} {
		b, spec := matrix(rows, 2048)
		create(t, dir, spec, b)
		f, err := packed.Open(dir, spec)
		if err != nil {
			t.Fatal(err)
		}
		f.WillNeed()
		f.Evict()
		for _, c := range [][2]int{{0, len(b)}, {0, 1}, {len(b) - 1, 1}, {len(b) / 3, len(b) / 2}, {len(b), 0}} {
			got := make([]byte, c[1])
			if _, err := f.ReadAt(got, int64(c[0])); err != nil || !bytes.Equal(got, b[c[0]:c[0]+c[1]]) {
				t.Errorf("%d rows: %d bytes at %d differ (%v)", rows, c[1], c[0], err)
			}
		}
		for _, c := range [][2]int64{{-1, 1}, {int64(len(b)), 1}, {0, int64(len(b)) + 1}} {
			if _, err := f.ReadAt(make([]byte, c[1]), c[0]); err == nil {
				t.Errorf("%d bytes at %d were read", c[1], c[0])
			}
		}
		if d := cmp.Diff(spec, f.Spec()); d != "" {
			t.Error(d)
		}
		if f.Matrix().Rows != rows {
			t.Errorf("%d rows", f.Matrix().Rows)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPackedPlanesAreTheKernelsOwn(t *testing.T) {
	b, spec := matrix(70, 256)
	dir := t.TempDir()
	create(t, dir, spec, b)
	f, err := packed.Open(dir, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	want, err := quant.New(spec.Type, spec.Rows, spec.Cols)
	if err != nil {
		t.Fatal(err)
	}
	if err := want.Pack(b, 0, want.Groups()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want.Quants, f.Matrix().Quants) || !bytes.Equal(want.Scales, f.Matrix().Scales) {
		t.Error("the file's planes differ from those of quant.Pack")
	}
}

func TestRawFileKeepsTheBytes(t *testing.T) {
	dir := t.TempDir()
	b := bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7}, 200000)
	spec := packed.Spec{Tensor: manifest.Sum(b), Type: 26, Rows: 1, Cols: len(b) / 4, Size: int64(len(b)), Raw: true}
	create(t, dir, spec, b)
	f, err := packed.Open(dir, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	got := make([]byte, len(b))
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, b) || f.Matrix() != nil {
		t.Error("the raw file differs", err)
	}
}

func TestSpecOfKeepsVectorsAndForeignTypesRaw(t *testing.T) {
	for _, c := range []struct {
		typ  gguf.Type
		dims []uint64
		size uint64
		raw  bool
	}{
		{gguf.Q8_0, []uint64{64, 3}, 64 / 32 * 34 * 3, false},
		{gguf.F32, []uint64{64, 3, 5}, 64 * 15 * 4, false},
		{gguf.F32, []uint64{64}, 64 * 4, true},
		{gguf.I32, []uint64{64, 3}, 64 * 3 * 4, true},
		{gguf.IQ2_S, []uint64{256, 2}, 164, true},
		{gguf.F32, []uint64{1 << 40, 2}, 1 << 43, true},
	} {
		s := packed.SpecOf(&manifest.Tensor{Type: c.typ, Dims: c.dims, Size: c.size})
		if s.Raw != c.raw || s.Bytes() <= packed.HeaderBytes {
			t.Errorf("%s %v: %+v", c.typ, c.dims, s)
		}
	}
}

func TestDamagedFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	b, spec := matrix(16, 64)
	create(t, dir, spec, b)
	path := filepath.Join(dir, spec.Name())
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(b []byte) []byte{
		"empty":     func([]byte) []byte { return nil },
		"cut":       func(b []byte) []byte { return b[:len(b)-1] },
		"longer":    func(b []byte) []byte { return append(b, 0) },
		"magic":     func(b []byte) []byte { b[0]++; return b },
		"version":   func(b []byte) []byte { b[8]++; return b },
		"rows":      func(b []byte) []byte { b[24]++; return b },
		"hash":      func(b []byte) []byte { b[64]++; return b },
		"checksum":  func(b []byte) []byte { b[96]++; return b },
		"spare":     func(b []byte) []byte { b[4000]++; return b },
		"kind":      func(b []byte) []byte { b[12] = 1; return b },
		"huge rows": func(b []byte) []byte { copy(b[24:], bytes.Repeat([]byte{255}, 8)); return b },
	} {
		if err := os.WriteFile(path, change(bytes.Clone(good)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := packed.Open(dir, spec); !errors.Is(err, packed.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	other, otherSpec := matrix(32, 64)
	create(t, dir, otherSpec, other)
	if err := os.Rename(filepath.Join(dir, otherSpec.Name()), path); err != nil {
		t.Fatal(err)
	}
	if _, err := packed.Open(dir, spec); !errors.Is(err, packed.ErrDamaged) {
		t.Errorf("another tensor's file: %v", err)
	}
	if _, err := packed.Open(dir, otherSpec); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func clean(t *testing.T, dir string) {
	t.Helper()
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestFailedCreateLeavesNothingBehind(t *testing.T) {
	b, spec := matrix(2000, 512)
	bad := bytes.Clone(b)
	bad[34*16*1500+1] = 0x7c // an infinite scale
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	var late atomic.Int64
	during, stop := context.WithCancel(t.Context())
	for name, c := range map[string]struct {
		ctx  context.Context
		src  io.ReaderAt
		opt  packed.Options
		spec packed.Spec
		want error
	}{
		"value":     {t.Context(), bytes.NewReader(bad), packed.Options{Parallel: 2}, spec, quant.ErrValue},
		"short":     {t.Context(), bytes.NewReader(b[:len(b)-1]), packed.Options{Parallel: 2}, spec, io.ErrUnexpectedEOF},
		"cancelled": {cancelled, bytes.NewReader(b), packed.Options{}, spec, context.Canceled},
		"cut off": {during, bytes.NewReader(b), packed.Options{Done: func(int64) {
			if late.Add(1) == 1 {
				stop()
			}
		}}, spec, context.Canceled},
		"shape": {t.Context(), bytes.NewReader(b), packed.Options{}, packed.Spec{Type: quant.Q8_0, Rows: 1, Cols: 31, Size: 1}, quant.ErrShape},
	} {
		dir := t.TempDir()
		if err := packed.Create(c.ctx, dir, c.spec, c.src, c.opt); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		clean(t, dir)
	}
}

// disk is a file system that runs full in different ways.
type disk struct {
	packed.Disk
	free   uint64
	writes int64 // that succeed
	noFree bool
	at     string // operation that fails: "create", "truncate", "write", "sync", "rename"
}

func (d *disk) Free(dir string) (uint64, error) {
	if d.noFree {
		return 0, errors.ErrUnsupported
	}
	return d.free, nil
}

func (d *disk) CreateTemp(dir, pattern string) (packed.WriteFile, error) {
	if d.at == "create" {
		return nil, syscall.ENOSPC
	}
	f, err := d.Disk.CreateTemp(dir, pattern)
	return &diskFile{f, d}, err
}

func (d *disk) Rename(from, to string) error {
	if d.at == "rename" {
		return syscall.ENOSPC
	}
	return d.Disk.Rename(from, to)
}

type diskFile struct {
	packed.WriteFile
	d *disk
}

func (f *diskFile) Truncate(n int64) error {
	if f.d.at == "truncate" {
		return syscall.ENOSPC
	}
	return f.WriteFile.Truncate(n)
}

func (f *diskFile) Sync() error {
	if f.d.at == "sync" {
		return syscall.EDQUOT
	}
	return f.WriteFile.Sync()
}

func (f *diskFile) Write(b []byte) (int, error) {
	if f.d.at == "write" {
		return 0, syscall.ENOSPC
	}
	return f.WriteFile.Write(b)
}

func (f *diskFile) WriteAt(b []byte, off int64) (int, error) {
	if f.d.at == "write" {
		if f.d.writes--; f.d.writes < 0 {
			return 0, syscall.ENOSPC
		}
	}
	return f.WriteFile.WriteAt(b, off)
}

func TestFullDiskSaysWhereAndHowMuchIsMissingAndLeavesNoDebris(t *testing.T) {
	b, spec := matrix(2000, 512)
	for _, d := range []*disk{
		{free: 1000},
		{free: 1 << 30, at: "create"},
		{free: 1 << 30, at: "truncate"},
		{free: 1 << 30, at: "write", writes: 3},
		{free: 1 << 30, at: "sync"},
		{free: 1 << 30, at: "rename"},
		{noFree: true, at: "write"},
	} {
		dir := t.TempDir()
		err := packed.Create(t.Context(), dir, spec, bytes.NewReader(b), packed.Options{FS: d})
		if !errors.Is(err, packed.ErrNoSpace) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%+v: %v", d, err)
		}
		clean(t, dir)
		if d.free == 1000 {
			continue
		}
		d.writes = 0
		path := filepath.Join(dir, "x.json")
		if err := packed.ReplaceFile(d, path, []byte("x")); d.at != "truncate" && !errors.Is(err, packed.ErrNoSpace) {
			t.Errorf("replace with %+v: %v", d, err)
		}
		if d.at != "truncate" {
			clean(t, dir)
		}
	}
	if err := packed.CheckSpace(&disk{free: 1 << 20}, "/somewhere", 3<<20); err == nil || !strings.Contains(err.Error(), "2.0 MiB are missing") {
		t.Error(err)
	}
	if packed.Explain(packed.Disk{}, nil, "x", 1) != nil || !errors.Is(packed.Explain(packed.Disk{}, io.EOF, "x", 1), io.EOF) {
		t.Error("other errors are changed")
	}
}

func TestSizeIsReadable(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB", 5 << 30: "5.0 GiB", math.MaxUint64: "16.0 EiB"} {
		if got := packed.Size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestFloatsAreExact(t *testing.T) {
	for _, c := range []struct {
		typ  quant.Type
		b    []byte
		want []float32
	}{
		{quant.F32, binary.LittleEndian.AppendUint32(nil, math.Float32bits(-1.5)), []float32{-1.5}},
		{quant.BF16, []byte{0xc0, 0x3f}, []float32{1.5}},
		{
			quant.F16,
			[]byte{0x00, 0x3c, 0x01, 0x00, 0xff, 0x83, 0xff, 0x7b, 0x00, 0xfc, 0x00, 0x80, 0x00, 0xc5},
			[]float32{1, 0x1p-24, -0x3ffp-24, 65504, float32(math.Inf(-1)), float32(math.Copysign(0, -1)), -5},
		},
	} {
		got, err := packed.Floats(c.typ, c.b)
		if err != nil {
			t.Fatal(err)
		}
		for i := range c.want {
			if math.Float32bits(got[i]) != math.Float32bits(c.want[i]) {
				t.Errorf("%s: %v, want %v", c.typ, got, c.want)
			}
		}
	}
	if _, err := packed.Floats(quant.F32, make([]byte, 5)); err == nil {
		t.Error("five bytes of F32 were accepted")
	}
	if _, err := packed.Floats(quant.Q8_0, make([]byte, 34)); err == nil {
		t.Error("Q8_0 was accepted")
	}
}
