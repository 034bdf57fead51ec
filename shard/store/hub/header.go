package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/weft-mesh/weft/shard/gguf"
)

// Header reads a model's metadata and tensor infos from the hub by range requests, without its weights: files are all
// parts of one model, as Pick gives them.
func (c *Client) Header(ctx context.Context, files []File) (*gguf.File, error) {
	parts := make([]gguf.Part, len(files))
	for i, f := range files {
		b, err := c.header(ctx, f)
		if err != nil {
			return nil, fmt.Errorf("read the header of %s: %w", f.Path, err)
		}
		parts[i] = gguf.Part{Header: b, Size: f.Size}
	}
	return gguf.ParseHeaders(parts)
}

// maxHeader is the largest header that is read over the network; the largest vocabularies take some 30 MiB.
const maxHeader = 128 << 20

// header reads as much of a file's beginning as its header takes.
func (c *Client) header(ctx context.Context, f File) ([]byte, error) {
	for n := int64(1 << 20); ; n *= 4 {
		n = min(n, f.Size, maxHeader)
		b, err := c.span(ctx, f, n)
		if err != nil {
			return nil, err
		}
		_, err = gguf.ParseHeaders([]gguf.Part{{Header: b, Size: f.Size}})
		if errors.Is(err, gguf.ErrTruncated) && n < f.Size && n < maxHeader {
			continue
		}
		return b, nil // what else is wrong with it, the caller finds out
	}
}

// span reads the first n bytes of a file.
func (c *Client) span(ctx context.Context, f File, n int64) ([]byte, error) {
	b := make([]byte, n)
	err := c.retry(ctx, func(ctx context.Context) error {
		req, err := c.request(ctx, http.MethodGet, f.URL)
		if err != nil {
			return permanent{err}
		}
		req.Header.Set("Range", fmt.Sprintf("bytes=0-%d", n-1))
		resp, err := c.http.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }() // of a server that ignores ranges, the rest is not read
		if err := c.status(resp); err != nil {
			return err
		}
		_, err = io.ReadFull(resp.Body, b)
		return err
	})
	return b, err
}
