package netlab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// ErrNoCable means that this machine cannot lay cables.
var ErrNoCable = errors.New("netlab: cables need iproute2's ip and tc, and a kernel with veth and sch_tbf")

// cables counts, for the devices' names.
var cables atomic.Int32

// Cable takes what two hosts send each other off the switch and onto a pair of
// the kernel's own devices with a token bucket of rate bits a second, the frames'
// headers included, for each way. It costs next to no time of the processor, so
// that programs have it for a fast link; in return it only limits the rate:
// settings of the path between the two, firewalls and later addresses no longer
// count.
func (l *Lab) Cable(a, b *Host, rate float64) error {
	if rate <= 0 {
		return fmt.Errorf("netlab: a cable of %v bits a second", rate)
	}
	for _, tool := range []string{"ip", "tc"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w: %w", ErrNoCable, err)
		}
	}
	far, err := b.namespace()
	if err != nil {
		return err
	}
	name := fmt.Sprintf("cable%d", cables.Add(1))
	if err := a.tool("ip", "link", "add", name, "type", "veth", "peer", "name", name, "netns", far); err != nil {
		return err
	}
	for _, end := range [][2]*Host{{a, b}, {b, a}} {
		for _, cmd := range [][]string{
			{"ip", "link", "set", name, "up"},
			{"tc", "qdisc", "add", "dev", name, "root", "tbf", "rate", fmt.Sprintf("%.0fbit", rate), "burst", "128kb", "latency", "50ms"},
			{"ip", "route", "replace", end[1].Addr().String() + "/32", "dev", name},
		} {
			if err := end[0].tool(cmd[0], cmd[1:]...); err != nil {
				return err
			}
		}
	}
	return nil
}

// namespace is a path to the host's network namespace, which tools take for its
// name.
func (h *Host) namespace() (path string, err error) {
	err = h.Do(func() error {
		path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		return nil
	})
	return path, err
}

// tool runs a program in the host to its end.
func (h *Host) tool(name string, args ...string) error {
	cmd := h.Command(name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := h.Start(cmd); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		said := strings.TrimSpace(out.String())
		if strings.Contains(said, "not supported") || strings.Contains(said, "kind is unknown") || strings.Contains(said, "Unknown device type") {
			return fmt.Errorf("%w: %s", ErrNoCable, said)
		}
		return fmt.Errorf("netlab: %s %s: %w: %s", name, strings.Join(args, " "), err, said)
	}
	return nil
}
