package api_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/chat"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// local serves a node on a socket and gives a client of it.
func local(t *testing.T, n api.Node) *api.Client {
	t.Helper()
	home := t.TempDir()
	s, err := api.ServeLocal(n, filepath.Join(home, api.SocketName), nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := api.Dial(home)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// everyCall makes each call of a node and gives its result and what progress
// came.
func everyCall(n api.Node) map[string]func(context.Context) (any, error) {
	var steps []api.Progress
	note := func(p api.Progress) { steps = append(steps, p) }
	with := func(v any, err error) (any, error) { return []any{v, steps}, err }
	return map[string]func(context.Context) (any, error){
		"status": func(ctx context.Context) (any, error) { return n.Status(ctx) },
		"peers":  func(ctx context.Context) (any, error) { return n.Peers(ctx) },
		"models": func(ctx context.Context) (any, error) { return n.Models(ctx) },
		"rm":     func(ctx context.Context) (any, error) { return n.RemoveModel(ctx, "tiny@ab") },
		"pin": func(ctx context.Context) (any, error) {
			return n.PinModel(ctx, api.PinRequest{Model: "tiny", Pinned: true})
		},
		"invite": func(ctx context.Context) (any, error) {
			return n.Invite(ctx, api.InviteRequest{Uses: 2, Expires: time.Hour, Role: "client"})
		},
		"invitations": func(ctx context.Context) (any, error) { return n.Invitations(ctx) },
		"withdraw": func(ctx context.Context) (any, error) {
			return n.WithdrawInvitation(ctx, api.WithdrawRequest{ID: "00"})
		},
		"backup": func(ctx context.Context) (any, error) {
			return n.BackupRoot(ctx, api.BackupRequest{Passphrase: "secret"})
		},
		"restore": func(ctx context.Context) (any, error) {
			return n.RestoreRoot(ctx, api.RestoreRequest{File: []byte{3}, Passphrase: "secret"})
		},
		"trust": func(ctx context.Context) (any, error) { return n.Trusted(ctx) },
		"revoke": func(ctx context.Context) (any, error) {
			return n.Revoke(ctx, api.RevokeRequest{Peer: "b", Since: time.Hour})
		},
		"approve": func(ctx context.Context) (any, error) {
			return n.Approve(ctx, api.ApproveRequest{Code: "K7QX-4MBD", Role: "client"})
		},
		"leave":    func(ctx context.Context) (any, error) { return nil, n.Leave(ctx) },
		"metrics":  func(ctx context.Context) (any, error) { return n.WriteMetrics(ctx) },
		"overview": func(ctx context.Context) (any, error) { return n.Overview(ctx) },
		"checkup":  func(ctx context.Context) (any, error) { return n.Checkup(ctx) },
		"add": func(ctx context.Context) (any, error) {
			steps = nil
			return with(n.AddModel(ctx, api.AddRequest{Path: "/x.gguf", Name: "n", Context: 5, KV: "f32", ActBits: 16}, note))
		},
		"pull": func(ctx context.Context) (any, error) {
			steps = nil
			return with(n.PullModel(ctx, api.PullRequest{Ref: "hf:a/b", SHA256: "00"}, note))
		},
		"plan": func(ctx context.Context) (any, error) {
			steps = nil
			return with(n.Plan(ctx, api.PlanRequest{Model: "tiny", Load: true}, note))
		},
		"run": func(ctx context.Context) (any, error) {
			var got []api.Event
			seed, temp := uint64(1<<63+1), 0.25
			rep, err := n.Generate(ctx, api.GenerateRequest{
				Model: "tiny", Seed: &seed, Temperature: &temp, LogitBias: map[int]float64{3: -1}, Stop: []string{"x"},
				Messages: []chat.Message{{Role: "user", Content: chat.Text("hi")}, {Role: "assistant", Content: chat.Content{Null: true}}},
			}, func(e api.Event) error { got = append(got, e); return nil })
			return []any{rep, got}, err
		},
	}
}

func TestClientGivesWhatTheNodeGives(t *testing.T) {
	direct, behind := newFake(), newFake()
	want, got := everyCall(direct), everyCall(local(t, behind))
	for name := range want {
		t.Run(name, func(t *testing.T) {
			w, err := want[name](t.Context())
			if err != nil {
				t.Fatal(err)
			}
			g, err := got[name](t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(w, g); d != "" {
				t.Errorf("result differs (-node +client):\n%s", d)
			}
			if d := cmp.Diff(direct.calls, behind.calls); d != "" {
				t.Errorf("call differs (-node +client):\n%s", d)
			}
			if d := cmp.Diff(direct.asked, behind.asked); d != "" {
				t.Errorf("request differs (-node +client):\n%s", d)
			}
		})
	}
}

func TestErrorsKeepTheirKindAcrossTheSocket(t *testing.T) {
	for _, fail := range []error{
		&api.Error{Kind: api.KindStageLost, Message: "node b was lost", Node: "b"},
		&api.Error{Kind: api.KindInvalid, Message: "no", Param: "model"},
		api.Errorf(api.KindNoCapacity, "too big: %w", errPlain), errPlain,
	} {
		f := newFake()
		f.fail = fail
		for name, call := range everyCall(local(t, f)) {
			if name == "metrics" {
				continue // has the OpenAI shape
			}
			_, err := call(t.Context())
			want := api.AsError(fail)
			var got *api.Error
			if !errors.As(err, &got) || got.Kind != want.Kind || got.Message != want.Message || got.Param != want.Param || got.Node != want.Node {
				t.Errorf("%s: got %#v, want %#v", name, err, want)
			}
		}
	}
}

func TestHangingUpCancelsTheReply(t *testing.T) {
	f := newFake()
	f.block = true
	c := local(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := c.Generate(ctx, api.GenerateRequest{Model: "tiny"}, func(e api.Event) error {
		if e.Text != "" {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	<-f.begun
	<-f.ended
}

func TestAnErrorOfEmitCancelsTheReply(t *testing.T) {
	f := newFake()
	f.block = true
	c := local(t, f)
	_, err := c.Generate(t.Context(), api.GenerateRequest{}, func(e api.Event) error {
		if e.Text != "" {
			return errPlain
		}
		return nil
	})
	if !errors.Is(err, errPlain) {
		t.Errorf("got %v, want %v", err, errPlain)
	}
	<-f.begun
	<-f.ended
}

func TestClosingTheServerEndsReplies(t *testing.T) {
	f := newFake()
	f.block = true
	home := t.TempDir()
	s, err := api.ServeLocal(f, filepath.Join(home, api.SocketName), nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := api.Dial(home)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	closed := make(chan error, 1)
	go func() { <-f.begun; closed <- s.Close() }()
	if _, err := c.Generate(t.Context(), api.GenerateRequest{}, func(api.Event) error { return nil }); err == nil {
		t.Error("the reply ended well")
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	<-f.ended
	if _, err := c.Status(t.Context()); api.AsError(err).Kind != api.KindUnavailable {
		t.Errorf("after the end: %v", err)
	}
	if _, err := os.Stat(filepath.Join(home, api.SocketName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestDialSaysThatNobodyIsThere(t *testing.T) {
	home := t.TempDir()
	if _, err := api.Dial(home); !errors.Is(err, api.ErrNoDaemon) {
		t.Errorf("empty home: %v", err)
	}
	deadSocket(t, filepath.Join(home, api.SocketName))
	if _, err := api.Dial(home); !errors.Is(err, api.ErrNoDaemon) {
		t.Errorf("dead socket: %v", err)
	}
}

// deadSocket leaves a socket as a killed process does.
func deadSocket(t *testing.T, path string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("not run: sockets are files here")
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestServeLocalReplacesADeadSocketAndRefusesALiveOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), api.SocketName)
	deadSocket(t, path)
	s, err := api.ServeLocal(newFake(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket has mode %v (%v), want 0600", st.Mode(), err)
	}
	_, err = api.ServeLocal(newFake(), path, nil)
	if api.AsError(err).Kind != api.KindConflict || !strings.Contains(fmt.Sprint(err), "another weft") {
		t.Errorf("second server: %v", err)
	}
	c, err := api.DialSocket(s.Addr())
	if err != nil {
		t.Fatal("the first server is gone after the second tried:", err)
	}
	c.Close()
}

func TestAHomeWithALongPathIsReachable(t *testing.T) {
	home := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := api.ServeLocal(newFake(), filepath.Join(home, api.SocketName), nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := api.Dial(home)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := c.Status(t.Context()); err != nil || st.Name != "a" {
		t.Errorf("got %v, %v", st, err)
	}
	c.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(home); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}
