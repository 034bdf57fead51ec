// Package netlab is a network in one machine, for tests and benchmarks: hosts
// are network namespaces, and what they send each other passes through a
// user-space switch that can delay, vary, lose, slow and cut it while programs
// run.
//
//	lab, err := netlab.New()               // needs root and /dev/net/tun
//	defer lab.Close()
//	a, err := lab.Host("a", 0)             // 10.77.0.1, on subnet 0
//	b, err := lab.Host("b", 0)             // 10.77.0.2
//	lab.Join(a, b, netlab.Path{Delay: 5 * time.Millisecond, Rate: 1e9})
//	cmd := a.Command("weft", "up")         // an *exec.Cmd
//	err = a.Start(cmd)                     // inside the namespace
//	lab.Join(a, b, netlab.Path{Cut: true}) // and now the cable is out
//
// Each host has one TUN device, weft0, with one IPv4 address. Subnets are
// links: multicast (mDNS) and broadcasts reach all hosts of the sender's
// subnet and no other; everything else reaches every host, of whatever subnet,
// unless the path to it is cut, a firewall stops it, or the host is behind a
// router that translates addresses (Router). A packet for an address that no host
// has goes nowhere and is remembered (Strays).
//
// The way of a packet is: the sender's access link (SetAccess), the path from
// the sender to the receiver (Join, Set), the receiver's access link. Rates
// serialise and queue, and what would wait longer than the queue holds is lost
// at its tail. Jitter never reorders. Programs that compute take the switch's
// time too: on a machine without idle cores add what a benchmark finds out for
// itself about round trips (`weft` and ping both tell). Where a fast link is
// measured, Cable lays one of the kernel's that costs no time.
//
// Nothing of a lab outlives it, nor the process that made it: namespaces have
// no names and end with their last program, programs are killed by the kernel
// when the lab's process ends however it ends, devices close with their files,
// and no setting outside of the namespaces is touched. To look into a host
// from a shell, take the id of one of its programs: nsenter -t PID -n.
//
// It runs on Linux as root only. Available says why it does not elsewhere, and
// tests skip with that reason. The command in scripts/netlab/run runs programs
// in a lab from a shell.
package netlab
