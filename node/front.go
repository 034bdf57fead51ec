package node

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/weft-mesh/weft/node/api"
)

// front is what this node listens on for people and programs: the socket of
// the command line and the HTTP surface.
type front struct {
	log   *slog.Logger
	local *api.Surface
	http  *api.Surface // nil for none
	dir   string       // private directory of the socket of a run without a daemon
}

// startFront listens. A run without a daemon shares its home with others, so
// its socket lies elsewhere.
func (n *Node) startFront() (*front, error) {
	f := &front{log: n.log}
	dir := n.cfg.Home
	if n.cfg.Solo {
		var err error
		if dir, err = os.MkdirTemp("", "weft-solo-"); err != nil {
			return nil, fmt.Errorf("start api: %w", err)
		}
		f.dir = dir
	}
	var err error
	f.local, err = api.ServeLocal(n, filepath.Join(dir, api.SocketName), n.log)
	if err == nil && !n.cfg.Solo && n.cfg.HTTP != "off" {
		f.http, err = api.ServeHTTP(n, api.HTTPOptions{Addr: n.cfg.HTTP, Keys: n.cfg.APIKeys, Hosts: n.cfg.Hosts, Log: n.log})
	}
	if err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// socket is where the whole API listens, "" before it does.
func (f *front) socket() string {
	if f == nil || f.local == nil {
		return ""
	}
	return f.local.Addr()
}

// addr is where the HTTP surface listens, "" for nowhere.
func (f *front) addr() string {
	if f == nil || f.http == nil {
		return ""
	}
	return f.http.Addr()
}

// close cancels requests that run and waits for their handlers, within bounds.
func (f *front) close() {
	if f == nil {
		return
	}
	var err error
	if f.http != nil {
		err = f.http.Close()
	}
	if f.local != nil {
		err = errors.Join(err, f.local.Close())
	}
	if f.dir != "" {
		err = errors.Join(err, os.RemoveAll(f.dir))
	}
	if err != nil {
		f.log.Warn("api did not close cleanly", "error", err)
	}
}
