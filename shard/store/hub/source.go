package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

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
}

var _ fetch.Source = (*Source)(nil)

// NewSource makes a source of the model m, whose files at the hub are files, in the order of the split. The hub's bytes
// need not be those of the manifest: whoever fetches checks them.
func (c *Client) NewSource(m *manifest.Manifest, files []File) (*Source, error) {
	if len(files) != len(m.Headers) {
		return nil, fmt.Errorf("the model has %d files, %d are named", len(m.Headers), len(files))
	}
	s := &Source{client: c, id: "hub " + files[0].URL, files: files, tensors: make(map[manifest.Hash]*manifest.Tensor, len(m.Tensors))}
	for i := range m.Tensors {
		s.tensors[m.Tensors[i].Hash] = &m.Tensors[i]
	}
	return s, nil
}

// ID is the address of the model's first file.
func (s *Source) ID() string { return s.id }

// Has reports whether the tensor is one of the model's.
func (s *Source) Has(tensor manifest.Hash) bool { return s.tensors[tensor] != nil }

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
	req, err := s.client.request(ctx, http.MethodGet, s.files[t.File].URL)
	if err != nil {
		return nil, err
	}
	first := t.Offset + uint64(index)*manifest.ChunkBytes
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", first, first+uint64(size)-1))
	resp, err := s.client.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := s.client.status(resp); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusPartialContent {
		return nil, errors.New("the server does not send parts of files; pull the whole model instead")
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(resp.Body, b); err != nil {
		return nil, err
	}
	return b, nil
}
