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
)

// Times of processes.
const (
	answerTime = 60 * time.Second // for a started node to answer
	pollEvery  = time.Millisecond
	stopTime   = 10 * time.Second // from SIGTERM to SIGKILL
)

// entry is the name under which the model is added; its context is short so
// that a figure of memory can fill it.
const (
	entry       = "bench"
	contextSize = 2048
)

// process is a `weft up` process and the way to ask it.
type process struct {
	*api.Client
	name    string
	home    string
	cmd     *exec.Cmd
	started time.Time
	answer  time.Duration // from its start to the first answered status
	exited  chan struct{} // closed when the process has ended
}

// up starts a node on loopback with a home of its own, or again on the home of
// that name, and waits until it answers.
func (b *bench) up(ctx context.Context, name string, args ...string) (*process, error) {
	n := &process{name: name, home: filepath.Join(b.dir, name), exited: make(chan struct{})}
	log, err := os.OpenFile(n.home+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	n.cmd = exec.Command(b.bin, append([]string{"up", "--name", name, "--listen", "127.0.0.1:0", "--http", "off"}, args...)...)
	n.cmd.Env = append(os.Environ(), "WEFT_HOME="+n.home)
	n.cmd.Stdout, n.cmd.Stderr = log, log
	n.started = time.Now()
	if err := n.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start node %s: %w", name, err)
	}
	go func() {
		_ = n.cmd.Wait() // how it ended is in its log
		close(n.exited)
	}()
	if err := n.await(ctx); err != nil {
		n.stop()
		text, _ := os.ReadFile(n.home + ".log")
		return nil, fmt.Errorf("node %s: %w; it said:\n%s", name, err, text)
	}
	return n, nil
}

// await polls until the node answers status.
func (n *process) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	for {
		if c, err := api.Dial(n.home); err == nil {
			if _, err = c.Status(ctx); err == nil {
				n.answer = time.Since(n.started)
				n.Client = c
				return nil
			}
			_ = c.Close()
		}
		select {
		case <-time.After(pollEvery):
		case <-n.exited:
			return errors.New("it ended before it answered")
		case <-ctx.Done():
			return fmt.Errorf("no answer: %w", ctx.Err())
		}
	}
}

// stop ends the process, by force if it takes too long, and waits for it.
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

// addModel adds the measured model.
func (b *bench) addModel(ctx context.Context, n *process) error {
	path, err := filepath.Abs(b.model)
	if err != nil {
		return err
	}
	_, err = n.AddModel(ctx, api.AddRequest{Path: path, Name: entry, Context: contextSize}, nil)
	return err
}

// ready plans the model on a node and waits until a probe token has crossed all
// stages.
func ready(ctx context.Context, n *process) (api.Plan, error) {
	p, err := n.Plan(ctx, api.PlanRequest{Model: entry, Load: true}, nil)
	if err == nil && p.State != "ready" {
		err = fmt.Errorf("the plan is %q, not ready", p.State)
	}
	return p, err
}

// split is a mesh of three: two nodes that hold half of the model each, or all of
// it, and one without weights.
type split struct {
	halves []*process
	head   *process
	plan   api.Plan
}

// startSplit starts a split mesh whose nodes have that many threads each. The
// prefix tells its homes apart. Its nodes offer as little memory as two can hold
// the model with, so that the halves are halves whatever speed was measured; how
// much that is, the first call tries out.
func (b *bench) startSplit(ctx context.Context, prefix string, threads int) (*split, error) {
	st, err := os.Stat(b.model)
	if err != nil {
		return nil, err
	}
	if b.offer == 0 {
		b.offer = st.Size() / 2
	}
	for try := 0; ; try++ {
		s := &split{}
		err := b.fillSplit(ctx, s, fmt.Sprintf("%s-%d", prefix, try), threads)
		if err == nil {
			return s, nil
		}
		s.stop()
		var e *api.Error
		if !errors.As(err, &e) || e.Kind != api.KindNoCapacity || b.offer > 4*st.Size() {
			return nil, err
		}
		b.offer += st.Size() / 24
	}
}

func (b *bench) fillSplit(ctx context.Context, s *split, prefix string, threads int) error {
	if err := b.three(ctx, s, prefix, threads, "--memory", fmt.Sprint(b.offer)); err != nil {
		return err
	}
	if err := b.addModel(ctx, s.halves[0]); err != nil {
		return err
	}
	if err := seeEachOther(ctx, s.all()); err != nil {
		return err
	}
	var err error
	if s.plan, err = ready(ctx, s.head); err != nil {
		return err
	}
	if len(s.plan.Stages) != 2 {
		return fmt.Errorf("the plan has %d stages, not 2", len(s.plan.Stages))
	}
	return nil
}

// three starts the nodes of a mesh: two with the arguments, and a head without
// weights. s has those that were started, also where one fails.
func (b *bench) three(ctx context.Context, s *split, prefix string, threads int, args ...string) error {
	t, token := fmt.Sprint(threads), ""
	for _, name := range []string{"a", "b", "h"} {
		all := append([]string{"--threads", t}, args...)
		if name == "h" {
			all = []string{"--threads", t, "--memory", "0"}
		}
		if token != "" {
			all = append(all, "--join", token)
		}
		n, err := b.up(ctx, prefix+name, all...)
		if err != nil {
			return err
		}
		if name == "h" {
			s.head = n
			break
		}
		s.halves = append(s.halves, n)
		if token == "" {
			inv, err := n.Invite(ctx, api.InviteRequest{Uses: 2})
			if err != nil {
				return err
			}
			token = inv.Token
		}
	}
	return nil
}

func (s *split) all() []*process {
	out := append([]*process(nil), s.halves...)
	if s.head != nil {
		out = append(out, s.head)
	}
	return out
}

func (s *split) stop() {
	for _, n := range s.all() {
		n.stop()
	}
}

// first is the node that computes the first layers.
func (s *split) first() *process { return s.byName(s.plan.Stages[0].Name) }

func (s *split) byName(name string) *process {
	for _, n := range s.halves {
		if n.name == name {
			return n
		}
	}
	return s.halves[0]
}

// seeEachOther waits until every node knows the facts of all, and the model.
func seeEachOther(ctx context.Context, nodes []*process) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	for _, n := range nodes {
		for !n.sees(ctx, len(nodes)) {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("node %s does not see all %d nodes and the model: %w", n.name, len(nodes), ctx.Err())
			}
		}
	}
	return nil
}

func (n *process) sees(ctx context.Context, count int) bool {
	peers, err := n.Peers(ctx)
	if err != nil {
		return false
	}
	known := 0
	for _, p := range peers {
		if p.MemTotal > 0 {
			known++
		}
	}
	models, err := n.Models(ctx)
	if err != nil || known < count {
		return false
	}
	for _, m := range models {
		if m.Name == entry {
			return true
		}
	}
	return false
}
