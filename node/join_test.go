package node_test

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/api"
)

var codeLine = regexp.MustCompile(`weft approve ([0-9A-Z-]+)`)

// askAt starts a node that asks at the others and returns the codes that it
// shows and, in the end, what became of it.
func askAt(t *testing.T, c api.Config, at ...api.Running) (codes <-chan string, result <-chan error) {
	t.Helper()
	for _, r := range at {
		s, err := r.Node().Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c.Peers = append(c.Peers, s.Addrs[0])
	}
	c.Home, c.HTTP, c.Threads, c.Listen, c.Memory = t.TempDir(), "off", 1, []string{"127.0.0.1:0"}, -1
	shown, done := make(chan string, 16), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r, err := node.Start(ctx, c, func(p api.Progress) {
			if m := codeLine.FindStringSubmatch(p.Notice); m != nil {
				shown <- m[1]
			}
		})
		done <- err
		if err == nil {
			<-ctx.Done()
			_ = r.Close()
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return shown, done
}

func receiveIn[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing comes")
		panic("unreachable")
	}
}

// TestACodeIsApprovedWhereTheMachineDoesNotWait shows a code to one member and
// has it typed on another, a plain one.
func TestACodeIsApprovedWhereTheMachineDoesNotWait(t *testing.T) {
	nodes := together(t, api.Config{Name: "a", Memory: -1}, api.Config{Name: "b", Memory: -1})
	codes, result := askAt(t, api.Config{Name: "c"}, nodes[0])
	code := receiveIn(t, codes)
	got, err := nodes[1].Node().Approve(t.Context(), api.ApproveRequest{Code: code})
	if err != nil || got.Name != "c" || got.Role != "compute" || !strings.HasPrefix(got.Mesh, "a-mesh (") {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := receiveIn(t, result); err != nil {
		t.Fatal(err)
	}
	see(t, 3, nodes...)
	for _, r := range []api.ApproveRequest{{Code: code}, {Code: "what"}, {Code: code, Role: "king"}} {
		if _, err := nodes[0].Node().Approve(t.Context(), r); err == nil || kindOf(err) == api.KindInternal {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

func TestWishesThatDoNotFitTheHomeAreRefused(t *testing.T) {
	home := t.TempDir()
	r, err := tryStart(t, api.Config{Name: "a", Memory: -1, Home: home, New: "attic"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.Node().Status(t.Context())
	if err != nil || !strings.HasPrefix(s.Mesh, "attic (") {
		t.Errorf("%+v %v", s, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cfg  api.Config
		want api.Kind
	}{
		"another new one":  {api.Config{Home: home, New: "office"}, api.KindConflict},
		"another mesh":     {api.Config{Home: home, Mesh: "office"}, api.KindConflict},
		"new and a token":  {api.Config{New: "office", Join: "weft1x"}, api.KindInvalid},
		"new and a member": {api.Config{New: "office", Peers: []string{"127.0.0.1:1"}}, api.KindInvalid},
		"nobody there":     {api.Config{Peers: []string{"127.0.0.1:1"}}, api.KindUnavailable},
	} {
		c.cfg.Name, c.cfg.Memory = "a", -1
		r, err := tryStart(t, c.cfg)
		if err == nil {
			_ = r.Close()
		}
		if kindOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range []api.Config{{Home: home, New: "attic"}, {Home: home, Mesh: "attic"}} { // what it is already
		c.Name, c.Memory = "a", -1
		r, err := tryStart(t, c)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
