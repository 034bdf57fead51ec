package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/scripts/netlab"
)

// Times of processes.
const (
	answerTime = 60 * time.Second // for a started node to answer
	stopTime   = 10 * time.Second // from SIGTERM to SIGKILL
)

const (
	entry       = "bench"
	contextSize = 2048
)

// process is a `weft up` process on a host of the lab. Its socket is a file, so
// that asking it crosses no link.
type process struct {
	*api.Client
	home   string
	cmd    *exec.Cmd
	exited chan struct{}
}

func start(ctx context.Context, weft, home string, h *netlab.Host, args ...string) (*process, error) {
	log, err := os.OpenFile(home+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	n := &process{home: home, exited: make(chan struct{})}
	n.cmd = h.Command(weft, append([]string{"up", "--name", h.Name(), "--listen", h.Addr().String() + ":4710", "--http", "off", "--threads", "1"}, args...)...)
	n.cmd.Env = append(os.Environ(), "WEFT_HOME="+home)
	n.cmd.Stdout, n.cmd.Stderr = log, log
	if err := h.Start(n.cmd); err != nil {
		return nil, fmt.Errorf("start node %s: %w", h.Name(), err)
	}
	go func() {
		_ = n.cmd.Wait() // how it ended is in its log
		close(n.exited)
	}()
	if err := n.await(ctx); err != nil {
		n.stop()
		said, _ := os.ReadFile(home + ".log")
		return nil, fmt.Errorf("node %s: %w; it said:\n%s", h.Name(), err, said)
	}
	return n, nil
}

func (n *process) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	for {
		if c, err := api.Dial(n.home); err == nil {
			if _, err = c.Status(ctx); err == nil {
				n.Client = c
				return nil
			}
			_ = c.Close()
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-n.exited:
			return errors.New("it ended before it answered")
		case <-ctx.Done():
			return fmt.Errorf("no answer: %w", ctx.Err())
		}
	}
}

func (n *process) stop() {
	if n.Client != nil {
		_ = n.Client.Close()
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-n.exited:
	case <-time.After(stopTime):
		_ = n.cmd.Process.Kill()
		<-n.exited
	}
}

// mesh is a head without weights and as many nodes as the model has stages.
type mesh struct {
	nodes []*process
	head  *process
}

func (m *mesh) stop() {
	for _, n := range m.nodes {
		n.stop()
	}
	if m.head != nil {
		m.head.stop()
	}
}

// split starts a mesh whose nodes offer so little memory that all of them are
// needed; how little, it tries out.
func split(ctx context.Context, s *settings, dir string, hosts []*netlab.Host) (*mesh, error) {
	st, err := os.Stat(s.model)
	if err != nil {
		return nil, err
	}
	n := len(hosts) - 1
	for try, offer := 0, st.Size()/int64(n); ; try++ {
		m := &mesh{}
		stages, err := m.fill(ctx, s, filepath.Join(dir, fmt.Sprintf("%d-%d", n, try)), hosts, offer)
		if err == nil && stages == n {
			return m, nil
		}
		m.stop()
		var e *api.Error
		switch {
		case err == nil:
			return nil, fmt.Errorf("with %d bytes a node the model has %d stages, not %d", offer, stages, n)
		case !errors.As(err, &e) || e.Kind != api.KindNoCapacity || offer > 4*st.Size():
			return nil, err
		}
		offer += st.Size() / 24
	}
}

func (m *mesh) fill(ctx context.Context, s *settings, prefix string, hosts []*netlab.Host, offer int64) (int, error) {
	path, err := filepath.Abs(s.model)
	if err != nil {
		return 0, err
	}
	token := ""
	for i, h := range hosts {
		args := []string{"--memory", fmt.Sprint(offer)}
		if i == len(hosts)-1 {
			args = []string{"--memory", "0"}
		}
		if token != "" {
			args = append(args, "--join", token)
		}
		p, err := start(ctx, s.weft, prefix+h.Name(), h, args...)
		if err != nil {
			return 0, err
		}
		if i == len(hosts)-1 {
			m.head = p
			break
		}
		m.nodes = append(m.nodes, p)
		if i > 0 {
			continue
		}
		if _, err := p.AddModel(ctx, api.AddRequest{Path: path, Name: entry, Context: contextSize}, nil); err != nil {
			return 0, err
		}
		inv, err := p.Invite(ctx, api.InviteRequest{Uses: len(hosts) - 1})
		if err != nil {
			return 0, err
		}
		token = inv.Token
	}
	if err := m.known(ctx, len(hosts)); err != nil {
		return 0, err
	}
	p, err := m.head.Plan(ctx, api.PlanRequest{Model: entry, Load: true}, nil)
	return len(p.Stages), err
}

// known waits until the head knows all nodes and the model.
func (m *mesh) known(ctx context.Context, count int) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	for {
		peers, err := m.head.Peers(ctx)
		if err != nil {
			return err
		}
		models, err := m.head.Models(ctx)
		if err != nil {
			return err
		}
		n := 0
		for _, p := range peers {
			if p.MemTotal > 0 {
				n++
			}
		}
		if n >= count && len(models) > 0 {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the head knows %d of %d nodes and %d models: %w", n, count, len(models), ctx.Err())
		}
	}
}
