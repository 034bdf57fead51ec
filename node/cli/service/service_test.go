package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// machine is a fake of the system: it notes commands and answers some.
type machine struct {
	ran    []string
	said   []string
	answer map[string]string // output by command line
	fail   map[string]error
}

func (f *machine) manager(t *testing.T, s Spec) *Manager {
	t.Helper()
	return &Manager{
		Spec: s, Root: t.TempDir(),
		Run: func(_ context.Context, name string, args ...string) (string, error) {
			line := strings.Join(append([]string{name}, args...), " ")
			f.ran = append(f.ran, line)
			return f.answer[line], f.fail[line]
		},
		Say: func(s string) { f.said = append(f.said, s) },
	}
}

var (
	linux = Spec{OS: "linux", UID: 1000, Binary: "/home/u/.local/bin/weft", State: "/home/u/.local/share/weft", Config: "/home/u/.config"}
	mac   = Spec{OS: "darwin", UID: 501, Binary: "/usr/local/bin/weft", State: "/Users/u/Library/Application Support/weft", Config: "/Users/u/Library"}
)

const (
	userUnit = `# Written by ` + "`weft service install`" + `; changes are lost with the next one.
[Unit]
Description=weft, this machine's node of an inference mesh

[Service]
Type=exec
ExecStart=/home/u/.local/bin/weft up --memory 8GB --name "my desk"
Environment=WEFT_HOME=/home/u/.local/share/weft
# Keys that are nobody's business, as in WEFT_API_KEY=..., one a line.
EnvironmentFile=-/home/u/.local/share/weft/service.env
Restart=on-failure
RestartSec=3
# As Ctrl-C: replies end and the node says goodbye to the mesh.
KillSignal=SIGINT
TimeoutStopSec=30
UMask=0077
NoNewPrivileges=true

[Install]
WantedBy=default.target
`
	systemUnit = `# Written by ` + "`weft service install`" + `; changes are lost with the next one.
[Unit]
Description=weft, this machine's node of an inference mesh
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
User=u
ExecStart=/home/u/.local/bin/weft up
Environment=WEFT_HOME=/home/u/.local/share/weft
# Keys that are nobody's business, as in WEFT_API_KEY=..., one a line.
EnvironmentFile=-/home/u/.local/share/weft/service.env
Restart=on-failure
RestartSec=3
# As Ctrl-C: replies end and the node says goodbye to the mesh.
KillSignal=SIGINT
TimeoutStopSec=30
UMask=0077
NoNewPrivileges=true
ProtectSystem=full

[Install]
WantedBy=multi-user.target
`
	plist = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- Written by ` + "`weft service install`" + `; changes are lost with the next one. -->
<plist version="1.0">
<dict>
	<key>Label</key>
	<string>mesh.weft.node</string>
	<key>ProgramArguments</key>
	<array>
		<string>/usr/local/bin/weft</string>
		<string>up</string>
		<string>--name</string>
		<string>a &lt;b&gt; &amp; c</string>
	</array>
	<key>EnvironmentVariables</key>
	<dict>
		<key>WEFT_HOME</key>
		<string>/Users/u/Library/Application Support/weft</string>
	</dict>
	<key>RunAtLoad</key>
	<true/>
	<key>KeepAlive</key>
	<dict>
		<key>SuccessfulExit</key>
		<false/>
	</dict>
	<key>ProcessType</key>
	<string>Interactive</string>
	<key>ExitTimeOut</key>
	<integer>30</integer>
	<key>Umask</key>
	<integer>63</integer>
	<key>StandardOutPath</key>
	<string>/Users/u/Library/Application Support/weft/service.log</string>
	<key>StandardErrorPath</key>
	<string>/Users/u/Library/Application Support/weft/service.log</string>
</dict>
</plist>
`
)

func TestAUsersUnitIsWrittenAndStarted(t *testing.T) {
	f := &machine{}
	spec := linux
	spec.Args = []string{"--memory", "8GB", "--name", "my desk"}
	m := f.manager(t, spec)
	if err := m.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(m.Root, "/home/u/.config/systemd/user/weft.service")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(userUnit, string(b)); d != "" {
		t.Error(d)
	}
	want := []string{
		"systemctl --user show --property=Version", "systemctl --user daemon-reload",
		"systemctl --user enable weft.service", "systemctl --user restart weft.service",
	}
	if d := cmp.Diff(want, f.ran); d != "" {
		t.Error(d)
	}
	if all := strings.Join(f.said, "\n"); !strings.Contains(all, "wrote /home/u/.config/systemd/user/weft.service") || !strings.Contains(all, "ran systemctl --user enable") || !strings.Contains(all, "enable-linger") {
		t.Errorf("it says\n%s", all)
	}
	// Once more changes nothing and restarts nothing.
	f.ran, f.said = nil, nil
	if err := m.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"systemctl --user show --property=Version", "systemctl --user enable weft.service", "systemctl --user start weft.service"}, f.ran); d != "" {
		t.Error(d)
	}
	if f.said[0] != "/home/u/.config/systemd/user/weft.service is as it should be" {
		t.Errorf("it says %q", f.said)
	}
	f.ran = nil
	if err := m.Uninstall(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"systemctl --user disable --now weft.service", "systemctl --user daemon-reload"}, f.ran); d != "" {
		t.Error(d)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the unit is still there")
	}
	f.ran = nil
	if err := m.Uninstall(t.Context()); err != nil || len(f.ran) != 0 {
		t.Errorf("once more: %v, %v", err, f.ran)
	}
}

func TestAMachinesUnitNeedsRootAndRunsAsAUser(t *testing.T) {
	f := &machine{}
	spec := linux
	spec.System, spec.User = true, "u"
	m := f.manager(t, spec)
	if err := m.Install(t.Context()); err == nil || !strings.Contains(err.Error(), "sudo weft service install --system") || len(f.ran) != 0 {
		t.Errorf("without root: %v, %v", err, f.ran)
	}
	m.UID = 0
	if err := m.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(m.Root, "/etc/systemd/system/weft.service"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(systemUnit, string(b)); d != "" {
		t.Error(d)
	}
	if f.ran[len(f.ran)-1] != "systemctl restart weft.service" {
		t.Errorf("ran %q", f.ran)
	}
}

func TestAJobOfLaunchdIsWrittenAndLoaded(t *testing.T) {
	gone := errors.New("exit status 113")
	f := &machine{fail: map[string]error{"launchctl print gui/501/mesh.weft.node": gone}, answer: map[string]string{}}
	spec := mac
	spec.Args = []string{"--name", "a <b> & c"}
	m := f.manager(t, spec)
	if err := m.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(m.Root, "/Users/u/Library/LaunchAgents/mesh.weft.node.plist"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(plist, string(b)); d != "" {
		t.Error(d)
	}
	const job = "/Users/u/Library/LaunchAgents/mesh.weft.node.plist"
	if got := f.ran[len(f.ran)-1]; got != "launchctl bootstrap gui/501 "+job {
		t.Errorf("ran %q", got)
	}
	if st, err := m.Status(t.Context()); err != nil || st.Running || st.Text != "installed, not loaded" {
		t.Errorf("%+v, %v", st, err)
	}
	// Loaded by now.
	delete(f.fail, "launchctl print gui/501/mesh.weft.node")
	f.answer["launchctl print gui/501/mesh.weft.node"] = "gui/501/mesh.weft.node = {\n\tactive count = 1\n\tstate = running\n\n\tpid = 812\n\tlast exit code = 0\n\tstate = active\n}\n"
	if st, err := m.Status(t.Context()); err != nil || !st.Running || st.Text != "running, pid 812, last exit code 0" {
		t.Errorf("%+v, %v", st, err)
	}
	m.Args = nil
	f.ran = nil
	if err := m.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"launchctl bootout gui/501/mesh.weft.node", "launchctl bootstrap gui/501 " + job}, f.ran[2:]); d != "" {
		t.Error(d)
	}
	f.ran = nil
	if err := m.Uninstall(t.Context()); err != nil || f.ran[len(f.ran)-1] != "launchctl bootout gui/501/mesh.weft.node" {
		t.Errorf("%v, %q", err, f.ran)
	}
}

func TestASystemThatDoesNotAnswerChangesNothing(t *testing.T) {
	const show = "systemctl --user show --property=Version"
	for name, c := range map[string]struct {
		f    *machine
		want []string
	}{
		"no systemctl": {&machine{fail: map[string]error{show: fmt.Errorf("run: %w", exec.ErrNotFound)}}, []string{"no systemctl", "weft up"}},
		"no bus": {&machine{
			fail:   map[string]error{show: errors.New("exit status 1")},
			answer: map[string]string{show: "Failed to connect to bus: No medium found\n"},
		}, []string{"No medium found", "XDG_RUNTIME_DIR=/run/user/1000", "--system"}},
	} {
		m := c.f.manager(t, linux)
		err := m.Install(t.Context())
		for _, w := range c.want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v does not say %q", name, err, w)
			}
		}
		if st, err := m.Status(t.Context()); err != nil || st.Installed {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
	}
}

func TestAnothersUnitIsLeftAlone(t *testing.T) {
	f := &machine{}
	m := f.manager(t, linux)
	path := filepath.Join(m.Root, "/home/u/.config/systemd/user/weft.service")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("[Service]\nExecStart=/opt/weft\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{m.Install(t.Context()), m.Uninstall(t.Context())} {
		if err == nil || !strings.Contains(err.Error(), "not written by weft") {
			t.Errorf("%v", err)
		}
	}
	if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), "/opt/weft") {
		t.Errorf("it was changed: %s %v", b, err)
	}
}

func TestTheStateIsToldInTheSystemsWords(t *testing.T) {
	const show = "systemctl --user show weft.service --property=ActiveState,SubState,UnitFileState,MainPID,Result"
	f := &machine{answer: map[string]string{show: "Result=success\nMainPID=77\nActiveState=active\nSubState=running\nUnitFileState=enabled\n"}}
	m := f.manager(t, linux)
	if err := m.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, err := m.Status(t.Context()); err != nil || !st.Running || st.Text != "active (running), enabled, pid 77" {
		t.Errorf("%+v, %v", st, err)
	}
	f.answer[show] = "Result=exit-code\nMainPID=0\nActiveState=failed\nSubState=failed\nUnitFileState=enabled\n"
	if st, err := m.Status(t.Context()); err != nil || st.Running || st.Text != "failed (failed), enabled, last result: exit-code" {
		t.Errorf("%+v, %v", st, err)
	}
	f.fail = map[string]error{"systemctl --user restart weft.service": errors.New("exit status 1")}
	f.answer["systemctl --user restart weft.service"] = "Job for weft.service failed.\nSee journalctl."
	m.Args = []string{"--memory", "0"}
	if err := m.Install(t.Context()); err == nil || !strings.Contains(err.Error(), "See journalctl.") {
		t.Errorf("a failed start: %v", err)
	}
}

func TestOtherSystemsNameTheWay(t *testing.T) {
	for system, want := range map[string]string{"windows": "schtasks /Create", "freebsd": "/weft up"} {
		f := &machine{}
		m := f.manager(t, Spec{OS: system, Binary: "/b/weft", State: "/s"})
		_, status := m.Status(t.Context())
		for _, err := range []error{m.Install(t.Context()), m.Uninstall(t.Context()), status} {
			if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", system, err)
			}
		}
	}
}

func TestArgumentsSurviveAUnit(t *testing.T) {
	for in, want := range map[string]string{
		"plain":       "plain",
		"":            `""`,
		"a b":         `"a b"`,
		`a"b\c`:       `"a\"b\\c"`,
		"100%":        "100%%",
		"$HOME/x":     "$$HOME/x",
		"line\nbreak": `"line\nbreak"`,
		"semi;colon":  `"semi;colon"`,
		"it's":        `"it's"`,
	} {
		if got := quote(in, true); got != want {
			t.Errorf("%q is written %s, want %s", in, got, want)
		}
	}
	if got := quote("WEFT_HOME=/a$b %c", false); got != `"WEFT_HOME=/a$b %%c"` {
		t.Errorf("got %s", got)
	}
}

func TestOutputOfCommandsIsBounded(t *testing.T) {
	var b bounded
	for range 10 {
		if n, err := b.Write(make([]byte, maxOutput)); n != maxOutput || err != nil {
			t.Fatal(n, err)
		}
	}
	if b.Len() != maxOutput {
		t.Errorf("%d bytes are kept", b.Len())
	}
}
