package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// Release is one model of a repository, pinned to a revision.
type Release struct {
	Repo     string // owner/name
	Revision string // a commit; a branch where the hub does not tell the commit
	Files    []File // in the order of the split, each with size and SHA-256
}

// mainBranch is what a reference without a revision means.
const mainBranch = "main"

var commitPattern = regexp.MustCompile(`^[0-9a-f]{40}$`)

// Resolve finds the files that ref means, and the revision that they have now, so that all that is downloaded later is of
// this one.
func (c *Client) Resolve(ctx context.Context, ref Ref) (Release, error) {
	files, err := c.List(ctx, ref.Repo)
	if err == nil {
		files, err = Pick(files, ref.Quant)
	}
	if err != nil {
		return Release{}, err
	}
	r := Release{Repo: ref.Repo, Revision: mainBranch}
	for _, f := range files {
		if f, err = c.complete(ctx, f); err != nil {
			return Release{}, err
		}
		r.Files = append(r.Files, f)
	}
	if commit := c.commit(ctx, files[0].URL); commit != "" {
		r.Revision = commit
		for i := range r.Files {
			r.Files[i].URL = c.address(r.Repo, commit, r.Files[i].Path)
		}
	}
	return r, nil
}

// complete asks for the size and hash of a file whose hash the list does not say.
func (c *Client) complete(ctx context.Context, f File) (File, error) {
	if f.SHA256 != "" {
		return f, nil
	}
	size, sum, err := c.head(ctx, f.URL)
	if err != nil {
		return f, fmt.Errorf("ask for the hash of %s: %w", f.Path, err)
	}
	if sum == "" {
		return f, fmt.Errorf("the hub gives no SHA-256 of %s, so a download could not be checked; download it by hand and use weft add", f.Path)
	}
	f.Size, f.SHA256 = size, sum
	return f, nil
}

// commit is the revision that an address of the hub leads to now; "" where the hub does not say.
func (c *Client) commit(ctx context.Context, address string) string {
	ctx, cancel := context.WithTimeout(ctx, c.opt.Stall)
	defer cancel()
	req, err := c.request(ctx, http.MethodHead, address)
	if err != nil {
		return ""
	}
	quiet := *c.http
	quiet.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := quiet.Do(req)
	if err != nil {
		return ""
	}
	_ = resp.Body.Close()
	if id := resp.Header.Get("X-Repo-Commit"); commitPattern.MatchString(id) {
		return id
	}
	return ""
}

// address is where a file of a repository is.
func (c *Client) address(repo, revision, path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return c.opt.Endpoint + "/" + repo + "/resolve/" + url.PathEscape(revision) + "/" + strings.Join(segments, "/")
}

// At makes the release whole again that somebody told of: its files have a path, a size and a hash, and get the address
// at this client's hub.
func (c *Client) At(r Release) (Release, error) {
	if !repoPattern.MatchString(r.Repo) || strings.Contains(r.Repo, "..") || r.Revision == "" || len(r.Files) == 0 {
		return Release{}, fmt.Errorf("%.100q is no release of the hub", r.Repo)
	}
	out := Release{Repo: r.Repo, Revision: r.Revision}
	for _, f := range r.Files {
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) || f.Size <= 0 || f.Size >= maxFileBytes {
			return Release{}, fmt.Errorf("%.100q is no file of the hub", f.Path)
		}
		f.URL = c.address(r.Repo, r.Revision, f.Path)
		out.Files = append(out.Files, f)
	}
	return out, nil
}

// ErrNoRanges is wrapped by errors about a server that only sends whole files.
var ErrNoRanges = errors.New("the server does not send parts of files")

// checkRanges makes sure that parts of a file can be asked for.
func (c *Client) checkRanges(ctx context.Context, f File) error {
	return c.retry(ctx, func(ctx context.Context) error {
		req, err := c.request(ctx, http.MethodGet, f.URL)
		if err != nil {
			return permanent{err}
		}
		req.Header.Set("Range", "bytes=0-0")
		resp, err := c.http.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if err := c.status(resp); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusPartialContent {
			return permanent{fmt.Errorf("%w; pull the whole model, without --lazy", ErrNoRanges)}
		}
		return nil
	})
}
