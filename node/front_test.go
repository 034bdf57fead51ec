package node

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/node/api"
)

func frontOf(t *testing.T, c api.Config) (*front, error) {
	t.Helper()
	return (&Node{cfg: c, log: slog.New(slog.DiscardHandler), ctx: context.Background()}).startFront()
}

func TestARunWithoutADaemonLeavesTheHomesSocketAlone(t *testing.T) {
	home := t.TempDir()
	f, err := frontOf(t, api.Config{Home: home, Solo: true})
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(f.socket(), home) || f.addr() != "" {
		t.Errorf("listens at %q and %q", f.socket(), f.addr())
	}
	c, err := api.DialSocket(f.socket())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	f.close()
	if _, err := os.Stat(filepath.Dir(f.socket())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its directory is still there: %v", err)
	}
}

func TestADaemonListensInItsHomeAndOverHTTP(t *testing.T) {
	home := t.TempDir()
	f, err := frontOf(t, api.Config{Home: home, HTTP: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if f.socket() != filepath.Join(home, api.SocketName) || !strings.HasPrefix(f.addr(), "127.0.0.1:") {
		t.Errorf("listens at %q and %q", f.socket(), f.addr())
	}
	_, err = frontOf(t, api.Config{Home: t.TempDir(), HTTP: f.addr()})
	if err == nil || !strings.Contains(err.Error(), f.addr()) {
		t.Errorf("a port in use: %v", err)
	}
	f.close()
	if _, err := api.Dial(home); !errors.Is(err, api.ErrNoDaemon) {
		t.Errorf("after the end: %v", err)
	}
	f, err = frontOf(t, api.Config{Home: home, HTTP: "off"})
	if err != nil || f.addr() != "" {
		t.Errorf("off: %q, %v", f.addr(), err)
	}
	f.close()
	(*front)(nil).close()
	if (*front)(nil).addr() != "" || (*front)(nil).socket() != "" {
		t.Error("nothing listens somewhere")
	}
}
