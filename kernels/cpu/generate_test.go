package cpu

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheAssemblyIsWhatItsGeneratorWrites needs the generator's dependencies in
// the module cache, and is not run with -short as it compiles them.
func TestTheAssemblyIsWhatItsGeneratorWrites(t *testing.T) {
	if testing.Short() {
		t.Skip("not run: -short")
	}
	dir := t.TempDir()
	tool := filepath.Join(dir, "asm")
	build := exec.Command("go", "build", "-C", "_asm", "-o", tool, ".")
	build.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=", "GOOS=", "GOARCH=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Skipf("not run: the generator cannot be built here: %v\n%s", err, out)
	}
	parts := map[string]string{"products512": "amd64", "products2": "amd64", "products_vnni": "amd64", "products_amx": "amd64", "rows": "amd64", "products_neon": "arm64", "rows_neon": "arm64"}
	for part, arch := range parts {
		made := filepath.Join(dir, part)
		run := exec.Command(tool, "-part", part, "-out", made+".s", "-stubs", made+".go", "-pkg", "cpu")
		if out, err := run.CombinedOutput(); err != nil {
			t.Fatalf("generate %s: %v\n%s", part, err, out)
		}
		for _, ext := range []string{".s", ".go"} {
			got, want := body(t, made+ext), body(t, part+"_"+arch+ext)
			if !bytes.Equal(got, want) {
				t.Errorf("%s_%s%s differs from what _asm writes: run go generate", part, arch, ext)
			}
		}
	}
}

// TestTheGeneratorPassesItsOwnTests runs them as the module of the generator is
// none of this one's packages.
func TestTheGeneratorPassesItsOwnTests(t *testing.T) {
	if testing.Short() {
		t.Skip("not run: -short")
	}
	run := func(args ...string) ([]byte, error) {
		cmd := exec.Command("go", args...)
		cmd.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=", "GOOS=", "GOARCH=")
		return cmd.CombinedOutput()
	}
	if out, err := run("build", "-C", "_asm", "-o", os.DevNull, "."); err != nil {
		t.Skipf("not run: the generator cannot be built here: %v\n%s", err, out)
	}
	out, err := run("test", "-C", "_asm", "-v", ".")
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for line := range strings.SplitSeq(string(out), "\n") {
		if strings.Contains(line, "not run: ") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// body reads a file without its first line, which names the command.
func body(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(b, []byte("\n"))
	return rest
}
