package service

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

const unit = "weft.service"

type systemd struct{ *Manager }

func (s systemd) file() string {
	if s.System {
		return "/etc/systemd/system/" + unit
	}
	return filepath.Join(s.Config, "systemd", "user", unit)
}

func (s systemd) text() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# %s", mark)
	line("[Unit]")
	line("Description=weft, this machine's node of an inference mesh")
	if s.System {
		line("Wants=network-online.target")
		line("After=network-online.target")
	}
	line("")
	line("[Service]")
	line("Type=exec")
	if s.System {
		line("User=%s", s.User)
	}
	line("ExecStart=%s", strings.Join(quoteAll(append([]string{s.Binary, "up"}, s.Args...)), " "))
	line("Environment=%s", quote("WEFT_HOME="+s.State, false))
	line("# Keys that are nobody's business, as in WEFT_API_KEY=..., one a line.")
	line("EnvironmentFile=-%s", specifiers(filepath.Join(s.State, "service.env")))
	line("Restart=on-failure")
	line("RestartSec=3")
	line("# As Ctrl-C: replies end and the node says goodbye to the mesh.")
	line("KillSignal=SIGINT")
	line("TimeoutStopSec=30")
	line("UMask=0077")
	line("NoNewPrivileges=true")
	if s.System {
		line("ProtectSystem=full")
	}
	line("")
	line("[Install]")
	if s.System {
		line("WantedBy=multi-user.target")
	} else {
		line("WantedBy=default.target")
	}
	return b.String()
}

// quoteAll writes arguments as systemd reads them.
func quoteAll(args []string) []string {
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = quote(a, true)
	}
	return out
}

// quote puts text into quotes where it needs them. In a command line a dollar
// would name a variable.
func quote(s string, command bool) string {
	s = specifiers(s)
	if command {
		s = strings.ReplaceAll(s, "$", "$$")
	}
	if s != "" && !strings.ContainsAny(s, " \t\n\"'\\;") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(s) + `"`
}

// specifiers keeps a per cent sign from being one of systemd's.
func specifiers(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// systemctl gives its arguments with --user where it is the user's.
func (s systemd) systemctl(args ...string) []string {
	if s.System {
		return args
	}
	return append([]string{"--user"}, args...)
}

func (s systemd) ready(ctx context.Context) error {
	out, err := s.Run(ctx, "systemctl", s.systemctl("show", "--property=Version")...)
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("systemd is not here (no systemctl): have the system's own service manager run `weft up`, or start it in a terminal")
	}
	if err != nil {
		way := "is this a container or a machine without systemd? Then start `weft up` in a terminal"
		if !s.System {
			way = fmt.Sprintf("a session of su or sudo has no systemd of the user: log in, or set XDG_RUNTIME_DIR=/run/user/%d, or install one for the machine with sudo weft service install --system", s.UID)
		}
		return fmt.Errorf("systemd does not answer%s: %s", said(out), way)
	}
	return nil
}

func (s systemd) start(ctx context.Context, changed bool) error {
	verb := "start" // leaves a running one alone
	if changed {
		if err := s.command(ctx, "systemctl", s.systemctl("daemon-reload")...); err != nil {
			return err
		}
		verb = "restart"
	}
	if err := s.command(ctx, "systemctl", s.systemctl("enable", unit)...); err != nil {
		return err
	}
	return s.command(ctx, "systemctl", s.systemctl(verb, unit)...)
}

func (s systemd) stop(ctx context.Context) error {
	return s.command(ctx, "systemctl", s.systemctl("disable", "--now", unit)...)
}

func (s systemd) removed(ctx context.Context) error {
	return s.command(ctx, "systemctl", s.systemctl("daemon-reload")...)
}

func (s systemd) state(ctx context.Context) (bool, string, error) {
	out, err := s.Run(ctx, "systemctl", s.systemctl("show", unit, "--property=ActiveState,SubState,UnitFileState,MainPID,Result")...)
	if err != nil {
		return false, "", fmt.Errorf("ask systemd about %s: %w%s", unit, err, said(out))
	}
	v := map[string]string{}
	for line := range strings.Lines(out) {
		if k, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			v[k] = value
		}
	}
	text := fmt.Sprintf("%s (%s), %s", v["ActiveState"], v["SubState"], v["UnitFileState"])
	if pid := v["MainPID"]; pid != "" && pid != "0" {
		text += ", pid " + pid
	}
	if r := v["Result"]; r != "" && r != "success" {
		text += ", last result: " + r
	}
	return v["ActiveState"] == "active", text, nil
}

func (s systemd) after() []string {
	if s.System {
		return []string{"it starts at every boot; its log: journalctl -u weft"}
	}
	return []string{
		"it starts when you log in and ends when you log out; loginctl enable-linger keeps it from boot on",
		"its log: journalctl --user -u weft",
	}
}
