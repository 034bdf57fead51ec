//go:build unix

package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestANamedAddressIsKeptForLaterStarts has a member that knows of nobody but
// what the user has named once.
func TestANamedAddressIsKeptForLaterStarts(t *testing.T) {
	all := mesh(t, spec{name: "a", memory: "0"}, spec{name: "b", memory: "0"})
	a, b := all[0], all[1]
	again := func(args ...string) {
		t.Helper()
		b.stop(t)
		b.ended = true
		if err := os.Remove(filepath.Join(b.home, "peers.json")); err != nil {
			t.Fatal(err)
		}
		b = up(t, "b", b.home, append([]string{"--memory", "0"}, args...)...)
	}
	again("--peer", a.port(t))
	b.sees(t, 2)
	again()
	b.sees(t, 2)
	again("--peer", "none")
	if kept, err := os.ReadFile(filepath.Join(b.home, "static.json")); err != nil || strings.Contains(string(kept), ":") {
		t.Errorf("after none %s is kept: %v", kept, err)
	}
	_, errs, err := run(t, home(t), "up", "--listen", "127.0.0.1:0", "--http", "off", "--memory", "0", "--bootstrap", "nowhere")
	if err == nil || !strings.Contains(errs, "--bootstrap") || !strings.Contains(errs, "PEER@HOST:PORT") {
		t.Errorf("%v: %s", err, errs)
	}
}
