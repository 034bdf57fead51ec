package netlab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Host is a network namespace with one device.
type Host struct {
	lab    *Lab
	name   string
	addr   netip.Addr // guarded by lab.mu
	router *Router    // that it is behind, or nil; guarded by lab.mu
	tun    *os.File
	calls  chan func() // run on the thread that lives in the namespace
	quit   chan struct{}
	ended  chan struct{}
	wg     sync.WaitGroup
	up     pipe
	down   pipe
	wall   firewall

	mu       sync.Mutex // guards all below
	programs []*exec.Cmd
	large    bool // packets above the MTU are handed over
}

// Name returns the host's name.
func (h *Host) Name() string { return h.name }

// Addr returns the host's address.
func (h *Host) Addr() netip.Addr {
	h.lab.mu.RLock()
	defer h.lab.mu.RUnlock()
	return h.addr
}

// subnet is the third byte of the address. Callers hold lab.mu.
func (h *Host) subnet() byte { return h.addr.As4()[2] }

// Command makes a command that is to run in the host; h.Start starts it. It is
// killed with the lab, and with the process that made the lab.
func (h *Host) Command(name string, args ...string) *exec.Cmd { return exec.Command(name, args...) }

// Start starts a command in the host. The caller waits for it.
func (h *Host) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return h.Do(func() error {
		if err := cmd.Start(); err != nil {
			return err
		}
		h.mu.Lock()
		h.programs = append(h.programs, cmd)
		h.mu.Unlock()
		return nil
	})
}

// Do runs f on a thread inside the host's namespace and waits for it. Sockets
// that f makes belong to the host for good; goroutines that it starts do not.
func (h *Host) Do(f func() error) error {
	done := make(chan error, 1)
	select {
	case h.calls <- func() { done <- f() }:
		return <-done
	case <-h.ended:
		return errClosed
	}
}

// SetAccess limits what the host can send and receive in all, in bits a
// second; 0 for no limit.
func (h *Host) SetAccess(up, down float64) error {
	u, d := Path{Rate: up}, Path{Rate: down}
	if err := errors.Join(u.check(), d.check()); err != nil {
		return err
	}
	h.up.change(u)
	h.down.change(d)
	return nil
}

// SetFirewall lets only answers in: packets from whom the host has sent
// something to, from the same port to the same port, like a home's router.
func (h *Host) SetFirewall(on bool) { h.wall.set(on) }

// Readdress gives the host the next free address of a subnet instead of its
// own, as when a laptop moves. Connections of its programs break.
func (h *Host) Readdress(subnet int) (netip.Addr, error) {
	h.lab.mu.Lock()
	addr, err := h.lab.free(subnet)
	if err != nil {
		h.lab.mu.Unlock()
		return addr, err
	}
	delete(h.lab.byAddr, h.addr)
	h.addr = addr
	h.lab.byAddr[addr] = h
	h.lab.mu.Unlock()
	return addr, h.Do(func() error { return setAddress(addr) })
}

// begin makes the namespace and its device, and starts to switch.
func (h *Host) begin() error {
	h.ended = make(chan struct{})
	ready := make(chan error, 1)
	go func() {
		defer close(h.ended)
		_ = onThread(func() error {
			err := h.enter()
			ready <- err
			if err != nil {
				return err
			}
			for {
				select {
				case f := <-h.calls:
					f()
				case <-h.quit:
					return nil
				}
			}
		})
	}()
	if err := <-ready; err != nil {
		return err
	}
	h.wg.Go(h.read)
	return nil
}

func (h *Host) enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("new network namespace: %w", err)
	}
	tun, err := openTUN()
	if err != nil {
		return err
	}
	h.tun, h.large = tun, true
	if err := errors.Join(raise("lo"), setMTU(), setAddress(h.addr)); err != nil {
		return errors.Join(err, tun.Close())
	}
	return nil
}

func (h *Host) offload(large bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.large == large {
		return nil
	}
	h.large = large
	return setOffload(h.tun, large)
}

// read switches what the host sends until the device is closed.
func (h *Host) read() {
	buf := make([]byte, headerSize+1<<16)
	for {
		n, err := h.tun.Read(buf)
		if err != nil {
			return
		}
		if n > headerSize {
			h.up.send(buf[:n])
		}
	}
}

// route finds out where a packet goes.
func (h *Host) route(f frame) {
	h.wall.leaves(f.packet())
	for _, p := range h.lab.to(h, f) {
		p.send(f)
	}
}

func (h *Host) write(f frame) {
	if h.wall.enters(f.packet()) {
		_, _ = h.tun.Write(f) // full or closed: lost
	}
}

func destination(p []byte) (netip.Addr, bool) {
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(p[16:20])), true
	case len(p) >= 40 && p[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(p[24:40])), true
	}
	return netip.Addr{}, false
}

// end kills what runs in the host and gives the namespace up.
func (h *Host) end() error {
	h.mu.Lock()
	programs := h.programs
	h.mu.Unlock()
	for _, cmd := range programs {
		_ = cmd.Process.Kill() // nothing happens to one that was waited for
	}
	err := h.tun.Close()
	h.wg.Wait()
	close(h.quit)
	<-h.ended
	return err
}

// onThread runs f on a thread that ends afterwards, with the namespace that f
// may have entered. The process's first thread does not end, and would show
// its namespace as the process's own: it is not used.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			done <- onThread(f) // this thread is taken meanwhile
			runtime.UnlockOSThread()
			return
		}
		done <- f()
	}()
	return <-done
}
