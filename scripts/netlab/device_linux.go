package netlab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	device = "weft0"
	mtu    = 1500
)

// openTUN makes the device in the calling thread's namespace.
func openTUN() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	r, err := unix.NewIfreq(device)
	if err == nil {
		r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make device %s: %w", device, err)
	}
	f := os.NewFile(uintptr(fd), "/dev/net/tun")
	if err := setOffload(f, true); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// setOffload says whether the kernel hands over TCP's large packets whole,
// which is what makes a gigabit cheap.
func setOffload(f *os.File, large bool) error {
	flags := unix.TUN_F_CSUM
	if large {
		flags |= unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	}
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = c.Control(func(fd uintptr) { set = unix.IoctlSetInt(int(fd), unix.TUNSETOFFLOAD, flags) })
	if err = errors.Join(err, set); err != nil {
		return fmt.Errorf("device %s: set offload: %w", device, err)
	}
	return nil
}

// request runs one ioctl of a network device in the thread's namespace.
func request(name string, call uint, fill func(*unix.Ifreq) error, read ...func(*unix.Ifreq)) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(s) }()
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := fill(r); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(s, call, r); err != nil {
		return fmt.Errorf("device %s: %w", name, err)
	}
	for _, f := range read {
		f(r)
	}
	return nil
}

func raise(name string) error {
	return request(name, unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error {
		r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_MULTICAST)
		return nil
	})
}

func setMTU() error {
	return request(device, unix.SIOCSIFMTU, func(r *unix.Ifreq) error {
		r.SetUint32(mtu)
		return nil
	})
}

// setAddress replaces the device's address and its routes: everything goes to
// the switch.
func setAddress(a netip.Addr) error {
	set := func(ip ...byte) func(*unix.Ifreq) error {
		return func(r *unix.Ifreq) error { return r.SetInet4Addr(ip) }
	}
	if err := errors.Join(
		request(device, unix.SIOCSIFADDR, set(a.AsSlice()...)),
		request(device, unix.SIOCSIFNETMASK, set(255, 255, 255, 0)),
		raise(device),
	); err != nil {
		return err
	}
	return defaultRoute()
}

// defaultRoute sends all IPv4 to the device, by a message to the kernel: its
// header, a route without fields of note, and the device's index.
func defaultRoute() error {
	var index uint32
	if err := request(device, unix.SIOCGIFINDEX, func(*unix.Ifreq) error { return nil }, func(r *unix.Ifreq) { index = r.Uint32() }); err != nil {
		return err
	}
	nl, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(nl) }()
	if err := unix.Sendto(nl, routeMessage(index), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("add the route: %w", err)
	}
	b := make([]byte, 4096)
	n, _, err := unix.Recvfrom(nl, b, 0)
	if err != nil || n < unix.SizeofNlMsghdr+4 {
		return fmt.Errorf("add the route: no answer: %w", err)
	}
	if code := int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])); code != 0 {
		return fmt.Errorf("add the route: %w", unix.Errno(-code))
	}
	return nil
}

func routeMessage(index uint32) []byte {
	const size = unix.SizeofNlMsghdr + unix.SizeofRtMsg + unix.SizeofRtAttr + 4
	b := make([]byte, size)
	*(*unix.NlMsghdr)(unsafe.Pointer(&b[0])) = unix.NlMsghdr{
		Len: size, Type: unix.RTM_NEWROUTE, Seq: 1,
		Flags: unix.NLM_F_REQUEST | unix.NLM_F_CREATE | unix.NLM_F_REPLACE | unix.NLM_F_ACK,
	}
	*(*unix.RtMsg)(unsafe.Pointer(&b[unix.SizeofNlMsghdr])) = unix.RtMsg{
		Family: unix.AF_INET, Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_STATIC,
		Scope: unix.RT_SCOPE_LINK, Type: unix.RTN_UNICAST,
	}
	at := unix.SizeofNlMsghdr + unix.SizeofRtMsg
	*(*unix.RtAttr)(unsafe.Pointer(&b[at])) = unix.RtAttr{Len: unix.SizeofRtAttr + 4, Type: unix.RTA_OIF}
	binary.NativeEndian.PutUint32(b[at+unix.SizeofRtAttr:], index)
	return b
}
