package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// program stands in for weft: it notes how it was called.
const program = `#!/bin/sh
echo "$*" >>"$CALLS"
[ "$1" = version ] && echo weft v9
exit 0
`

// installation is a home in which install.sh runs.
type installation struct {
	t                   *testing.T
	home, calls, script string
}

func newInstallation(t *testing.T) *installation {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("not run: install.sh is for systems with a POSIX shell")
	}
	for _, tool := range []string{"sh", "tar", "awk"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("not run: %v", err)
		}
	}
	script, err := filepath.Abs("../install.sh")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return &installation{t: t, home: filepath.Join(dir, "a home"), calls: filepath.Join(dir, "calls"), script: script}
}

// run calls the script without a terminal and gives what it said.
func (i *installation) run(args ...string) (string, error) {
	i.t.Helper()
	cmd := exec.CommandContext(i.t.Context(), "sh", append([]string{i.script}, args...)...)
	cmd.Env = []string{"HOME=" + i.home, "CALLS=" + i.calls, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + i.t.TempDir()}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (i *installation) called() string {
	b, err := os.ReadFile(i.calls)
	if err != nil {
		return ""
	}
	return string(b)
}

// archived writes a release with its checksums and gives the archive's path.
func (i *installation) archived(content string) string {
	i.t.Helper()
	dir := i.t.TempDir()
	name := archiveName("v9", target{system: "linux", arch: "amd64"})
	b, err := tarred("weft-v9-linux-amd64", []entry{{name: "weft", data: []byte(content), run: true}}, time.Unix(1_700_000_000, 0))
	if err != nil {
		i.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		i.t.Fatal(err)
	}
	if err := sums(dir, []string{name}); err != nil {
		i.t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

func TestAnArchiveIsInstalledAfterItsHashWasChecked(t *testing.T) {
	i := newInstallation(t)
	archive := i.archived(program)
	out, err := i.run("--from", archive)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	bin := filepath.Join(i.home, ".local/bin/weft")
	st, err := os.Stat(bin)
	if err != nil || st.Mode().Perm() != 0o755 {
		t.Fatalf("%v %v", st, err)
	}
	for _, want := range []string{"has the hash that was released", "installed weft v9 to " + bin, "not on your PATH", "weft service install"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	if i.called() != "version\n" {
		t.Errorf("the program was called with %q", i.called())
	}
	left, err := os.ReadDir(filepath.Dir(bin))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	// Again, over the old one, elsewhere, and with the service.
	b, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	prefix := filepath.Join(i.home, "elsewhere")
	if out, err := i.run("--from", archive, "--sha256", fmt.Sprintf("%X", sha256.Sum256(b)), "--prefix", prefix, "--service"); err != nil || !strings.HasSuffix(i.called(), "service install\n") {
		t.Errorf("%v: %q\n%s", err, i.called(), out)
	}
}

func TestADamagedOrUnknownArchiveIsNotInstalled(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, archive string) []string
		want  string
	}{
		"damaged": {func(t *testing.T, a string) []string {
			b, err := os.ReadFile(a)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(a, append(b, 'x'), 0o600); err != nil {
				t.Fatal(err)
			}
			return nil
		}, "damaged or not what was released"},
		"no sums": {func(t *testing.T, a string) []string {
			if err := os.Remove(filepath.Join(filepath.Dir(a), "SHA256SUMS")); err != nil {
				t.Fatal(err)
			}
			return nil
		}, "SHA256SUMS is not there"},
		"not named": {func(t *testing.T, a string) []string {
			if err := os.WriteFile(filepath.Join(filepath.Dir(a), "SHA256SUMS"), []byte(strings.Repeat("0", 64)+"  other.tar.gz\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			return nil
		}, "do not name"},
		"another hash": {func(*testing.T, string) []string { return []string{"--sha256", strings.Repeat("0", 64)} }, "damaged or not what was released"},
		"no such flag": {func(*testing.T, string) []string { return []string{"--nonsense"} }, "unknown"},
		"no value":     {func(*testing.T, string) []string { return []string{"--prefix"} }, "wants a value"},
	} {
		i := newInstallation(t)
		archive := i.archived(program)
		out, err := i.run(append([]string{"--from", archive}, c.spoil(t, archive)...)...)
		if err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if _, err := os.Stat(filepath.Join(i.home, ".local")); err == nil || i.called() != "" {
			t.Errorf("%s: something was installed or run: %q", name, i.called())
		}
	}
}

func TestAProgramOfAnotherMachineIsNotInstalled(t *testing.T) {
	i := newInstallation(t)
	out, err := i.run("--from", i.archived("#!/bin/sh\nexit 126\n"))
	if err == nil || !strings.Contains(out, "does not run on this machine") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(i.home, ".local")); err == nil {
		t.Error("it was installed")
	}
}

func TestAddressesAreHTTPSOnly(t *testing.T) {
	i := newInstallation(t)
	archive, err := os.ReadFile(i.archived(program))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(archive) }))
	defer s.Close()
	out, err := i.run("--from", s.URL+"/weft-v9-linux-amd64.tar.gz", "--sha256", fmt.Sprintf("%x", sha256.Sum256(archive)))
	if err == nil || !strings.Contains(out, "only https addresses") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestAnUnpackedArchiveInstallsTheProgramBesideTheScript(t *testing.T) {
	i := newInstallation(t)
	dir := t.TempDir()
	b, err := os.ReadFile(i.script)
	if err != nil {
		t.Fatal(err)
	}
	i.script = filepath.Join(dir, "install.sh")
	if err := os.WriteFile(i.script, b, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := i.run(); err == nil || !strings.Contains(out, "give a release archive with --from") {
		t.Errorf("with nothing beside it: %v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "weft"), []byte(program), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := i.run("--no-service"); err != nil || !strings.Contains(out, "installed weft v9") {
		t.Errorf("%v\n%s", err, out)
	}
	got, err := os.ReadFile(filepath.Join(i.home, ".local/bin/weft"))
	if err != nil || !bytes.Equal(got, []byte(program)) {
		t.Errorf("%q, %v", got, err)
	}
}
