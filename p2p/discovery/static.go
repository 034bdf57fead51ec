package discovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/weft-mesh/weft/p2p/internal/durable"
)

const (
	staticFile     = "static.json"
	maxStatic      = 64
	maxStaticText  = 512
	maxStaticBytes = 1 << 17
)

// ParsePeer reads the address of a node that the user gives: PEER@HOST:PORT,
// where HOST is an IP address or a name, or a libp2p address that ends in
// /p2p/PEER, as `weft status` shows them.
func ParsePeer(text string) (peer.AddrInfo, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "/") {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			return peer.AddrInfo{}, fmt.Errorf("peer address %q: %w", text, err)
		}
		info, err := peer.AddrInfoFromP2pAddr(a)
		if err != nil || len(info.Addrs) == 0 {
			return peer.AddrInfo{}, fmt.Errorf("peer address %q must be a place and end in /p2p/PEER, as in /ip4/192.0.2.7/tcp/4710/p2p/12D3Koo…", text)
		}
		return *info, nil
	}
	who, where, ok := strings.Cut(text, "@")
	host, port, err := net.SplitHostPort(where)
	if !ok || err != nil || host == "" {
		return peer.AddrInfo{}, fmt.Errorf("peer address %q: write PEER@HOST:PORT, as in 12D3Koo…@home.example.org:4710; `weft status` on that machine shows its peer id", text)
	}
	id, err := peer.Decode(who)
	if err != nil {
		return peer.AddrInfo{}, fmt.Errorf("peer address %q: %q is no peer id: %w", text, who, err)
	}
	kind := "dns"
	if ip, err := netip.ParseAddr(host); err == nil {
		kind = "ip6"
		if ip = ip.Unmap(); ip.Is4() {
			kind = "ip4"
		}
		host = ip.String()
	}
	info := peer.AddrInfo{ID: id}
	for _, format := range []string{"/%s/%s/tcp/%s", "/%s/%s/udp/%s/quic-v1"} {
		a, err := ma.NewMultiaddr(fmt.Sprintf(format, kind, host, port))
		if err != nil {
			return peer.AddrInfo{}, fmt.Errorf("peer address %q: %w", text, err)
		}
		info.Addrs = append(info.Addrs, a)
	}
	return info, nil
}

// KeepStatic writes the addresses, as the user gave them, that a node with that
// home tries for ever, instead of those that it had.
func KeepStatic(dir string, texts []string) error {
	if err := checkStatic(texts); err != nil {
		return err
	}
	b, err := json.MarshalIndent(append([]string{}, texts...), "", " ")
	if err != nil {
		return err
	}
	return durable.Write(filepath.Join(dir, staticFile), append(b, '\n'))
}

// LoadStatic reads what KeepStatic wrote; nothing where it never did.
func LoadStatic(dir string) ([]string, error) {
	path := filepath.Join(dir, staticFile)
	b, err := durable.Read(path, maxStaticBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	texts, err := decodeStatic(b)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w; give the peers again with --peer", path, err)
	}
	return texts, nil
}

func decodeStatic(b []byte) ([]string, error) {
	var texts []string
	if err := json.Unmarshal(b, &texts); err != nil {
		return nil, err
	}
	return texts, checkStatic(texts)
}

func checkStatic(texts []string) error {
	if len(texts) > maxStatic {
		return fmt.Errorf("%d peer addresses are more than %d", len(texts), maxStatic)
	}
	for _, t := range texts {
		if len(t) > maxStaticText {
			return fmt.Errorf("a peer address of %d bytes is longer than %d", len(t), maxStaticText)
		}
	}
	return nil
}
