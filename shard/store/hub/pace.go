package hub

import (
	"context"
	"io"
	"net/http"
)

// paced reads the bodies of answers no faster than pace allows. What is not read
// stays in the connection's buffers, and the server sends no more.
type paced struct {
	http.RoundTripper
	pace func(ctx context.Context, left int) (int, error)
}

// RoundTrip implements http.RoundTripper.
func (p paced) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := p.RoundTripper.RoundTrip(req)
	if err == nil && resp.Body != nil {
		resp.Body = pacedBody{resp.Body, req.Context(), p.pace}
	}
	return resp, err
}

type pacedBody struct {
	io.ReadCloser
	ctx  context.Context
	pace func(ctx context.Context, left int) (int, error)
}

// Read implements io.Reader.
func (b pacedBody) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := b.pace(b.ctx, len(p))
	if err != nil {
		return 0, err
	}
	return b.ReadCloser.Read(p[:min(max(n, 1), len(p))])
}
