package manifest_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"lukechampine.com/blake3"

	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/store/manifest"
)

func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	var s [32]byte
	binary.LittleEndian.PutUint64(s[:], seed)
	_, _ = rand.NewChaCha8(s).Read(b)
	return b
}

func chunksOf(b []byte) []manifest.Hash {
	var out []manifest.Hash
	for i := 0; i*manifest.ChunkBytes < len(b); i++ {
		end := min(len(b), (i+1)*manifest.ChunkBytes)
		out = append(out, manifest.HashChunk(b[i*manifest.ChunkBytes:end], i, uint64(len(b))))
	}
	return out
}

func TestChunkHashesAddUpToTheTensorsBLAKE3Hash(t *testing.T) {
	const mib = manifest.ChunkBytes
	for _, n := range []int{
		1, 64, 1024, 1025, 16384, 20000, mib - 1, mib, mib + 1, mib + 1024, 2 * mib, 2*mib + 17,
		3 * mib, 3*mib + 16384, 5*mib - 1, 7*mib + 40000, 8 * mib,
	} {
		b := noise(n, uint64(n))
		if got, want := manifest.Root(chunksOf(b)), manifest.Hash(blake3.Sum256(b)); got != want {
			t.Errorf("%d bytes: root %s, BLAKE3 gives %s", n, got, want)
		}
	}
}

// tiny makes a one-file model and its manifest.
func tiny(t testing.TB, layers int) ([]byte, *manifest.Manifest) {
	t.Helper()
	var b gguf.Builder
	b.Set("general.architecture", "llama")
	b.Add("token_embd.weight", gguf.F32, 256, 1200) // more than one chunk
	for l := range layers {
		b.Add("blk."+string(rune('0'+l))+".attn_q.weight", gguf.Q8_0, 256, 64)
		b.Add("blk."+string(rune('0'+l))+".attn_norm.weight", gguf.F32, 256)
	}
	b.Add("output_norm.weight", gguf.F32, 256)
	b.Add("rope_freqs.weight", gguf.F32, 16)
	var file bytes.Buffer
	seed := uint64(0)
	if err := b.Write(&file, func(ts gguf.Tensor, w io.Writer) error {
		seed++
		_, err := w.Write(noise(int(ts.Size), seed))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return file.Bytes(), manifestOf(t, file.Bytes())
}

func manifestOf(t testing.TB, file []byte) *manifest.Manifest {
	t.Helper()
	g, err := gguf.Parse(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	var chunks [][]manifest.Hash
	for _, ts := range g.Tensors {
		chunks = append(chunks, chunksOf(file[ts.Offset:ts.Offset+ts.Size]))
	}
	m, err := manifest.New([][]byte{g.HeaderBytes()}, chunks)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestDecodeGivesBackWhatWasEncodedAndItsIdentity(t *testing.T) {
	file, m := tiny(t, 2)
	b := m.Encode()
	got, err := manifest.DecodeAs(b, manifest.Hash(blake3.Sum256(b)))
	if err != nil {
		t.Fatal(err)
	}
	if got.ID() != m.ID() || !bytes.Equal(got.Encode(), b) {
		t.Fatal("decoding changed the manifest")
	}
	if d := cmp.Diff(m.Tensors, got.Tensors); d != "" {
		t.Fatal(d)
	}
	for i := range got.Tensors {
		ts := &got.Tensors[i]
		if want := manifest.Hash(blake3.Sum256(file[ts.Offset : ts.Offset+ts.Size])); ts.Hash != want {
			t.Errorf("%s: hash %s, its bytes have %s", ts.Name, ts.Hash, want)
		}
	}
	if arch, err := got.Header.Meta.String("general.architecture"); err != nil || arch != "llama" {
		t.Fatalf("architecture %q, %v", arch, err)
	}
}

func TestIdentityChangesWithAnyWeightAndAnyMetadata(t *testing.T) {
	file, m := tiny(t, 1)
	for _, at := range []int{len(file) - 100, bytes.Index(file, []byte("llama"))} {
		other := bytes.Clone(file)
		other[at] ^= 1
		if manifestOf(t, other).ID() == m.ID() {
			t.Errorf("byte %d of the file makes no difference", at)
		}
	}
}

func TestDecodeRefusesEveryOtherManifest(t *testing.T) {
	_, m := tiny(t, 1)
	good := m.Encode()
	for name, b := range map[string][]byte{
		"empty":          nil,
		"wrong magic":    append([]byte("weftman2"), good[8:]...),
		"cut in hashes":  good[:len(good)-1],
		"cut in header":  good[:40],
		"longer":         append(bytes.Clone(good), 0),
		"one hash more":  append(bytes.Clone(good), make([]byte, 32)...),
		"no file":        append([]byte("weftman1"), 0, 0, 0, 0),
		"many files":     append([]byte("weftman1"), 255, 255, 255, 255),
		"endless header": append([]byte("weftman1"), 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 127),
	} {
		if _, err := manifest.Decode(b); !errors.Is(err, manifest.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := manifest.DecodeAs(good, manifest.Hash{1}); !errors.Is(err, manifest.ErrDamaged) {
		t.Errorf("another identity: %v", err)
	}
	// A header that is followed by bytes of no meaning would give one model two identities.
	h := m.Headers[0]
	long := append([]byte("weftman1"), 1, 0, 0, 0)
	long = binary.LittleEndian.AppendUint64(long, uint64(len(h)+1))
	long = append(append(long, h...), 0)
	long = append(long, good[8+4+8+len(h):]...)
	if _, err := manifest.Decode(long); !errors.Is(err, manifest.ErrDamaged) || !strings.Contains(err.Error(), "do not belong") {
		t.Errorf("padded header: %v", err)
	}
}

func TestNewRefusesHashesThatDoNotFitTheHeader(t *testing.T) {
	_, m := tiny(t, 1)
	var chunks [][]manifest.Hash
	for _, ts := range m.Tensors {
		chunks = append(chunks, ts.Chunks)
	}
	if _, err := manifest.New(m.Headers, chunks[1:]); err == nil {
		t.Error("a tensor without hashes was accepted")
	}
	chunks[0] = chunks[0][:1]
	if _, err := manifest.New(m.Headers, chunks); err == nil {
		t.Error("a tensor with too few hashes was accepted")
	}
}

func TestCheckAcceptsTheChunkAlone(t *testing.T) {
	file, m := tiny(t, 1)
	ts, ok := m.Tensor("token_embd.weight")
	if !ok || len(ts.Chunks) != 2 {
		t.Fatal("the test needs a tensor of two chunks")
	}
	data := file[ts.Offset : ts.Offset+ts.Size]
	first, second := data[:manifest.ChunkBytes], data[manifest.ChunkBytes:]
	if err := errors.Join(ts.Check(0, first), ts.Check(1, second)); err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(second)
	bad[len(bad)-1] ^= 128
	for name, err := range map[string]error{
		"flipped bit": ts.Check(1, bad), "other chunk": ts.Check(0, second), "short": ts.Check(1, second[1:]),
		"no such chunk": ts.Check(2, nil), "negative": ts.Check(-1, first),
	} {
		if !errors.Is(err, manifest.ErrWrongChunk) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRangeTakesWhatAStageNeedsAndNoMore(t *testing.T) {
	_, m := tiny(t, 3)
	for _, c := range []struct {
		first, end int
		want       string
	}{
		{0, 1, "token_embd.weight blk.0.attn_q.weight blk.0.attn_norm.weight rope_freqs.weight"},
		{1, 2, "blk.1.attn_q.weight blk.1.attn_norm.weight rope_freqs.weight"},
		{2, 3, "token_embd.weight blk.2.attn_q.weight blk.2.attn_norm.weight output_norm.weight rope_freqs.weight"},
	} {
		ts, err := m.Range(c.first, c.end)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, x := range ts {
			names = append(names, x.Name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("layers %d to %d: %s, want %s", c.first, c.end, got, c.want)
		}
	}
	for _, r := range [][2]int{{0, 4}, {-1, 2}, {1, 1}, {2, 1}} {
		if _, err := m.Range(r[0], r[1]); err == nil {
			t.Errorf("layers %v were accepted", r)
		}
	}
}

func TestLayerReadsOnlyNamesOfLayers(t *testing.T) {
	for name, want := range map[string]int{"blk.0.x": 0, "blk.17.ffn_up.weight": 17} {
		if n, ok := manifest.Layer(name); !ok || n != want {
			t.Errorf("%s: %d, %v", name, n, ok)
		}
	}
	for _, name := range []string{"output.weight", "blk.", "blk.1", "blk.-1.x", "blk.01.x", "blk.9999999.x", "blk.a.x", "blk.+1.x"} {
		if n, ok := manifest.Layer(name); ok {
			t.Errorf("%s is said to be of layer %d", name, n)
		}
	}
}

func TestHashTextRoundTrips(t *testing.T) {
	h := manifest.Sum([]byte("x"))
	text, err := h.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var back manifest.Hash
	if err := back.UnmarshalText(text); err != nil || back != h || back.IsZero() || h.Short() != string(text[:12]) {
		t.Fatalf("%s, %v", back, err)
	}
	for _, s := range []string{"", "ab", strings.Repeat("g", 64)} {
		if back.UnmarshalText([]byte(s)) == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

func FuzzDecode(f *testing.F) {
	_, m := tiny(f, 1)
	good := m.Encode()
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte("weftman1\x01\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := manifest.Decode(b)
		if err != nil {
			return
		}
		if !bytes.Equal(m.Encode(), b) {
			t.Fatal("an accepted manifest has another encoding")
		}
		if m.Layers() > 0 {
			if _, err := m.Range(0, m.Layers()); err != nil {
				t.Fatal(err)
			}
		}
		_ = m.Size()
	})
}
