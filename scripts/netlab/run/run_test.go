//go:build linux

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/weft-mesh/weft/scripts/netlab"
)

func TestAPathIsReadFromWords(t *testing.T) {
	got, err := parsePath(strings.Fields("delay=20ms jitter=1ms loss=0.01 rate=100 cut"))
	want := netlab.Path{Delay: 20 * time.Millisecond, Jitter: time.Millisecond, Loss: 0.01, Rate: 100e6, Cut: true}
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"delay=x", "speed=3", "loss=many"} {
		if _, err := parsePath([]string{bad}); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

func TestProgramsRunInEveryHostAndTheNetworkIsChanged(t *testing.T) {
	if err := netlab.Available(); err != nil {
		t.Skip("not run:", err)
	}
	var out bytes.Buffer
	s := &session{hosts: map[string]*netlab.Host{}, out: &out}
	var err error
	if s.lab, err = netlab.New(); err != nil {
		t.Fatal(err)
	}
	defer s.lab.Close()
	order, err := s.build("a,b@3")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range order {
		if err := s.start(name, []string{"sh", "-c", "echo $NETLAB_HOST $NETLAB_ADDR; exit 3"}); err != nil {
			t.Fatal(err)
		}
	}
	s.commands(strings.NewReader("path a b delay=1ms\ncut a\nmend a\nin b echo hello\n\nfly a\ncut x\npath a x\n"))
	s.wg.Wait()
	for _, want := range []string{"a| a 10.77.0.1", "b| b 10.77.3.1", "a| ended: exit status 3", "b| hello", "fly is no command", "cut: which host?", "to which host?"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}
