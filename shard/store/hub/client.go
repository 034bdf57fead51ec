package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/weft-mesh/weft/shard/store/packed"
)

// DefaultEndpoint is the hub that is asked when nothing else is configured.
const DefaultEndpoint = "https://huggingface.co"

// Options configure a Client. The zero value asks the public hub without a token.
type Options struct {
	Endpoint string        // the hub's address; "" is DefaultEndpoint
	Token    string        // sent to the hub, never to where it redirects
	Stall    time.Duration // a connection that gives nothing for so long is cut; 0 is 30 s
	Retries  int           // attempts without any progress after which a download fails; 0 is 8
	Backoff  time.Duration // pause before the first retry, doubled at each further up to 30 s; 0 is 500 ms
	// SpaceFactor is how much room is demanded before a download begins, as a multiple of its bytes; 0 is 1. Whoever packs
	// a model before deleting its file needs about 2.1.
	SpaceFactor float64
	Room        func(need uint64) error // makes that much room, or says why it cannot; nil only looks at the disk
	// Pace holds the next piece of at most left bytes of any download back, and says how many of them may be read at
	// once; nil never does. It is called before every read.
	Pace      func(ctx context.Context, left int) (int, error)
	FS        packed.FS         // nil is the disk
	Transport http.RoundTripper // nil is http.DefaultTransport
	Logger    *slog.Logger      // nil logs nothing
}

// FromEnv reads HF_ENDPOINT and HF_TOKEN, e.g. with os.Getenv.
func FromEnv(getenv func(string) string) Options {
	return Options{Endpoint: getenv("HF_ENDPOINT"), Token: strings.TrimSpace(getenv("HF_TOKEN"))}
}

func (o *Options) ensureDefaults() {
	if o.Endpoint == "" {
		o.Endpoint = DefaultEndpoint
	}
	o.Endpoint = strings.TrimRight(o.Endpoint, "/")
	if o.Stall == 0 {
		o.Stall = 30 * time.Second
	}
	if o.Retries == 0 {
		o.Retries = 8
	}
	if o.Backoff == 0 {
		o.Backoff = 500 * time.Millisecond
	}
	if o.SpaceFactor == 0 {
		o.SpaceFactor = 1
	}
	if o.FS == nil {
		o.FS = packed.Disk{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// File is a file at the hub.
type File struct {
	Path   string // in its repository
	Size   int64
	SHA256 string // in lower-case hexadecimal; "" if the hub's list does not say
	URL    string
}

// Status is how far a pull is.
type Status struct {
	File  string // that is being downloaded
	Done  uint64 // bytes of all files, those of earlier runs included
	Total uint64
	Rate  float64 // bytes a second, smoothed over some seconds
}

// Progress is told how a pull goes, a few times a second by one goroutine. It may be nil.
type Progress func(Status)

// Errors of a hub or a server. The wrapping error says which file, and what to do.
var (
	ErrDenied   = errors.New("the hub refuses access")
	ErrNotFound = errors.New("the hub has no such model or file")
	ErrHash     = errors.New("the download does not have the hash that was promised")
)

// Client talks to one hub. Any number of goroutines may use it.
type Client struct {
	opt  Options
	host string // of the endpoint
	http *http.Client
}

// New makes a client. The error says what is wrong with the endpoint.
func New(o Options) (*Client, error) {
	o.ensureDefaults()
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("%q is no address of a hub; HF_ENDPOINT looks like %s", o.Endpoint, DefaultEndpoint)
	}
	c := &Client{opt: o, host: u.Host}
	if o.Transport == nil {
		o.Transport = newTransport()
	}
	if o.Pace != nil {
		o.Transport = paced{o.Transport, o.Pace}
	}
	c.http = &http.Client{Transport: o.Transport, CheckRedirect: c.redirect}
	return c, nil
}

// newTransport keeps as many connections open as a fetch has requests under way.
func newTransport() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	t = t.Clone()
	t.MaxIdleConnsPerHost = 16
	return t
}

// Close closes the connections that wait for a next request.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// redirect lets redirects pass without the token, unless they stay at the hub, and none from https to http.
func (c *Client) redirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	if via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("refused to be redirected from https to %s", req.URL.Scheme)
	}
	if req.URL.Host != c.host {
		req.Header.Del("Authorization")
	}
	return nil
}

func (c *Client) request(ctx context.Context, method, address string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "weft")
	req.Header.Set("Accept-Encoding", "identity") // sizes and ranges are those of the file itself
	if c.opt.Token != "" && req.URL.Host == c.host {
		req.Header.Set("Authorization", "Bearer "+c.opt.Token)
	}
	return req, nil
}

// treeEntry is one file of the hub's list. An LFS file's oid is its SHA-256.
type treeEntry struct {
	Type string `json:"type"`
	Path string `json:"path"`
	Size int64  `json:"size"`
	LFS  *struct {
		OID  string `json:"oid"`
		Size int64  `json:"size"`
	} `json:"lfs"`
}

const (
	maxListBytes = 16 << 20
	maxListPages = 64
	maxFileBytes = 1 << 46
)

var (
	shaPattern  = regexp.MustCompile(`^[0-9a-f]{64}$`)
	nextPattern = regexp.MustCompile(`<([^>]*)>\s*;\s*rel="next"`)
)

// List lists the files of a repository's main branch.
func (c *Client) List(ctx context.Context, repo string) ([]File, error) {
	var out []File
	address := c.opt.Endpoint + "/api/models/" + repo + "/tree/main?recursive=true"
	for range maxListPages {
		entries, next, err := c.page(ctx, address)
		if err != nil {
			return nil, fmt.Errorf("list the files of %s: %w", repo, err)
		}
		for _, e := range entries {
			if f, ok := c.file(repo, e); ok {
				out = append(out, f)
			}
		}
		if next == "" {
			return out, nil
		}
		address = next
	}
	return nil, fmt.Errorf("list the files of %s: the list does not end", repo)
}

func (c *Client) file(repo string, e treeEntry) (File, bool) {
	f := File{Path: e.Path, Size: e.Size}
	if e.LFS != nil {
		f.SHA256, f.Size = strings.ToLower(strings.TrimPrefix(e.LFS.OID, "sha256:")), e.LFS.Size
	}
	if !shaPattern.MatchString(f.SHA256) {
		f.SHA256 = ""
	}
	f.URL = c.address(repo, mainBranch, e.Path)
	return f, e.Type == "file" && f.Size > 0 && f.Size < maxFileBytes
}

// page gets one page of the list, with retries, and the address of the next one at the same hub.
func (c *Client) page(ctx context.Context, address string) ([]treeEntry, string, error) {
	var entries []treeEntry
	var next string
	err := c.retry(ctx, func(ctx context.Context) error {
		req, err := c.request(ctx, http.MethodGet, address)
		if err != nil {
			return permanent{err}
		}
		resp, err := c.http.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if err := c.status(resp); err != nil {
			return err
		}
		b, err := io.ReadAll(io.LimitReader(resp.Body, maxListBytes+1))
		if err != nil {
			return err
		}
		if len(b) > maxListBytes {
			return permanent{errors.New("the list is too long")}
		}
		entries = nil
		if err := json.Unmarshal(b, &entries); err != nil {
			return permanent{fmt.Errorf("the answer is no list of files: %w; is HF_ENDPOINT a hub?", err)}
		}
		next = c.nextPage(req.URL, resp.Header.Get("Link"))
		return nil
	})
	return entries, next, err
}

func (c *Client) nextPage(base *url.URL, link string) string {
	m := nextPattern.FindStringSubmatch(link)
	if m == nil {
		return ""
	}
	u, err := base.Parse(m[1])
	if err != nil || u.Host != c.host {
		return ""
	}
	return u.String()
}

// Pull downloads the model that ref names into a directory of its own under dir and returns its files' paths, the first
// part first. Files that are there already are not downloaded again.
func (c *Client) Pull(ctx context.Context, ref Ref, dir string, progress Progress) ([]string, error) {
	r, err := c.Resolve(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", ref, err)
	}
	return c.PullRelease(ctx, r, dir, progress)
}

// PullRelease is Pull of what Resolve found.
func (c *Client) PullRelease(ctx context.Context, r Release, dir string, progress Progress) ([]string, error) {
	paths, err := c.Download(ctx, r.Files, r.Dir(dir), progress)
	if err != nil {
		return nil, fmt.Errorf("pull hf:%s: %w", r.Repo, err)
	}
	return paths, nil
}

// Dir is the directory under dir where the release's files are put.
func (r *Release) Dir(dir string) string {
	return filepath.Join(dir, strings.ReplaceAll(r.Repo, "/", "--"))
}

// PullURL downloads one file from any web server into dir. sha256 is the hash that it must have, in hexadecimal.
func (c *Client) PullURL(ctx context.Context, address, sha256, dir string, progress Progress) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("pull %s: this is no address of a file on a web server", address)
	}
	f := File{Path: u.Path, URL: address, SHA256: strings.ToLower(sha256)}
	if !shaPattern.MatchString(f.SHA256) {
		return "", fmt.Errorf("pull %s: a file from a web server needs its SHA-256, 64 hexadecimal digits", address)
	}
	if f.Size, _, err = c.head(ctx, address); err != nil {
		return "", fmt.Errorf("pull %s: %w", address, err)
	}
	paths, err := c.Download(ctx, []File{f}, dir, progress)
	if err != nil {
		return "", fmt.Errorf("pull %s: %w", address, err)
	}
	return paths[0], nil
}

// Download gets files into dir, one after the other, and returns their paths. Their names are the last parts of their
// paths. Files of which the right size is there under the final name are taken as they are.
func (c *Client) Download(ctx context.Context, files []File, dir string, progress Progress) ([]string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	m := newMeter(progress)
	var paths []string
	var pending []*download
	var need uint64
	for _, f := range files {
		d, err := c.newDownload(ctx, f, dir)
		if err != nil {
			return nil, err
		}
		paths = append(paths, d.path)
		m.total += uint64(d.file.Size)
		have := d.have()
		m.add(have)
		need += uint64(d.file.Size - have)
		if st, err := os.Stat(d.path); err != nil || st.Size() != d.file.Size {
			pending = append(pending, d)
		}
	}
	if err := c.room(dir, uint64(float64(need)*c.opt.SpaceFactor)); err != nil {
		return nil, err
	}
	stop := m.start()
	defer stop()
	for _, d := range pending {
		m.file.Store(&d.name)
		if err := d.run(ctx, m); err != nil {
			return nil, fmt.Errorf("download %s: %w", d.name, err)
		}
	}
	return paths, nil
}

// room makes sure that need bytes may be written into dir.
func (c *Client) room(dir string, need uint64) error {
	if c.opt.Room != nil {
		return c.opt.Room(need)
	}
	return packed.CheckSpace(c.opt.FS, dir, need)
}
