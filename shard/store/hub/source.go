package hub

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/weft-mesh/weft/shard/store/fetch"
	"github.com/weft-mesh/weft/shard/store/manifest"
)

// Source gives the chunks of one model by range requests, so that a node gets its layers from the hub without the rest of
// the model. It is a fetch.Source.
type Source struct {
	client  *Client
	id      string
	files   []File
	tensors map[manifest.Hash]*manifest.Tensor

	mu     sync.Mutex // guards direct
	direct map[int]direct
}

// direct is where the hub's address of a file led a moment ago: a store of large files. Asking there spares the hub a
// request for every chunk.
type direct struct {
	url   string
	until time.Time
}

// directTime is how long such an address is used: they are signed and expire.
const directTime = 5 * time.Minute

var _ fetch.Source = (*Source)(nil)

// NewSource makes a source of the model m, whose files at the hub are files, in the order of the split. The hub's bytes
// need not be those of the manifest: whoever fetches checks them.
func (c *Client) NewSource(m *manifest.Manifest, files []File) (*Source, error) {
	if len(files) != len(m.Headers) {
		return nil, fmt.Errorf("the model has %d files, %d are named", len(m.Headers), len(files))
	}
	s := &Source{client: c, id: "hub " + files[0].URL, files: files, tensors: make(map[manifest.Hash]*manifest.Tensor, len(m.Tensors)), direct: make(map[int]direct)}
	for i := range m.Tensors {
		s.tensors[m.Tensors[i].Hash] = &m.Tensors[i]
	}
	return s, nil
}

// ID is the address of the model's first file.
func (s *Source) ID() string { return s.id }

// Has reports whether the tensor is one of the model's.
func (s *Source) Has(tensor manifest.Hash) bool { return s.tensors[tensor] != nil }

// LastResort tells the fetch to ask the hub only for what no peer has.
func (s *Source) LastResort() bool { return true }

// Chunk asks the hub for one chunk. It does not try again; the fetch does.
func (s *Source) Chunk(ctx context.Context, tensor manifest.Hash, index int) ([]byte, error) {
	t := s.tensors[tensor]
	if t == nil {
		return nil, fmt.Errorf("tensor %s is not in %s", tensor.Short(), s.id)
	}
	size := t.ChunkSize(index)
	if size == 0 {
		return nil, fmt.Errorf("tensor %s has no chunk %d", t.Name, index)
	}
	first := t.Offset + uint64(index)*manifest.ChunkBytes
	b := make([]byte, size)
	if address, ok := s.shortcut(t.File); ok {
		if err := s.part(ctx, t.File, address, first, b); err == nil || ctx.Err() != nil {
			return b, err
		}
		s.remember(t.File, "") // expired perhaps: the hub knows a new one
	}
	if err := s.part(ctx, t.File, s.files[t.File].URL, first, b); err != nil {
		return nil, err
	}
	return b, nil
}

// part fills b with the bytes of a file from first on.
func (s *Source) part(ctx context.Context, file int, address string, first uint64, b []byte) error {
	req, err := s.client.request(ctx, http.MethodGet, address)
	if err != nil {
		return err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", first, first+uint64(len(b))-1))
	resp, err := s.client.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := s.client.status(resp); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusPartialContent {
		return fmt.Errorf("%w; pull the whole model instead", ErrNoRanges)
	}
	if _, err := io.ReadFull(resp.Body, b); err != nil {
		return err
	}
	if at := resp.Request.URL.String(); at != s.files[file].URL {
		s.remember(file, at)
	}
	return nil
}

func (s *Source) shortcut(file int) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.direct[file]
	return d.url, ok && time.Now().Before(d.until)
}

// remember notes where a file is; the time runs from the first note, since a signature is not renewed by use.
func (s *Source) remember(file int, address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if address == "" {
		delete(s.direct, file)
		return
	}
	if d, ok := s.direct[file]; !ok || d.url != address {
		s.direct[file] = direct{address, time.Now().Add(directTime)}
	}
}
