package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weft-mesh/weft/node/api"
)

// Bounds of clocks and packets.
const (
	clockOff  = time.Minute
	clockDead = time.Hour // certificates tolerate no more
	leastMTU  = 1280      // IPv6's least, which QUIC needs too
)

// answers are the peers that said something.
func answers(f Facts) []api.PeerCheckup {
	var out []api.PeerCheckup
	if f.Checkup == nil {
		return nil
	}
	for _, p := range f.Checkup.Peers {
		if p.Error == "" {
			out = append(out, p)
		}
	}
	return out
}

func port(f Facts) []Check {
	c := Check{Name: "port"}
	if f.Daemon == nil {
		if f.Port != nil {
			c.Grade, c.Text, c.Fix = Warn, fmt.Sprintf("the default port cannot be had: %v", f.Port), "stop the program that has it, or give `weft up` another with --listen :PORT; without, it takes any free one"
		} else {
			c.Grade, c.Text = Skipped, "the default port is free; whether others reach it needs a running node and a peer"
		}
		return one(c)
	}
	if f.Checkup != nil && f.Checkup.Loopback {
		return one(Check{"port", Skipped, "the node listens on loopback: nobody outside this machine is meant to reach it", ""})
	}
	if why := noPeers(f); why != "" {
		return one(Check{"port", Skipped, why, ""})
	}
	var good, bad []string
	for _, p := range answers(f) {
		if p.NotDialed != "" {
			bad = append(bad, p.Name+" did not try: "+p.NotDialed)
		}
		for _, d := range p.Dialed {
			if d.Error == "" {
				good = append(good, p.Name+" at "+d.Address)
			} else {
				bad = append(bad, fmt.Sprintf("%s cannot connect to %s: %s", p.Name, d.Address, d.Error))
			}
		}
	}
	switch {
	case len(bad) == 0 && len(good) > 0:
		c.Grade, c.Text = OK, "connected back by "+some(good)
	case len(good) > 0:
		c.Grade, c.Text, c.Fix = Warn, some(bad), openPort(f)+"; others do reach it: "+some(good)
	default:
		c.Grade, c.Text, c.Fix = Warn, some(bad), openPort(f)+". Until then this node has to connect to the others, and two such nodes cannot meet"
	}
	return one(c)
}

// openPort says how the system's firewall lets the node be reached.
func openPort(f Facts) string {
	p := 4710
	if f.Checkup != nil && len(f.Checkup.TCPPorts) > 0 {
		p = f.Checkup.TCPPorts[0]
	}
	switch f.OS {
	case "windows":
		return fmt.Sprintf("allow TCP and UDP port %d: New-NetFirewallRule -DisplayName weft -Direction Inbound -Protocol TCP -LocalPort %d -Action Allow", p, p)
	case "darwin":
		return "allow incoming connections for weft in System Settings, Network, Firewall"
	}
	return fmt.Sprintf("allow TCP and UDP port %d in the firewall: sudo ufw allow %d, or sudo firewall-cmd --add-port=%d/tcp --add-port=%d/udp", p, p, p, p)
}

func clock(f Facts) []Check {
	if why := noPeers(f); why != "" {
		return one(Check{"clock", Skipped, why, ""})
	}
	list := answers(f)
	slices.SortStableFunc(list, func(a, b api.PeerCheckup) int { return int(min(1, max(-1, a.ClockAhead-b.ClockAhead))) })
	middle := list[len(list)/2].ClockAhead
	fix := map[string]string{
		"windows": "set it: w32tm /resync", "darwin": "set it: sudo sntp -sS time.apple.com",
	}[f.OS]
	if fix == "" {
		fix = "set it: sudo timedatectl set-ntp true"
	}
	switch {
	case middle.Abs() >= clockOff:
		c := Check{"clock", Warn, fmt.Sprintf("this machine's clock is %s %s", span(middle.Abs()), direction(-middle)), fix}
		if middle.Abs() >= clockDead {
			c.Grade, c.Text = Fail, c.Text+"; certificates tolerate an hour"
		}
		return one(c)
	}
	var out []Check
	for _, p := range list {
		if off := p.ClockAhead; off.Abs() >= clockOff {
			out = append(out, Check{"clock", Warn, fmt.Sprintf("the clock of %s is %s %s", p.Name, span(off.Abs()), direction(off)), "there, " + fix})
		}
	}
	if len(out) > 0 {
		return out
	}
	worst := time.Duration(0)
	for _, p := range list {
		worst = max(worst, p.ClockAhead.Abs()+p.RTT/2)
	}
	return one(Check{"clock", OK, fmt.Sprintf("within %s of %s", span(worst), peers(len(list))), ""})
}

func direction(ahead time.Duration) string {
	if ahead < 0 {
		return "behind"
	}
	return "ahead"
}

func multicast(f Facts) []Check {
	c := Check{Name: "multicast"}
	m := api.Multicast{}
	if f.Checkup != nil {
		m = f.Checkup.Multicast
	}
	fix := "allow UDP port 5353 to and from 224.0.0.251 and ff02::fb in the firewall; nodes can be joined by an invitation without it"
	switch {
	case f.Daemon == nil:
		for _, i := range f.Interfaces {
			if i.Multicast && !i.Loopback {
				return one(Check{"multicast", Skipped, "interface " + i.Name + " can; whether it works needs a running node", ""})
			}
		}
		c.Grade, c.Text, c.Fix = Warn, "no network interface can multicast, so nodes do not find each other by themselves", "join by an invitation"
	case f.Checkup == nil:
		c.Grade, c.Text = Skipped, f.NoCheckup
	case m.Error != "":
		c.Grade, c.Text = Skipped, m.Error
	case m.Others > 0 && m.Self:
		c.Grade, c.Text = OK, fmt.Sprintf("mDNS hears this node and %s", others(m.Others))
	case m.Others > 0:
		c.Grade, c.Text = OK, fmt.Sprintf("mDNS hears %s", others(m.Others))
	case m.Self && len(f.Checkup.Peers) > 0:
		c.Grade, c.Text = Warn, "mDNS hears this node but none of the others, which may be on another network"
		c.Fix = "on one network: switch off client isolation or IGMP snooping of the access point or switch, or allow UDP port 5353 on the others"
	case m.Self:
		c.Grade, c.Text = OK, "mDNS hears this node; there is no other"
	default:
		c.Grade, c.Text, c.Fix = Warn, "mDNS does not even hear this node's own announcement, so others do not find it by themselves", fix
	}
	return one(c)
}

func mtu(f Facts) []Check {
	var small, fine []string
	for _, i := range f.Interfaces {
		switch {
		case i.Loopback || i.MTU <= 0:
		case i.MTU < leastMTU:
			small = append(small, fmt.Sprintf("%s has %d", i.Name, i.MTU))
		default:
			fine = append(fine, fmt.Sprintf("%s %d", i.Name, i.MTU))
		}
	}
	switch {
	case len(small) > 0:
		return one(Check{"mtu", Warn, some(small) + fmt.Sprintf(", less than the %d that IPv6 and QUIC need", leastMTU), "raise it: sudo ip link set dev NAME mtu 1400 (or in the VPN's settings)"})
	case len(fine) > 0:
		return one(Check{"mtu", OK, some(fine), ""})
	}
	return one(Check{"mtu", Skipped, "no interface but loopback is up", ""})
}

// path finds a path that drops large packets: the classic of a tunnel with a
// small MTU whose messages about it are filtered.
func path(f Facts) []Check {
	if why := noPeers(f); why != "" {
		return one(Check{"path", Skipped, why, ""})
	}
	var out []Check
	n := 0
	for _, p := range answers(f) {
		switch {
		case p.SmallError != "":
			out = append(out, Check{"path", Warn, fmt.Sprintf("%s does not send back what it is sent: %s", p.Name, p.SmallError), "look at its log"})
		case p.LargeError != "":
			out = append(out, Check{
				"path", Fail, fmt.Sprintf("small messages reach %s and large ones do not: %s", p.Name, p.LargeError),
				"a tunnel or router on the way has a smaller MTU and says nothing of it: lower this machine's (sudo ip link set dev NAME mtu 1280), or let ICMP pass",
			})
		default:
			n++
		}
	}
	if len(out) == 0 {
		return one(Check{"path", OK, "large messages pass to " + peers(n), ""})
	}
	return out
}

// some joins the first few.
func some(list []string) string {
	const most = 3
	if len(list) > most {
		return strings.Join(list[:most], "; ") + fmt.Sprintf("; and %d more", len(list)-most)
	}
	return strings.Join(list, "; ")
}

func peers(n int) string {
	if n == 1 {
		return "the one other node"
	}
	return fmt.Sprintf("%d other nodes", n)
}

func others(n int) string {
	if n == 1 {
		return "one other"
	}
	return fmt.Sprintf("%d others", n)
}

// span writes a duration with two digits or so.
func span(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "a millisecond"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}
