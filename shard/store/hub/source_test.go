package hub_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/store/fetch"
	"github.com/weft-mesh/weft/shard/store/hub"
	"github.com/weft-mesh/weft/shard/store/manifest"
)

// memory is a sink.
type memory struct {
	mu  sync.Mutex // guards got
	got map[string][]byte
}

func (*memory) Has(*manifest.Tensor) bool { return false }

func (m *memory) Put(_ context.Context, t *manifest.Tensor, src io.ReaderAt) error {
	b := make([]byte, t.Size)
	_, err := src.ReadAt(b, 0)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.got[t.Name] = b
	return err
}

func TestLayersComeFromTheHubByRangeRequests(t *testing.T) {
	var b gguf.Builder
	b.Add("blk.0.a", gguf.F32, 1000, 700)
	b.Add("blk.1.a", gguf.F32, 1000, 300)
	var file bytes.Buffer
	data := make(map[string][]byte)
	err := b.Write(&file, func(x gguf.Tensor, w io.Writer) error {
		data[x.Name] = noise(int(x.Size))
		_, err := w.Write(data[x.Name])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	g, err := gguf.Parse(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	var chunks [][]manifest.Hash
	for _, x := range g.Tensors {
		d, hs := data[x.Name], []manifest.Hash(nil)
		for i := 0; i*manifest.ChunkBytes < len(d); i++ {
			hs = append(hs, manifest.HashChunk(d[i*manifest.ChunkBytes:min(len(d), (i+1)*manifest.ChunkBytes)], i, x.Size))
		}
		chunks = append(chunks, hs)
	}
	m, err := manifest.New([][]byte{g.HeaderBytes()}, chunks)
	if err != nil {
		t.Fatal(err)
	}
	h := newHub(t, map[string][]byte{"m.gguf": file.Bytes()})
	h.fail = []int{503}
	h.cutAfter = []int{100}
	c := h.client(hub.Options{})
	files, err := c.List(t.Context(), "o/r")
	if err != nil {
		t.Fatal(err)
	}
	if files, err = hub.Pick(files, ""); err != nil {
		t.Fatal(err)
	}
	src, err := c.NewSource(m, files)
	if err != nil {
		t.Fatal(err)
	}
	layer, err := m.Range(0, 1)
	if err != nil {
		t.Fatal(err)
	}
	sink := &memory{got: map[string][]byte{}}
	if err := fetch.Fetch(t.Context(), layer, []fetch.Source{src}, fetch.Options{Dir: t.TempDir(), Sink: sink, Backoff: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if len(sink.got) != 1 || !bytes.Equal(sink.got["blk.0.a"], data["blk.0.a"]) {
		t.Error("the layer differs")
	}
	if !strings.HasPrefix(src.ID(), "hub http") {
		t.Error(src.ID())
	}
	h.mu.Lock()
	h.noRange = true
	h.mu.Unlock()
	if _, err := src.Chunk(t.Context(), layer[0].Hash, 0); err == nil || !strings.Contains(err.Error(), "parts of files") {
		t.Error(err)
	}
	if _, err := src.Chunk(t.Context(), layer[0].Hash, 9); err == nil {
		t.Error("a chunk that does not exist came")
	}
	if _, err := src.Chunk(t.Context(), manifest.Hash{}, 0); err == nil {
		t.Error("a tensor that does not exist came")
	}
	if _, err := c.NewSource(m, nil); err == nil {
		t.Error("a model without files was accepted")
	}
}
