// Package service makes weft a service of the operating system: a unit of
// systemd on Linux, a job of launchd on macOS. It writes one file and runs the
// system's own command; it opens no port, changes no firewall and asks for no
// right that the user has not.
//
// Files are written below Manager.Root and commands run through Manager.Run, so
// that tests see both. Start reading at Manager.
package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Spec is the service that is wanted.
type Spec struct {
	OS     string   // as runtime.GOOS names it
	System bool     // of the machine, started at boot; else of the user
	User   string   // whom a service of the machine runs as
	UID    int      // of the user who installs it
	Binary string   // absolute
	State  string   // state directory, absolute
	Config string   // the user's directory for units: ~/.config, or ~/Library on macOS
	Args   []string // further arguments of `weft up`
}

// Manager installs, removes and asks about one service.
type Manager struct {
	Spec
	// Root is put before every path; "" outside of tests.
	Root string
	// Run runs a command and gives what it printed, also when it fails.
	Run func(ctx context.Context, name string, args ...string) (string, error)
	// Say is told each thing that was done, for people.
	Say func(string)
}

// State is what the system says of the service.
type State struct {
	File      string `json:"file"`
	Installed bool   `json:"installed"`
	Running   bool   `json:"running"`
	Text      string `json:"text"` // in the system's words
}

// ErrUnsupported means that weft installs no service on this system.
var ErrUnsupported = errors.New("weft installs no service on this system")

// mark is in every file that weft writes; one without it is somebody else's.
const mark = "Written by `weft service install`; changes are lost with the next one."

// system is what the two kinds of service managers have in common.
type system interface {
	file() string // absolute, without Root
	text() string
	ready(ctx context.Context) error // the manager answers
	start(ctx context.Context, changed bool) error
	stop(ctx context.Context) error
	removed(ctx context.Context) error // after the file is gone
	state(ctx context.Context) (running bool, text string, err error)
	after() []string // what to tell after an installation
}

func (m *Manager) system() (system, error) {
	switch m.OS {
	case "linux":
		return systemd{m}, nil
	case "darwin":
		return launchd{m}, nil
	case "windows":
		return nil, fmt.Errorf("%w: let the Task Scheduler start it when you log on: schtasks /Create /TN weft /SC ONLOGON /TR \"\\\"%s\\\" up\"", ErrUnsupported, m.Binary)
	}
	return nil, fmt.Errorf("%w (%s): have its own service manager run `%s up` with WEFT_HOME=%s", ErrUnsupported, m.OS, m.Binary, m.State)
}

// Install writes the service's file and starts it, now and at every boot or
// login. What is there already in this form is left alone.
func (m *Manager) Install(ctx context.Context) error {
	s, err := m.system()
	if err != nil {
		return err
	}
	if m.System && m.UID != 0 {
		return errors.New("a service of the machine needs root: sudo weft service install --system; without --system it is one of the user")
	}
	if err := s.ready(ctx); err != nil {
		return err
	}
	path := m.Root + s.file()
	old, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("install the service: %w", err)
	case !bytes.Contains(old, []byte(mark)):
		return fmt.Errorf("install the service: %s is there and was not written by weft; move it away first", s.file())
	}
	changed := string(old) != s.text()
	if changed {
		if err := write(path, s.text()); err != nil {
			return fmt.Errorf("install the service: %w", err)
		}
		m.Say("wrote " + s.file())
	} else {
		m.Say(s.file() + " is as it should be")
	}
	if err := s.start(ctx, changed); err != nil {
		return err
	}
	for _, t := range s.after() {
		m.Say(t)
	}
	return nil
}

// write replaces a file whole or not at all.
func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	draft := path + ".new"
	if err := os.WriteFile(draft, []byte(text), 0o644); err != nil {
		return err
	}
	if err := os.Rename(draft, path); err != nil {
		return errors.Join(err, os.Remove(draft))
	}
	return nil
}

// Uninstall stops the service and removes its file; the node's state stays. A
// service that is not there is no error.
func (m *Manager) Uninstall(ctx context.Context) error {
	s, err := m.system()
	if err != nil {
		return err
	}
	path := m.Root + s.file()
	old, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		m.Say("no service is installed: " + s.file() + " is not there")
		return nil
	case err != nil:
		return fmt.Errorf("remove the service: %w", err)
	case !bytes.Contains(old, []byte(mark)):
		return fmt.Errorf("remove the service: %s was not written by weft; remove it yourself", s.file())
	}
	if err := s.stop(ctx); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the service: %w", err)
	}
	m.Say("removed " + s.file())
	if err := s.removed(ctx); err != nil {
		return err
	}
	m.Say("the node's state stays in " + m.State)
	return nil
}

// Status asks the system about the service.
func (m *Manager) Status(ctx context.Context) (State, error) {
	s, err := m.system()
	if err != nil {
		return State{}, err
	}
	st := State{File: s.file()}
	if _, err := os.Stat(m.Root + s.file()); errors.Is(err, fs.ErrNotExist) {
		st.Text = "not installed"
		return st, nil
	} else if err != nil {
		return st, fmt.Errorf("ask about the service: %w", err)
	}
	st.Installed = true
	st.Running, st.Text, err = s.state(ctx)
	return st, err
}

// command runs one of the system's commands and tells of it.
func (m *Manager) command(ctx context.Context, name string, args ...string) error {
	line := name + " " + strings.Join(args, " ")
	out, err := m.Run(ctx, name, args...)
	if err != nil {
		return fmt.Errorf("%s: %w%s", line, err, said(out))
	}
	m.Say("ran " + line)
	return nil
}

// said is a command's last line in parentheses.
func said(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return " (" + last + ")"
	}
	return ""
}

// maxOutput bounds what a command may print.
const maxOutput = 64 << 10

// Exec is a Run for real.
func Exec(ctx context.Context, name string, args ...string) (string, error) {
	var b bounded
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &b, &b
	err := cmd.Run()
	return b.String(), err
}

// bounded keeps the first bytes of what is written.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:max(0, min(len(p), maxOutput-b.Len()))])
	return len(p), nil
}
