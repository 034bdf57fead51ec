package hub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/weft-mesh/weft/shard/store/packed"
)

// errStall says that a server holds a connection open and sends nothing.
var errStall = errors.New("the server has stopped sending")

// download is one file on its way. Its bytes gather in a file called like the final one and ".part"; beside it stands the
// server's ETag, so that a file that changed at the server is not glued to the old one's beginning.
type download struct {
	client *Client
	file   File
	name   string // last part of the file's path
	path   string // where it will be
	part   string
	etag   string // of the answer that the part file's bytes came from
}

// newDownload finds out the size and hash that the file must have.
func (c *Client) newDownload(ctx context.Context, f File, dir string) (*download, error) {
	name := path.Base(strings.ReplaceAll(f.Path, `\`, "/"))
	if name == "." || name == ".." || name == "/" || strings.HasPrefix(name, ".") || len(name) > 200 {
		return nil, fmt.Errorf("a file cannot be called %q here", f.Path)
	}
	f, err := c.complete(ctx, f)
	if err != nil {
		return nil, err
	}
	d := &download{client: c, file: f, name: name, path: filepath.Join(dir, name)}
	d.part = d.path + ".part"
	return d, nil
}

// head asks for a file's size and, where the hub tells it, its SHA-256. The hub puts both into the answer that redirects
// to the store of large files, so that one is not followed if it has them.
func (c *Client) head(ctx context.Context, address string) (size int64, sum string, err error) {
	quiet := *c.http
	quiet.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if resp := req.Response; resp != nil && resp.Header.Get("X-Linked-Size") != "" {
			return http.ErrUseLastResponse
		}
		return c.redirect(req, via)
	}
	err = c.retry(ctx, func(ctx context.Context) error {
		req, err := c.request(ctx, http.MethodHead, address)
		if err != nil {
			return permanent{err}
		}
		resp, err := quiet.Do(req)
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if linked := resp.Header.Get("X-Linked-Size"); linked != "" {
			size, err = strconv.ParseInt(linked, 10, 64)
			sum = strings.ToLower(strings.Trim(strings.TrimPrefix(resp.Header.Get("X-Linked-Etag"), "W/"), `"`))
		} else if err := c.status(resp); err != nil {
			return err
		} else {
			size = resp.ContentLength
		}
		if err != nil || size <= 0 || size > maxFileBytes {
			return permanent{errors.New("the server does not say how large the file is")}
		}
		return nil
	})
	if !shaPattern.MatchString(sum) {
		sum = ""
	}
	return size, sum, err
}

// have is how many bytes of the file are here.
func (d *download) have() int64 {
	if st, err := os.Stat(d.path); err == nil && st.Size() == d.file.Size {
		return d.file.Size
	}
	if st, err := os.Stat(d.part); err == nil {
		return min(st.Size(), d.file.Size)
	}
	return 0
}

// run downloads the file, checks it and gives it its name. A wrong hash after a resumption may come from old bytes, so
// the file is fetched once more from its beginning.
func (d *download) run(ctx context.Context, m *meter) error {
	resumed := d.have() > 0
	for {
		if err := d.fill(ctx, m); err != nil {
			return err
		}
		err := d.check(ctx)
		if err == nil {
			_ = os.Remove(d.etagPath())
			return os.Rename(d.part, d.path)
		}
		if !errors.Is(err, ErrHash) {
			return err
		}
		m.add(-d.file.Size)
		_ = os.Remove(d.part)
		_ = os.Remove(d.etagPath())
		if !resumed {
			return err
		}
		resumed = false
		d.client.opt.Logger.Warn("resumed download has a wrong hash and is fetched anew", "file", d.name)
	}
}

func (d *download) etagPath() string { return d.part + ".etag" }

// fill asks for the missing bytes until all are here. Attempts count only as long as none of them brings any.
func (d *download) fill(ctx context.Context, m *meter) error {
	f, err := d.client.opt.FS.OpenPart(d.part)
	if err != nil {
		return packed.Explain(d.client.opt.FS, err, d.part, d.file.Size)
	}
	defer func() { _ = f.Close() }()
	if b, err := os.ReadFile(d.etagPath()); err == nil && len(b) < 256 {
		d.etag = string(b)
	}
	at := d.have()
	for attempt := 1; at < d.file.Size; attempt++ {
		before := at
		var err error
		if at, err = d.attempt(ctx, f, at, m); at > before {
			attempt = 1
		}
		if err == nil {
			continue
		}
		if packed.IsFull(err) {
			return packed.Explain(d.client.opt.FS, err, d.part, d.file.Size)
		}
		if err := d.client.pause(ctx, attempt, err); err != nil {
			return err
		}
	}
	return f.Sync()
}

// sink takes the bytes of a file as they come.
type sink interface {
	io.WriterAt
	Truncate(size int64) error // when a server begins anew
}

// attempt asks once for everything from offset at and gives the offset that was reached.
func (d *download) attempt(ctx context.Context, f sink, at int64, m *meter) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(d.client.opt.Stall, func() { cancel(errStall) })
	defer watch.Stop()
	resp, err := d.ask(ctx, at)
	if err != nil {
		return at, stalled(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		m.add(-at)
		return 0, errors.Join(fmt.Errorf("the server has no bytes from %d on, though the file has %d", at, d.file.Size), f.Truncate(0))
	}
	if err := d.client.status(resp); err != nil {
		return at, err
	}
	start, err := d.begin(resp, at)
	if err != nil {
		return at, err
	}
	if start != at { // the server began anew: so do we
		if err := f.Truncate(start); err != nil {
			return at, permanent{err}
		}
		m.add(start - at)
		at = start
	}
	if d.etag = resp.Header.Get("ETag"); len(d.etag) < 256 && d.part != "" {
		_ = packed.ReplaceFile(d.client.opt.FS, d.etagPath(), []byte(d.etag))
	}
	return d.copy(ctx, f, at, resp.Body, watch, m)
}

// ask sends the request for everything from offset at on.
func (d *download) ask(ctx context.Context, at int64) (*http.Response, error) {
	req, err := d.client.request(ctx, http.MethodGet, d.file.URL)
	if err != nil {
		return nil, permanent{err}
	}
	if at > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", at))
		if d.etag != "" && !strings.HasPrefix(d.etag, "W/") {
			req.Header.Set("If-Range", d.etag)
		}
	}
	return d.client.http.Do(req)
}

var rangePattern = regexp.MustCompile(`^bytes (\d+)-\d+/(\d+|\*)$`)

// begin is the offset of the first byte of the answer.
func (d *download) begin(resp *http.Response, at int64) (int64, error) {
	total := resp.ContentLength
	var start int64
	if resp.StatusCode == http.StatusPartialContent {
		m := rangePattern.FindStringSubmatch(resp.Header.Get("Content-Range"))
		if m == nil {
			return at, permanent{fmt.Errorf("the server sends a part of the file without saying which (%q)", resp.Header.Get("Content-Range"))}
		}
		start, _ = strconv.ParseInt(m[1], 10, 64)
		total, _ = strconv.ParseInt(m[2], 10, 64)
		if start != at {
			return at, permanent{fmt.Errorf("the server sends bytes from %d on, those from %d were asked for", start, at)}
		}
	}
	if total > 0 && total != d.file.Size {
		return at, permanent{fmt.Errorf("the server's file has %d bytes, %d were expected", total, d.file.Size)}
	}
	return start, nil
}

// copy writes the body into the part file, never more than the file has, and watches for a standstill.
func (d *download) copy(ctx context.Context, f sink, at int64, body io.Reader, watch *time.Timer, m *meter) (int64, error) {
	buf := make([]byte, 256<<10)
	for at < d.file.Size {
		n, err := body.Read(buf[:min(int64(len(buf)), d.file.Size-at)])
		if n > 0 {
			watch.Reset(d.client.opt.Stall)
			if _, werr := f.WriteAt(buf[:n], at); werr != nil {
				return at, permanent{werr}
			}
			at += int64(n)
			m.add(int64(n))
		}
		if err != nil && at < d.file.Size {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("the connection ended after %d of %d bytes: %w", at, d.file.Size, io.ErrUnexpectedEOF)
			}
			return at, stalled(ctx, err)
		}
	}
	return at, nil
}

// stalled gives the reason why a request was cut.
func stalled(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStall) {
		return errStall
	}
	return err
}

// check compares the whole file with its hash.
func (d *download) check(ctx context.Context) error {
	f, err := os.Open(d.part)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := f.Read(buf)
		_, _ = h.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != d.file.SHA256 {
		return fmt.Errorf("%w: it has %s, %s was promised; the file was deleted, try again or choose another source", ErrHash, got, d.file.SHA256)
	}
	return nil
}
