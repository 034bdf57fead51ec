package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
)

// maxAnswer bounds a plain answer of a daemon.
const maxAnswer = 64 << 20

// Client asks a daemon over its socket. It is a Node, safe for concurrent use.
type Client struct {
	http   *http.Client
	secret string
	socket string
}

var _ Node = (*Client)(nil)

// Dial finds the daemon of a home. The error wraps ErrNoDaemon when there is
// none.
func Dial(home string) (*Client, error) { return DialSocket(filepath.Join(home, SocketName)) }

// DialSocket is Dial with what Running.Socket gave.
func DialSocket(path string) (*Client, error) {
	e, err := readEndpoint(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNoDaemon
	}
	if err != nil {
		return nil, fmt.Errorf("find the weft of %s: %w", path, err)
	}
	conn, err := e.dial(context.Background())
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist) || (err != nil && e.network == "tcp") {
		return nil, ErrNoDaemon
	}
	if err != nil {
		return nil, fmt.Errorf("reach the weft of %s: %w", path, err)
	}
	conn.Close()
	t := &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return e.dial(ctx) },
		DisableCompression: true,
	}
	return &Client{http: &http.Client{Transport: t}, secret: e.secret, socket: path}, nil
}

// Close drops idle connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// Status implements Node.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return plain[Status](ctx, c, http.MethodGet, "status", nil)
}

// Peers implements Node.
func (c *Client) Peers(ctx context.Context) ([]Peer, error) {
	return plain[[]Peer](ctx, c, http.MethodGet, "peers", nil)
}

// Models implements Node.
func (c *Client) Models(ctx context.Context) ([]Model, error) {
	return plain[[]Model](ctx, c, http.MethodGet, "models", nil)
}

// Overview implements Node.
func (c *Client) Overview(ctx context.Context) (Overview, error) {
	return plain[Overview](ctx, c, http.MethodGet, "overview", nil)
}

// Checkup implements Node.
func (c *Client) Checkup(ctx context.Context) (Checkup, error) {
	return plain[Checkup](ctx, c, http.MethodGet, "checkup", nil)
}

// RemoveModel implements Node.
func (c *Client) RemoveModel(ctx context.Context, ref string) (Model, error) {
	return plain[Model](ctx, c, http.MethodPost, "rm", removeRequest{ref})
}

// PinModel implements Node.
func (c *Client) PinModel(ctx context.Context, r PinRequest) (Model, error) {
	return plain[Model](ctx, c, http.MethodPost, "pin", r)
}

// Invite implements Node.
func (c *Client) Invite(ctx context.Context, r InviteRequest) (Invite, error) {
	return plain[Invite](ctx, c, http.MethodPost, "invite", r)
}

// Leave implements Node.
func (c *Client) Leave(ctx context.Context) error {
	_, err := plain[struct{}](ctx, c, http.MethodPost, "leave", struct{}{})
	return err
}

// AddModel implements Node.
func (c *Client) AddModel(ctx context.Context, r AddRequest, progress func(Progress)) (Model, error) {
	return long[Model](ctx, c, "add", r, progress, nil)
}

// PullModel implements Node.
func (c *Client) PullModel(ctx context.Context, r PullRequest, progress func(Progress)) (Model, error) {
	return long[Model](ctx, c, "pull", r, progress, nil)
}

// Plan implements Node.
func (c *Client) Plan(ctx context.Context, r PlanRequest, progress func(Progress)) (Plan, error) {
	return long[Plan](ctx, c, "plan", r, progress, nil)
}

// Generate implements Node. Its error is emit's or ctx's when one of them ended
// the reply.
func (c *Client) Generate(ctx context.Context, r GenerateRequest, emit func(Event) error) (Reply, error) {
	return long[Reply](ctx, c, "run", r, nil, emit)
}

// WriteMetrics implements Node.
func (c *Client) WriteMetrics(ctx context.Context) ([]byte, error) {
	resp, err := c.do(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return c.read(ctx, resp)
}

// do sends a request and gives the answer to a good one.
func (c *Client) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var rd io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("ask the daemon: %w", err)
		}
		rd = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://weft"+path, rd)
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if c.secret != "" {
		req.Header.Set("Authorization", "Bearer "+c.secret)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.broken(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	b, err := c.read(ctx, resp)
	if err != nil {
		return nil, err
	}
	var e meshError
	if json.Unmarshal(b, &e) != nil || e.Error == nil || e.Error.Message == "" {
		return nil, Errorf(KindInternal, "the daemon answered %s to %s", resp.Status, path)
	}
	if e.Error.Kind == "" { // an error of the surface itself
		e.Error.Kind = KindInvalid
		if resp.StatusCode == http.StatusNotFound {
			e.Error.Kind = KindUnavailable
			e.Error.Message = "the running daemon does not know this command; it is another version: restart it with `weft up`"
		}
	}
	return nil, e.Error
}

func (c *Client) read(ctx context.Context, resp *http.Response) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, c.broken(ctx, err)
	}
	return b, nil
}

// broken says why a connection to the daemon broke.
func (c *Client) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &Error{Kind: KindUnavailable, Message: fmt.Sprintf("the daemon at %s stopped answering (%v); see its terminal, or start it again with `weft up`", c.socket, err), cause: err}
}

func plain[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	var v T
	resp, err := c.do(ctx, method, "/weft/v1/"+path, body)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	b, err := c.read(ctx, resp)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("read the daemon's answer: %w", err)
	}
	return v, nil
}

// long follows the lines of an answer to their result.
func long[T any](ctx context.Context, c *Client, path string, body any, progress func(Progress), emit func(Event) error) (T, error) {
	var v T
	resp, err := c.do(ctx, http.MethodPost, "/weft/v1/"+path, body)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var l line
		if err := dec.Decode(&l); err != nil {
			return v, c.broken(ctx, err)
		}
		switch {
		case l.Error != nil:
			if ctx.Err() != nil {
				return v, ctx.Err()
			}
			return v, l.Error
		case l.Result != nil:
			if err := json.Unmarshal(l.Result, &v); err != nil {
				return v, fmt.Errorf("read the daemon's answer: %w", err)
			}
			return v, nil
		case l.Progress != nil && progress != nil:
			progress(*l.Progress)
		case l.Event != nil && emit != nil:
			if err := emit(*l.Event); err != nil {
				return v, err
			}
		}
	}
}
