package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weft-mesh/weft/scripts/netlab"
)

// session is a lab with its hosts by name.
type session struct {
	lab   *netlab.Lab
	hosts map[string]*netlab.Host
	env   []string
	out   io.Writer

	mu sync.Mutex // one line at a time
	wg sync.WaitGroup
}

func run(args []string) error {
	fl := flag.NewFlagSet("run", flag.ContinueOnError)
	names := fl.String("hosts", "a,b", "hosts, NAME or NAME@SUBNET")
	delay := fl.Duration("delay", 0, "delay of each way")
	jitter := fl.Duration("jitter", 0, "jitter of each way")
	loss := fl.Float64("loss", 0, "share of packets that get lost")
	rate := fl.Float64("rate", 0, "Mbit/s of each path")
	if err := fl.Parse(args); err != nil {
		return err
	}
	if fl.NArg() == 0 {
		return errors.New("which program? run [FLAGS] -- PROGRAM ARGS")
	}
	s := &session{hosts: map[string]*netlab.Host{}, out: os.Stdout}
	var err error
	if s.lab, err = netlab.New(); err != nil {
		return err
	}
	defer func() { _ = s.lab.Close() }()
	if err := s.lab.SetAll(netlab.Path{Delay: *delay, Jitter: *jitter, Loss: *loss, Rate: *rate * 1e6}); err != nil {
		return err
	}
	order, err := s.build(*names)
	if err != nil {
		return err
	}
	for _, name := range order {
		if err := s.start(name, fl.Args()); err != nil {
			return err
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	go s.commands(os.Stdin)
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		err = s.lab.Close()
		<-done
	}
	return err
}

// build makes the hosts of a list.
func (s *session) build(list string) (order []string, err error) {
	var all []string
	for item := range strings.SplitSeq(list, ",") {
		name, subnet, ok := strings.Cut(item, "@")
		n := 0
		if ok {
			if n, err = strconv.Atoi(subnet); err != nil {
				return nil, fmt.Errorf("host %q: a subnet is a number", item)
			}
		}
		h, err := s.lab.Host(name, n)
		if err != nil {
			return nil, err
		}
		s.hosts[name] = h
		order = append(order, name)
		all = append(all, name+"="+h.Addr().String())
	}
	s.env = append(os.Environ(), "NETLAB_HOSTS="+strings.Join(all, " "))
	return order, nil
}

// start starts a program and copies its output, line by line.
func (s *session) start(name string, args []string) error {
	h := s.hosts[name]
	cmd := h.Command(args[0], args[1:]...)
	cmd.Env = append(s.env, "NETLAB_HOST="+name, "NETLAB_ADDR="+h.Addr().String())
	read, write := io.Pipe()
	cmd.Stdout, cmd.Stderr = write, write
	if err := h.Start(cmd); err != nil {
		return fmt.Errorf("on %s: %w", name, err)
	}
	s.wg.Go(func() {
		lines := bufio.NewScanner(read)
		for lines.Scan() {
			s.say(name, lines.Text())
		}
		_, _ = io.Copy(io.Discard, read) // a line too long
	})
	s.wg.Go(func() {
		err := cmd.Wait()
		_ = write.Close()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			s.say(name, "ended: "+exit.String())
		}
	})
	return nil
}

func (s *session) say(name, line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "%s| %s\n", name, line)
}

// commands changes the network as the lines say.
func (s *session) commands(r io.Reader) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if err := s.command(strings.Fields(lines.Text())); err != nil {
			s.say("netlab", err.Error())
		}
	}
}

func (s *session) command(words []string) error {
	if len(words) == 0 {
		return nil
	}
	if len(words) < 2 || s.hosts[words[1]] == nil {
		return fmt.Errorf("%s: which host?", words[0])
	}
	h := s.hosts[words[1]]
	switch words[0] {
	case "cut", "mend":
		s.lab.Cut(h, words[0] == "cut")
		return nil
	case "in":
		return s.start(words[1], []string{"sh", "-c", strings.Join(words[2:], " ")})
	case "path":
		if len(words) < 3 || s.hosts[words[2]] == nil {
			return errors.New("path: to which host?")
		}
		p, err := parsePath(words[3:])
		if err != nil {
			return err
		}
		return s.lab.Join(h, s.hosts[words[2]], p)
	}
	return fmt.Errorf("%s is no command: path, cut, mend, in", words[0])
}

func parsePath(words []string) (p netlab.Path, err error) {
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "delay":
			p.Delay, err = time.ParseDuration(value)
		case "jitter":
			p.Jitter, err = time.ParseDuration(value)
		case "loss":
			p.Loss, err = strconv.ParseFloat(value, 64)
		case "rate":
			p.Rate, err = strconv.ParseFloat(value, 64)
			p.Rate *= 1e6
		case "cut":
			p.Cut = true
		default:
			err = fmt.Errorf("path: %q is none of delay, jitter, loss, rate, cut", w)
		}
		if err != nil {
			return p, err
		}
	}
	return p, nil
}
