package discovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/crypto"
	libhost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Outside is a DHT outside of the mesh at which members on different networks
// find each other. It is used when the user says so and not otherwise.
type Outside struct {
	// Bootstrap are nodes of the DHT to begin at; they need not be members.
	Bootstrap []peer.AddrInfo
	// Key is the node's identity: what the DHT keeps is signed by connection.
	Key crypto.PrivKey
	// Every is the time between two visits while members are connected; 1 h.
	// A node that is alone comes every minute at first and then ever more
	// seldom.
	Every time.Duration
}

// PublicDHT is the word for the bootstrap nodes of the public IPFS DHT.
const PublicDHT = "public"

// ParseBootstrap reads what the user gives as bootstrap nodes: "public", or
// addresses that ParsePeer understands.
func ParseBootstrap(texts []string) ([]peer.AddrInfo, error) {
	var out []peer.AddrInfo
	for _, text := range texts {
		if strings.TrimSpace(text) == PublicDHT {
			out = append(out, dht.GetDefaultBootstrapPeerAddrInfos()...)
			continue
		}
		info, err := ParsePeer(text)
		if err != nil {
			return nil, err
		}
		out = append(out, info)
	}
	return out, nil
}

const (
	visitTime    = 2 * time.Minute // of one visit at the longest
	visitFirst   = 2 * time.Second // after the start: neighbours answer sooner
	aloneEvery   = time.Minute
	aloneLongest = 15 * time.Minute
	maxFound     = 64
)

var (
	errNoSecret = errors.New("the mesh's secret is not known yet: it comes from another member at the first contact")
	errNoDHT    = errors.New("no node of the DHT answers")
)

// visits goes to the DHT from time to time.
func (d *Discovery) visits() {
	alone := 0
	pause := min(visitFirst, d.cfg.Outside.Every)
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-time.After(pause):
		}
		if err := d.visit(); err != nil && d.ctx.Err() == nil {
			d.log.Info("no members found through the DHT", "error", err)
		}
		pause = d.cfg.Outside.Every
		if len(d.host.Members()) > 0 {
			alone = 0
			continue
		}
		pause = min(pause, aloneLongest, aloneEvery<<min(alone, 10))
		alone++
	}
}

// visit announces this node at the mesh's meeting points and takes whom it
// finds there as candidates. It has a libp2p host of its own that listens
// nowhere and ends with the visit: nodes of the DHT are strangers.
func (d *Discovery) visit() error {
	secret, ok := d.cfg.Secrets.Secret()
	if !ok {
		return errNoSecret
	}
	keys, err := rendezvous(secret, time.Now())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(d.ctx, visitTime)
	defer cancel()
	own := d.host.DialAddrs()
	kad, err := visitor(d.cfg.Outside, own)
	if err != nil {
		return err
	}
	defer func() {
		lib := kad.Host()
		_ = kad.Close()
		_ = lib.Close()
	}()
	if err := begin(ctx, kad, d.cfg.Outside.Bootstrap); err != nil {
		return err
	}
	onlyHere := !slices.ContainsFunc(own, func(a ma.Multiaddr) bool { return !manet.IsIPLoopback(a) })
	var errs []error
	for _, key := range keys {
		for found := range kad.FindProvidersAsync(ctx, key, maxFound) {
			found.Addrs = slices.DeleteFunc(found.Addrs, func(a ma.Multiaddr) bool {
				return !isDirect(a) || manet.IsIPLoopback(a) && !onlyHere
			})
			d.add(found, false)
		}
		errs = append(errs, kad.Provide(ctx, key, true))
	}
	return errors.Join(errs...)
}

// begin connects to the bootstrap nodes and fills the routing table.
func begin(ctx context.Context, kad *dht.IpfsDHT, nodes []peer.AddrInfo) error {
	var errs []error
	reached := 0
	for _, n := range nodes {
		if n.ID == kad.PeerID() {
			continue
		}
		if err := kad.Host().Connect(ctx, n); err != nil {
			errs = append(errs, err)
			continue
		}
		reached++
	}
	if reached == 0 {
		return fmt.Errorf("%w: %w", errNoDHT, errors.Join(errs...))
	}
	select {
	case err := <-kad.RefreshRoutingTable():
		if kad.RoutingTable().Size() == 0 {
			return errors.Join(errNoDHT, err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// visitor makes a client of the DHT that says that it is reached at addrs.
func visitor(o *Outside, addrs []ma.Multiaddr) (*dht.IpfsDHT, error) {
	lib, err := libp2p.New(
		libp2p.Identity(o.Key), libp2p.NoListenAddrs,
		libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()), libp2p.Transport(libp2pquic.NewTransport),
		libp2p.Security(libp2ptls.ID, libp2ptls.New), libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.Ping(false),
	)
	if err != nil {
		return nil, fmt.Errorf("visit the DHT: %w", err)
	}
	kad, err := dht.New(reachedAt{lib, addrs}, dht.Mode(dht.ModeClient), dht.BootstrapPeers(o.Bootstrap...), dht.DisableAutoRefresh())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("visit the DHT: %w", err), lib.Close())
	}
	return kad, nil
}

// reachedAt is a libp2p host with the addresses of another.
type reachedAt struct {
	libhost.Host
	addrs []ma.Multiaddr
}

func (r reachedAt) Addrs() []ma.Multiaddr { return r.addrs }
