package service

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

const label = "mesh.weft.node"

type launchd struct{ *Manager }

func (l launchd) file() string {
	if l.System {
		return "/Library/LaunchDaemons/" + label + ".plist"
	}
	return filepath.Join(l.Config, "LaunchAgents", label+".plist")
}

func (l launchd) log() string { return filepath.Join(l.State, "service.log") }

func (l launchd) text() string {
	var b strings.Builder
	line := func(indent int, format string, args ...any) {
		b.WriteString(strings.Repeat("\t", indent))
		fmt.Fprintf(&b, format+"\n", args...)
	}
	line(0, `<?xml version="1.0" encoding="UTF-8"?>`)
	line(0, `<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">`)
	line(0, "<!-- %s -->", mark)
	line(0, `<plist version="1.0">`)
	line(0, "<dict>")
	pair := func(key, value string) {
		line(1, "<key>%s</key>", key)
		line(1, "<string>%s</string>", escape(value))
	}
	pair("Label", label)
	if l.System {
		pair("UserName", l.User)
	}
	line(1, "<key>ProgramArguments</key>")
	line(1, "<array>")
	for _, a := range append([]string{l.Binary, "up"}, l.Args...) {
		line(2, "<string>%s</string>", escape(a))
	}
	line(1, "</array>")
	line(1, "<key>EnvironmentVariables</key>")
	line(1, "<dict>")
	line(2, "<key>WEFT_HOME</key>")
	line(2, "<string>%s</string>", escape(l.State))
	line(1, "</dict>")
	line(1, "<key>RunAtLoad</key>")
	line(1, "<true/>")
	line(1, "<key>KeepAlive</key>")
	line(1, "<dict>")
	line(2, "<key>SuccessfulExit</key>")
	line(2, "<false/>")
	line(1, "</dict>")
	line(1, "<key>ProcessType</key>")
	line(1, "<string>Interactive</string>")
	line(1, "<key>ExitTimeOut</key>")
	line(1, "<integer>30</integer>")
	line(1, "<key>Umask</key>")
	line(1, "<integer>63</integer>")
	pair("StandardOutPath", l.log())
	pair("StandardErrorPath", l.log())
	line(0, "</dict>")
	line(0, "</plist>")
	return b.String()
}

func escape(s string) string {
	var b bytes.Buffer
	if xml.EscapeText(&b, []byte(s)) != nil {
		return "" // a buffer takes everything
	}
	return b.String()
}

// domain is where launchd keeps the job.
func (l launchd) domain() string {
	if l.System {
		return "system"
	}
	return fmt.Sprintf("gui/%d", l.UID)
}

func (l launchd) ready(ctx context.Context) error {
	out, err := l.Run(ctx, "launchctl", "print", l.domain())
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("launchd is not here (no launchctl): start `weft up` in a terminal")
	}
	if err != nil {
		return fmt.Errorf("launchd has no %s%s: log in on the machine's screen, or install a service of the machine with sudo weft service install --system", l.domain(), said(out))
	}
	return nil
}

// loaded says whether launchd knows the job.
func (l launchd) loaded(ctx context.Context) bool {
	_, err := l.Run(ctx, "launchctl", "print", l.domain()+"/"+label)
	return err == nil
}

func (l launchd) start(ctx context.Context, changed bool) error {
	if l.loaded(ctx) {
		if !changed {
			return l.command(ctx, "launchctl", "kickstart", l.domain()+"/"+label)
		}
		if err := l.command(ctx, "launchctl", "bootout", l.domain()+"/"+label); err != nil {
			return err
		}
	}
	return l.command(ctx, "launchctl", "bootstrap", l.domain(), l.file())
}

func (l launchd) stop(ctx context.Context) error {
	if !l.loaded(ctx) {
		return nil
	}
	return l.command(ctx, "launchctl", "bootout", l.domain()+"/"+label)
}

func (l launchd) removed(context.Context) error { return nil }

func (l launchd) state(ctx context.Context) (bool, string, error) {
	out, err := l.Run(ctx, "launchctl", "print", l.domain()+"/"+label)
	if err != nil {
		return false, "installed, not loaded", nil
	}
	var parts []string
	running := false
	for line := range strings.Lines(out) {
		k, v, ok := strings.Cut(strings.TrimSpace(line), " = ")
		if !ok || len(parts) == 3 {
			continue
		}
		switch k {
		case "state":
			running = v == "running"
			parts = append(parts, v)
		case "pid", "last exit code":
			parts = append(parts, k+" "+v)
		}
	}
	return running, strings.Join(parts, ", "), nil
}

func (l launchd) after() []string {
	when := "it starts when you log in"
	if l.System {
		when = "it starts at every boot"
	}
	return []string{when + "; its log: " + l.log()}
}
