package gossip

import (
	"crypto/sha256"
	"net"
	"strconv"

	"github.com/libp2p/go-libp2p/core/peer"
)

// memberlistPort fills the port that memberlist wants; it means nothing.
const memberlistPort = 1

// address is the made-up IPv6 address that memberlist gets for a peer. It
// follows from the peer id alone, so a node that moves or restarts never
// conflicts with its former self; libp2p knows the real addresses.
type address struct{ id peer.ID }

// ip returns fd00::/8 with 120 bits of the hash of the peer id.
func (a address) ip() net.IP {
	h := sha256.Sum256([]byte(a.id))
	ip := make(net.IP, net.IPv6len)
	ip[0] = 0xfd
	copy(ip[1:], h[:])
	return ip
}

func (a address) Network() string { return "libp2p" }

func (a address) String() string {
	return net.JoinHostPort(a.ip().String(), strconv.Itoa(memberlistPort))
}

// joinName is what memberlist's Join takes to reach the peer.
func (a address) joinName() string { return a.id.String() + "/" + a.String() }
