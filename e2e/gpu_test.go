//go:build unix

package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/kernels/opencl/icd"
	"github.com/weft-mesh/weft/node/api"
)

// checked is what the first test of an OpenCL device found out about it: files of a
// state directory that spare the others the same.
var checked map[string][]byte

// openCL skips a test where there is no OpenCL device, and gives the name of the
// first one.
func openCL(t *testing.T) string {
	t.Helper()
	list, err := icd.New().Devices()
	if errors.Is(err, driver.ErrAbsent) || err == nil && len(list) == 0 {
		t.Skipf("not run: no OpenCL platform (on Debian: apt-get install pocl-opencl-icd): %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if cache, err := os.UserCacheDir(); err == nil && os.Getenv("POCL_CACHE_DIR") == "" {
		t.Setenv("POCL_CACHE_DIR", filepath.Join(cache, "weft-pocl"))
	}
	const device = "opencl:0"
	if checked != nil {
		return device
	}
	dir := home(t)
	// PoCL compiles each kernel when it is first launched: minutes, once.
	cmd := exec.Command(weft, "doctor", "gpu", "--json", "--device", device)
	cmd.Env = environ(dir)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("weft doctor gpu: %v\n%s%s", err, out.String(), errs.String())
	}
	var rep api.DeviceReport
	if err := json.Unmarshal(out.Bytes(), &rep); err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(rep.Devices, func(d api.DeviceResult) bool { return d.ID == device }); i < 0 || !rep.Devices[i].Passed || rep.Devices[i].DecodeBps <= 0 {
		t.Fatalf("%+v", rep.Devices)
	}
	checked = map[string][]byte{}
	for _, pattern := range []string{"devices.json", "speed-*.json"} {
		names, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			checked[filepath.Base(name)] = b
		}
	}
	return device
}

// knowing is a home that knows the device.
func knowing(t *testing.T) string {
	t.Helper()
	dir := home(t)
	for name, b := range checked {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// where says which layers of a daemon's stage lie where: "processor 0-11, OTHER
// 12-23" with the device's name as OTHER.
func (d *daemon) where(t *testing.T) string {
	t.Helper()
	s, err := d.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, st := range s.Stages {
		for _, p := range st.Parts {
			name := "processor"
			if p.Device != name {
				name = "device"
			}
			list = append(list, name)
		}
	}
	return strings.Join(list, ", ")
}

func TestARepliesBytesAreTheSameOnAnOpenCLDevice(t *testing.T) {
	device := openCL(t)
	path := deep(t, 24)
	prompts := [][]string{
		{"--temp", "0", "--max-tokens", "24", "There was a weaver"},
		{"--temp", "0.9", "--seed", "5", "--max-tokens", "24", "There was a weaver who had a loom, and the loom was old, and the loom was wide."},
		{"--temp", "0.7", "--seed", "8", "--max-tokens", "24", "--speculate", "sync", "a b a b a b a b a b a b"},
	}
	ask := func(home string) []bytesOf {
		var out []bytesOf
		for _, p := range prompts {
			// PoCL compiles what the check did not launch.
			reply, errs, err := runFor(t, 5*time.Minute, home, append([]string{"run", "-m", "m", "--raw", "--json"}, p...)...)
			if err != nil {
				t.Fatalf("%v\n%s", err, errs)
			}
			out = append(out, bytesIn(replyOf(t, reply)))
		}
		return out
	}
	one := func(name string, args ...string) *daemon {
		d := up(t, name, knowing(t), append([]string{"--new", name}, args...)...)
		mustRun(t, d.home, "add", path, "--name", "m", "--ctx", "512")
		return d
	}
	plain := one("plain", "--device", "cpu")
	want := ask(plain.home)
	if len(want[0].Tokens) != 24 || want[0].Hash == "" {
		t.Fatalf("the processor's reply is %+v", want[0])
	}
	for _, tc := range []struct {
		name  string
		args  []string
		where string
	}{
		{"device", nil, "device"},
		{"mixed", []string{"--vram", "11MB"}, "processor, device"},
	} {
		d := one(tc.name, append([]string{"--device", device}, tc.args...)...)
		if diff := cmp.Diff(want, ask(d.home)); diff != "" {
			t.Errorf("%s (-processor +this):\n%s", tc.name, diff)
		}
		if got := d.where(t); got != tc.where {
			t.Errorf("%s: the layers lie on %q, want %q", tc.name, got, tc.where)
		}
	}
	t.Run("in one plan", func(t *testing.T) { onePlan(t, device, path, want, ask) })
}

// onePlan has a stage on a processor and one on a processor and a device.
func onePlan(t *testing.T, device, path string, want []bytesOf, ask func(home string) []bytesOf) {
	a := up(t, "a", knowing(t), "--new", "mixed", "--device", "cpu", "--memory", "10MB")
	token := strings.TrimSpace(mustRun(t, a.home, "invite", "--uses", "2"))
	b := up(t, "b", knowing(t), "--join", token, "--device", device, "--memory", "19MB", "--vram", "8MB")
	head := up(t, "head", home(t), "--join", token, "--memory", "0")
	mustRun(t, a.home, "add", path, "--name", "m", "--ctx", "512")
	head.seesModel(t, "m")
	deadline := time.Now().Add(30 * time.Second)
	for { // until the head knows what all offer
		p, err := head.Plan(t.Context(), api.PlanRequest{Model: "m"}, func(api.Progress) {})
		if err == nil && len(p.Stages) == 2 && slices.ContainsFunc(p.Stages, func(st api.PlanStage) bool { return len(st.Parts) == 2 }) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("plan %+v %v", p, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if diff := cmp.Diff(want, ask(head.home)); diff != "" {
		t.Errorf("(-processor +this):\n%s", diff)
	}
	if got := b.where(t); !strings.Contains(got, "processor") || !strings.Contains(got, "device") {
		t.Errorf("b's layers lie on %q", got)
	}
	s, err := a.Status(t.Context())
	if err != nil || len(s.Stages) != 1 {
		t.Errorf("a has no part in it: %+v %v", s.Stages, err)
	}
}
