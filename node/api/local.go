package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// SocketName is the name of the daemon's socket in its home. Where a socket
// cannot be had there (a path over the system's limit, Windows) it is a small
// file that says where the daemon listens instead; see endpoint.
const SocketName = "weft.sock"

// maxSocketPath is what the shortest sockaddr_un of the systems that weft runs
// on holds (macOS: 104 bytes with the final zero).
const maxSocketPath = 103

// ErrNoDaemon says that no node listens in a home.
var ErrNoDaemon = errors.New("no weft is running here: start it with `weft up`")

// endpoint is where a daemon listens: "unix PATH", or "tcp ADDR SECRET", where
// the secret stands in for a socket's file permissions.
type endpoint struct {
	network, addr, secret string
}

// readEndpoint finds out what lies at path: a socket, or a file that names one.
func readEndpoint(path string) (endpoint, error) {
	st, err := os.Stat(path)
	if err != nil {
		return endpoint{}, err
	}
	if !st.Mode().IsRegular() {
		return endpoint{network: "unix", addr: path}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return endpoint{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return endpoint{}, err
	}
	return parseEndpoint(b)
}

func parseEndpoint(b []byte) (endpoint, error) {
	kind, rest, _ := strings.Cut(string(bytes.TrimSpace(b)), " ")
	switch kind {
	case "unix":
		if rest != "" {
			return endpoint{network: "unix", addr: rest}, nil
		}
	case "tcp":
		addr, secret, _ := strings.Cut(rest, " ")
		if host, _, err := net.SplitHostPort(addr); err == nil && isLoopback(host) && len(secret) >= 32 {
			return endpoint{network: "tcp", addr: addr, secret: secret}, nil
		}
	}
	return endpoint{}, errors.New("it does not say where a weft listens; remove it")
}

func (e endpoint) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, e.network, e.addr)
}

// answers says whether somebody accepts connections at the endpoint.
func (e endpoint) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := e.dial(ctx)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// localListener is a listener that only this user's processes reach.
type localListener struct {
	net.Listener
	path   string // what Dial is given
	secret string // "" for a unix socket
	dir    string // private directory to remove, or ""
}

// listenLocal listens at path, in place of a dead process's socket. portFile
// asks for a loopback port with a secret instead of a unix socket.
func listenLocal(path string, portFile bool) (*localListener, error) {
	if e, err := readEndpoint(path); err == nil && e.answers() {
		return nil, Errorf(KindConflict, "listen on %s: another weft answers there; stop it, or use another WEFT_HOME", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("replace the socket of a dead weft: %w", err)
	}
	switch {
	case portFile:
		return listenPort(path)
	case len(path) > maxSocketPath:
		return listenShort(path)
	}
	l, err := listenUnix(path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return &localListener{Listener: l, path: path}, nil
}

func listenUnix(path string) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// listenShort listens in a private directory with a short path and leaves a
// note about it at the long one.
func listenShort(path string) (*localListener, error) {
	dir, err := os.MkdirTemp("", "weft-")
	if err != nil {
		return nil, fmt.Errorf("listen for %s, whose path is too long for a socket: %w", path, err)
	}
	short := filepath.Join(dir, SocketName)
	l, err := listenUnix(short)
	if err == nil {
		if err = os.WriteFile(path, []byte("unix "+short+"\n"), 0o600); err != nil {
			_ = l.Close()
		}
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("listen for %s, whose path is too long for a socket, on %s: %w; use a shorter WEFT_HOME", path, short, err)
	}
	return &localListener{Listener: l, path: path, dir: dir}, nil
}

// listenPort listens on a loopback port and leaves it with a secret at path.
func listenPort(path string) (*localListener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen on loopback: %w", err)
	}
	var b [32]byte
	rand.Read(b[:])
	secret := hex.EncodeToString(b[:])
	if err := os.WriteFile(path, fmt.Appendf(nil, "tcp %s %s\n", l.Addr(), secret), 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("listen on loopback: %w", err)
	}
	return &localListener{Listener: l, path: path, secret: secret}, nil
}

// Close stops listening and removes what lies at the path.
func (l *localListener) Close() error {
	err := l.Listener.Close()
	if rm := os.Remove(l.path); rm != nil && !errors.Is(rm, os.ErrNotExist) {
		err = errors.Join(err, rm)
	}
	if l.dir != "" {
		err = errors.Join(err, os.RemoveAll(l.dir))
	}
	return err
}

// portFileHere is where unix sockets have no permissions to rely on.
const portFileHere = runtime.GOOS == "windows"

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
