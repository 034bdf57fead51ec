package node

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/p2p/discovery"
)

// noPeers is the address that takes those away which were given before.
const noPeers = "none"

const (
	staticRetry   = 10 * time.Second
	staticLongest = 5 * time.Minute
)

// keepPeers makes the addresses that the user has named last, now or at an
// earlier start, those of this run and keeps them.
func (m *mesh) keepPeers() error {
	c := &m.n.cfg
	var err error
	switch {
	case len(c.Peers) == 0:
		c.Peers, err = discovery.LoadStatic(c.Home)
	case slices.Contains(c.Peers, noPeers):
		c.Peers = nil
		err = discovery.KeepStatic(c.Home, nil)
	default:
		err = discovery.KeepStatic(c.Home, c.Peers)
	}
	return err
}

// addStatic gives those addresses to discovery, asking who listens there where
// the address does not say.
func (m *mesh) addStatic() {
	for _, addr := range m.n.cfg.Peers {
		m.n.background(func() {
			for pause := staticRetry; ; pause = min(2*pause, staticLongest) {
				info, err := m.host.Resolve(m.n.ctx, addr)
				if err == nil {
					m.finder.Add(info)
					return
				}
				m.n.log.Info("named address not reached", "addr", addr, "error", err)
				select {
				case <-m.n.ctx.Done():
					return
				case <-time.After(pause):
				}
			}
		})
	}
}

// outside is the DHT at which the user wants to find members of other networks;
// nil for none.
func (n *Node) outside(key crypto.PrivKey) (*discovery.Outside, error) {
	nodes, err := discovery.ParseBootstrap(n.cfg.Bootstrap)
	if err != nil {
		return nil, api.Errorf(api.KindInvalid, "--bootstrap: %w", err)
	}
	if len(nodes) == 0 {
		return nil, nil
	}
	return &discovery.Outside{Bootstrap: nodes, Key: key}, nil
}
