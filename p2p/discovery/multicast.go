package discovery

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/zeroconf/v2"
)

// Sight is what a question to the local network by mDNS brought.
type Sight struct {
	// Self says that this node's own announcement was heard: multicast leaves
	// and reaches this machine.
	Self bool
	// Others are other nodes of the mesh that answered.
	Others int
}

// maxAnswers bounds what is taken from the network.
const maxAnswers = 512

// Look asks the local network for the mesh's nodes until ctx ends, or until both
// this node and another have answered. ErrNoMDNS means that mDNS is switched off.
func (d *Discovery) Look(ctx context.Context) (Sight, error) {
	if d.cfg.NoMDNS {
		return Sight{}, ErrNoMDNS
	}
	return look(ctx, ServiceName(d.cfg.Mesh), d.host.ID())
}

// ErrNoMDNS means that this node does not use mDNS.
var ErrNoMDNS = errors.New("mDNS is off: the node listens on loopback only")

func look(ctx context.Context, service string, self peer.ID) (Sight, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	entries := make(chan *zeroconf.ServiceEntry, 64)
	failed := make(chan error, 1)
	go func() { failed <- zeroconf.Browse(ctx, service, "local", entries) }()
	s := sightings{self: self, seen: map[string]bool{}}
	for {
		select {
		case e, ok := <-entries:
			if !ok {
				entries = nil // the browsing has ended and says so
				continue
			}
			s.take(e.Text)
			if s.Self && s.Others > 0 {
				cancel()
			}
		case err := <-failed:
			if err != nil && ctx.Err() == nil {
				return s.Sight, fmt.Errorf("ask the local network by mDNS: %w", err)
			}
			return s.Sight, nil
		}
	}
}

// sightings counts who answered.
type sightings struct {
	Sight
	self peer.ID
	seen map[string]bool
}

// take reads the addresses of an announcement: whoever answers can say anything.
func (s *sightings) take(texts []string) {
	for _, t := range texts {
		i := strings.LastIndex(t, "/p2p/")
		if i < 0 || len(s.seen) >= maxAnswers {
			continue
		}
		id, err := peer.Decode(t[i+len("/p2p/"):])
		if err != nil || s.seen[id.String()] {
			continue
		}
		s.seen[id.String()] = true
		if id == s.self {
			s.Self = true
		} else {
			s.Others++
		}
	}
}
