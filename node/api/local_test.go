package api

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

func TestALoopbackPortAsksForItsSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	l, err := listenLocal(path, true)
	if err != nil {
		t.Fatal(err)
	}
	s := serveLocal(struct{ Node }{}, l, nil) // /healthz needs no node
	defer s.Close()
	e, err := readEndpoint(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := DialSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	resp, err := c.do(t.Context(), http.MethodGet, "/healthz", nil)
	if err != nil {
		t.Fatal("with the secret:", err)
	}
	resp.Body.Close()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err = (&http.Client{Transport: tr}).Get("http://" + e.addr + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without the secret: %s", resp.Status)
	}
	if _, err := listenLocal(path, true); AsError(err).Kind != KindConflict {
		t.Errorf("a second daemon: %v", err)
	}
}

func FuzzEndpoint(f *testing.F) {
	for _, s := range []string{"", "unix /tmp/x\n", "unix ", "tcp 127.0.0.1:1 0123456789abcdef0123456789abcdef", "tcp evil:1 0123456789abcdef0123456789abcdef", "tcp 127.0.0.1:1 short", "udp x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := parseEndpoint([]byte(s))
		if err == nil && e.network == "tcp" && (len(e.secret) < 32 || e.addr == "") {
			t.Errorf("%q gives %+v", s, e)
		}
	})
}

func TestAFileThatNamesNoDaemonIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	if err := os.WriteFile(path, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := DialSocket(path); err == nil {
		c.Close()
		t.Error("it was dialled")
	}
}
