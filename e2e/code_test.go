//go:build unix

package e2e_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

var (
	codeLine = regexp.MustCompile(`weft approve ([0-9A-Z-]+)`)
	tcpAddr  = regexp.MustCompile(`/ip4/127\.0\.0\.1/tcp/(\d+)`)
)

// port is where a daemon listens for others.
func (d *daemon) port(t *testing.T) string {
	t.Helper()
	s, err := d.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := tcpAddr.FindStringSubmatch(strings.Join(s.Addrs, " "))
	if m == nil {
		t.Fatalf("%s listens at %v", d.name, s.Addrs)
	}
	return "127.0.0.1:" + m[1]
}

// code waits until a daemon that is starting shows another code than before.
func (d *daemon) code(t *testing.T, before string) string {
	t.Helper()
	code := ""
	eventually(t, 20*time.Second, func() error {
		all := codeLine.FindAllStringSubmatch(d.log.String(), -1)
		if len(all) == 0 || all[len(all)-1][1] == before {
			return fmt.Errorf("%s shows no new code:\n%s", d.name, d.log)
		}
		code = all[len(all)-1][1]
		return nil
	})
	return code
}

// TestOneTypedCodeMakesTwoHomesOneMesh is what a person does with two
// machines: `weft up` on each, and one code typed.
func TestOneTypedCodeMakesTwoHomesOneMesh(t *testing.T) {
	path := deep(t, 8)
	a := up(t, "ada", home(t), "--memory", "64MB")
	mustRun(t, a.home, "add", path, "--name", "m", "--ctx", "256")
	begin := time.Now()
	b := launch(t, "bob", home(t), "--memory", "0", "--peer", a.port(t))
	code := b.code(t, "")
	out := mustRun(t, a.home, "approve", strings.ToLower(strings.ReplaceAll(code, "-", "")))
	if !strings.HasPrefix(out, "bob has joined ada-mesh (") || !strings.HasSuffix(out, ") as compute\n") {
		t.Errorf("approve says %q", out)
	}
	if err := b.await(t); err != nil {
		t.Fatal(err)
	}
	b.seesModel(t, "m")
	if _, err := b.ask(t, "m", 1, nil); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	t.Logf("joined by a typed code and answered after %v", took.Round(time.Millisecond))
	if took > 5*time.Second {
		t.Errorf("from `weft up` to the first token it took %v", took)
	}
	for what, args := range map[string][]string{
		"the code again": {"approve", code}, "a mistyped code": {"approve", code[:8] + "?"}, "no code": {"approve"},
	} {
		if out, _, err := run(t, a.home, args...); err == nil {
			t.Errorf("%s: %s", what, out)
		}
	}
}

// TestAMeshIsChosenByItsName has two meshes in sight and a name for one.
func TestAMeshIsChosenByItsName(t *testing.T) {
	a := up(t, "ada", home(t), "--memory", "0", "--new", "office")
	b := up(t, "bob", home(t), "--memory", "0", "--new", "attic")
	both := []string{"--memory", "0", "--peer", a.port(t), "--peer", b.port(t)}
	c := launch(t, "eve", home(t), append(both, "--mesh", "attic")...)
	code := c.code(t, "")
	if out, errs, err := run(t, a.home, "approve", code); err == nil || !strings.Contains(errs, "no machine waits") {
		t.Errorf("another mesh lets it in: %v %s%s", err, out, errs)
	}
	mustRun(t, b.home, "approve", code)
	if err := c.await(t); err != nil {
		t.Fatal(err)
	}
	if s, err := c.Status(t.Context()); err != nil || !strings.HasPrefix(s.Mesh, "attic (") {
		t.Errorf("%+v %v", s, err)
	}
	d := launch(t, "dan", home(t), both...)
	code = d.code(t, "")
	eventually(t, 10*time.Second, func() error {
		if !strings.Contains(d.log.String(), "attic (") || !strings.Contains(d.log.String(), "office (") {
			return fmt.Errorf("not both meshes are listed:\n%s", d.log)
		}
		return nil
	})
	mustRun(t, a.home, "approve", "--role", "client", code)
	if err := d.await(t); err != nil {
		t.Fatal(err)
	}
	if s, err := d.Status(t.Context()); err != nil || !strings.HasPrefix(s.Mesh, "office (") || s.Role != "client" {
		t.Errorf("%+v %v", s, err)
	}
}

// TestAnUnreachableAddressEndsWithItsReason names an address where nobody is:
// no mesh of its own is founded instead.
func TestAnUnreachableAddressEndsWithItsReason(t *testing.T) {
	dir := home(t)
	_, errs, err := run(t, dir, "up", "--listen", "127.0.0.1:0", "--http", "off", "--memory", "0", "--peer", "127.0.0.1:1")
	if err == nil || !strings.Contains(errs, "no weft answers at 127.0.0.1:1") {
		t.Errorf("%v: %s", err, errs)
	}
}
