package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	ma "github.com/multiformats/go-multiaddr"
)

// ErrPortInUse means that another program listens on the wanted port.
var ErrPortInUse = errors.New("the port is in use")

// anyPortTries bounds the search for a number that is free for TCP and UDP.
const anyPortTries = 32

// listenAddrs turns "host:port" into multiaddrs for TCP and QUIC on one port
// number. An empty host means all interfaces, port 0 any free number. It
// binds each address once, so that a port in use is reported by name.
func listenAddrs(listen string) ([]ma.Multiaddr, error) {
	hosts, port, err := splitListen(listen)
	if err != nil {
		return nil, err
	}
	if port != 0 {
		if hosts, err = claim(hosts, port); err != nil {
			return nil, err
		}
		return multiaddrs(hosts, port)
	}
	for range anyPortTries {
		if port, err = freePort(hosts[0]); err != nil {
			return nil, err
		}
		var usable []netip.Addr
		if usable, err = claim(hosts, port); err == nil {
			return multiaddrs(usable, port)
		}
	}
	return nil, err
}

func splitListen(listen string) ([]netip.Addr, int, error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, 0, fmt.Errorf("listen address %q: %w: write HOST:PORT, for example 0.0.0.0:9338", listen, err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, 0, fmt.Errorf("listen address %q: the port must be 0 to 65535", listen)
	}
	switch host {
	case "":
		return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}, int(port), nil
	case "localhost":
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, int(port), nil
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Zone() != "" {
		return nil, 0, fmt.Errorf("listen address %q: the host must be an IP address of this machine, localhost or empty for all", listen)
	}
	return []netip.Addr{addr.Unmap()}, int(port), nil
}

// claim binds the port on every host for TCP and UDP and lets it go again.
// An IPv6 wildcard beside another host is left out where the machine has no
// IPv6. libp2p binds a moment later; it would not tell a port that is in use
// from one that it may share.
func claim(hosts []netip.Addr, port int) ([]netip.Addr, error) {
	var usable []netip.Addr
	for i, h := range hosts {
		err := bindOnce(h, port)
		switch {
		case err == nil:
			usable = append(usable, h)
		case errors.Is(err, syscall.EADDRINUSE):
			return nil, fmt.Errorf("listen on %s: %w: another weft or another program has it; stop that, or choose another port with --listen HOST:PORT (port 0 takes any free one)",
				netip.AddrPortFrom(h, uint16(port)), ErrPortInUse)
		case i > 0 && h.Is6():
		default:
			return nil, fmt.Errorf("listen on %s: %w", netip.AddrPortFrom(h, uint16(port)), err)
		}
	}
	return usable, nil
}

func bindOnce(h netip.Addr, port int) error {
	family := "4"
	if h.Is6() {
		family = "6"
	}
	at := netip.AddrPortFrom(h, uint16(port)).String()
	l, err := net.Listen("tcp"+family, at)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	u, err := net.ListenPacket("udp"+family, at)
	if err != nil {
		return err
	}
	return u.Close()
}

func freePort(h netip.Addr) (int, error) {
	l, err := net.Listen("tcp", netip.AddrPortFrom(h, 0).String())
	if err != nil {
		return 0, fmt.Errorf("listen on %s: %w", h, err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func multiaddrs(hosts []netip.Addr, port int) ([]ma.Multiaddr, error) {
	var out []ma.Multiaddr
	for _, h := range hosts {
		proto := "ip4"
		if h.Is6() {
			proto = "ip6"
		}
		for _, format := range []string{"/%s/%s/tcp/%d", "/%s/%s/udp/%d/quic-v1"} {
			a, err := ma.NewMultiaddr(fmt.Sprintf(format, proto, h, port))
			if err != nil {
				return nil, err
			}
			out = append(out, a)
		}
	}
	return out, nil
}
