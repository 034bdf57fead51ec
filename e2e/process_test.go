//go:build unix

package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weft-mesh/weft/node/api"
)

// weft is the built program.
var weft string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "weft-e2e-")
	if err != nil {
		panic(err)
	}
	weft = filepath.Join(dir, "weft")
	build := exec.Command("go", "build", "-o", weft, "..")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build weft: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// home is a state directory with a path that is short enough for a socket.
func home(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "weft-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// daemon is a process of `weft up`.
type daemon struct {
	*api.Client
	name, home string
	cmd        *exec.Cmd
	log        *lockedBuffer
	exited     chan struct{}
	err        error // of Wait, once exited is closed
	ended      bool  // on purpose
}

type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// speed is the measurement of this machine that the first daemon made.
var speed struct {
	sync.Mutex
	file []byte
}

const speedFile = "speed.json" // in a node's home

// up starts a daemon and waits until it answers; the test ends it.
func up(t *testing.T, name, home string, args ...string) *daemon {
	t.Helper()
	d, err := start(t, name, home, args...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func start(t *testing.T, name, home string, args ...string) (*daemon, error) {
	t.Helper()
	return startBy(t, (*exec.Cmd).Start, name, home, args...)
}

// startBy starts a daemon where begin starts commands.
func startBy(t *testing.T, begin func(*exec.Cmd) error, name, home string, args ...string) (*daemon, error) {
	t.Helper()
	d := launchBy(t, begin, name, home, args...)
	return d, d.await(t)
}

// launch starts a daemon, which the test ends, and waits for nothing.
func launch(t *testing.T, name, home string, args ...string) *daemon {
	t.Helper()
	return launchBy(t, (*exec.Cmd).Start, name, home, args...)
}

func launchBy(t *testing.T, begin func(*exec.Cmd) error, name, home string, args ...string) *daemon {
	t.Helper()
	speed.Lock()
	if speed.file != nil {
		if err := os.WriteFile(filepath.Join(home, speedFile), speed.file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	speed.Unlock()
	d := &daemon{name: name, home: home, log: &lockedBuffer{}, exited: make(chan struct{})}
	args = append([]string{"up", "--name", name, "--threads", "1"}, args...)
	if !slices.Contains(args, "--listen") {
		args = append(args, "--listen", "127.0.0.1:0")
	}
	if !slices.Contains(args, "--http") {
		args = append(args, "--http", "off")
	}
	d.cmd = exec.Command(weft, args...)
	d.cmd.Env = environ(home)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	if err := begin(d.cmd); err != nil {
		t.Fatal(err)
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.exited)
	}()
	t.Cleanup(func() { d.stop(t) })
	return d
}

// await waits until a daemon answers.
func (d *daemon) await(t *testing.T) error {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		c, err := api.Dial(d.home)
		if err == nil {
			if _, err = c.Status(t.Context()); err == nil {
				d.Client = c
				break
			}
			_ = c.Close()
		}
		select {
		case <-d.exited:
			d.ended = true
			return fmt.Errorf("%s ended: %w\n%s", d.name, d.err, d.log)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer: %w\n%s", d.name, err, d.log)
		}
	}
	if b, err := os.ReadFile(filepath.Join(d.home, speedFile)); err == nil {
		speed.Lock()
		speed.file = b
		speed.Unlock()
	}
	return nil
}

func environ(home string) []string {
	env := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "WEFT_") })
	return append(env, "WEFT_HOME="+home)
}

// stop ends a daemon as a service manager does and wants it to end well.
func (d *daemon) stop(t *testing.T) {
	if t.Failed() {
		defer func() { t.Logf("log of %s:\n%s", d.name, d.log) }()
	}
	if d.Client != nil {
		_ = d.Close()
	}
	if d.ended {
		<-d.exited
		return
	}
	_ = d.cmd.Process.Signal(syscall.SIGCONT)
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.exited:
		if d.err != nil {
			t.Errorf("%s ended with %v\n%s", d.name, d.err, d.log)
		}
	case <-time.After(15 * time.Second):
		t.Errorf("%s does not end\n%s", d.name, d.log)
		_ = d.cmd.Process.Kill()
		<-d.exited
	}
}

// kill ends a daemon without a word.
func (d *daemon) kill() {
	d.ended = true
	_ = d.cmd.Process.Kill()
}

func (d *daemon) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := d.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// run runs the program to its end.
func run(t *testing.T, home string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	return runFor(t, 60*time.Second, home, args...)
}

// runFor is run for what may take long.
func runFor(t *testing.T, limit time.Duration, home string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, weft, args...)
	cmd.Env = environ(home)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func mustRun(t *testing.T, home string, args ...string) string {
	t.Helper()
	out, errs, err := run(t, home, args...)
	if err != nil {
		t.Fatalf("weft %s: %v\n%s", strings.Join(args, " "), err, errs)
	}
	return out
}

// spec is one daemon of a mesh.
type spec struct {
	name   string
	memory string // as of --memory
	args   []string
}

// mesh starts daemons that join the first and waits until all see all.
func mesh(t *testing.T, specs ...spec) []*daemon {
	t.Helper()
	var ds []*daemon
	token := ""
	for i, s := range specs {
		args := s.args
		if s.memory != "" {
			args = append([]string{"--memory", s.memory}, args...)
		}
		if i > 0 {
			args = append(args, "--join", token)
		}
		ds = append(ds, up(t, s.name, home(t), args...))
		if i == 0 && len(specs) > 1 {
			token = strings.TrimSpace(mustRun(t, ds[0].home, "invite", "--uses", strconv.Itoa(len(specs)-1)))
		}
	}
	for _, d := range ds {
		d.sees(t, len(ds))
	}
	return ds
}

// sees waits until the daemon knows exactly n nodes, itself included.
func (d *daemon) sees(t *testing.T, n int) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		ps, err := d.Peers(t.Context())
		if err != nil {
			return err
		}
		known := slices.DeleteFunc(ps, func(p api.Peer) bool { return p.MemTotal == 0 })
		if len(known) != n {
			return fmt.Errorf("%s sees %d nodes, not %d", d.name, len(known), n)
		}
		return nil
	})
}

func (d *daemon) seesModel(t *testing.T, name string) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		ms, err := d.Models(t.Context())
		if err == nil && !slices.ContainsFunc(ms, func(m api.Model) bool { return m.Name == name }) {
			err = fmt.Errorf("%s does not know %s", d.name, name)
		}
		return err
	})
}

func eventually(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	if err := within(limit, f); err != nil {
		t.Fatalf("after %v: %v", limit, err)
	}
}

// within tries f until it gives no error, or gives the last one after limit.
func within(limit time.Duration, f func() error) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		if err := f(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// idle waits until no daemon computes anything for a reply.
func idle(t *testing.T, ds ...*daemon) {
	t.Helper()
	for _, d := range ds {
		eventually(t, 5*time.Second, func() error {
			s, err := d.Status(t.Context())
			if err != nil {
				return err
			}
			for _, st := range s.Stages {
				if st.Sessions != 0 {
					return fmt.Errorf("%s still has %d sessions", d.name, st.Sessions)
				}
			}
			if s.Sessions != 0 {
				return fmt.Errorf("%s still answers %d prompts", d.name, s.Sessions)
			}
			return nil
		})
	}
}

// ask asks for a reply of n tokens that chance does not touch. after, which may
// be nil, is called once three tokens have come.
func (d *daemon) ask(t *testing.T, model string, n int, after func()) (api.Reply, error) {
	t.Helper()
	return d.askLike(t, model, n, func(*api.GenerateRequest) {}, after)
}

// askLike is ask for a request that set has changed.
func (d *daemon) askLike(t *testing.T, model string, n int, set func(*api.GenerateRequest), after func()) (api.Reply, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	tokens := make([]int32, 30)
	for i := range tokens {
		tokens[i] = int32(40 + i*7%200)
	}
	seen := 0
	q := api.GenerateRequest{Model: model, Tokens: tokens, MaxTokens: n, Temperature: new(float64), IgnoreEOS: true, StateHash: true}
	set(&q)
	return d.Generate(ctx, q, func(e api.Event) error {
		if e.Progress != nil && e.Progress.Phase != "prefill" {
			t.Log(d.name+":", e.Progress.Text)
		}
		before := seen
		if seen += len(e.Tokens); before < 3 && seen >= 3 && after != nil {
			after()
		}
		return nil
	})
}

func kindOf(err error) api.Kind {
	var e *api.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}
