package gossip

import (
	"errors"
	"fmt"

	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

const (
	maxMeta      = 512 // memberlist's own limit
	maxMetaAddrs = 16
	maxAddrBytes = 128
	digestSize   = 16
)

var errMeta = errors.New("gossip metadata is malformed")

// meta is what gossip carries about a node.
type meta struct {
	addrs   []ma.Multiaddr
	version uint64 // of the record; 0 when there is none yet
	digest  [digestSize]byte
}

// encode returns at most limit bytes; addresses that do not fit are left out
// from the end.
func (m *meta) encode(limit int) []byte {
	p := &weftv1.NodeMeta{RecordVersion: m.version}
	if m.version != 0 {
		p.RecordDigest = m.digest[:]
	}
	for _, a := range m.addrs {
		raw := a.Bytes()
		if len(raw) > maxAddrBytes || len(p.Addrs) == maxMetaAddrs {
			continue
		}
		p.Addrs = append(p.Addrs, raw)
		if proto.Size(p) > limit {
			p.Addrs = p.Addrs[:len(p.Addrs)-1]
			break
		}
	}
	b, err := proto.Marshal(p)
	if err != nil {
		return nil // cannot happen: all fields are bytes and numbers
	}
	return b
}

func decodeMeta(b []byte) (meta, error) {
	if len(b) > maxMeta {
		return meta{}, fmt.Errorf("%w: %d bytes", errMeta, len(b))
	}
	var p weftv1.NodeMeta
	if err := proto.Unmarshal(b, &p); err != nil {
		return meta{}, fmt.Errorf("%w: %w", errMeta, err)
	}
	if len(p.GetAddrs()) > maxMetaAddrs {
		return meta{}, fmt.Errorf("%w: %d addresses", errMeta, len(p.GetAddrs()))
	}
	m := meta{version: p.GetRecordVersion()}
	for _, raw := range p.GetAddrs() {
		if len(raw) > maxAddrBytes {
			return meta{}, fmt.Errorf("%w: an address of %d bytes", errMeta, len(raw))
		}
		a, err := ma.NewMultiaddrBytes(raw)
		if err != nil {
			return meta{}, fmt.Errorf("%w: %w", errMeta, err)
		}
		if !dialable(a) {
			return meta{}, fmt.Errorf("%w: %s is not an address of a node", errMeta, a)
		}
		m.addrs = append(m.addrs, a)
	}
	if m.version != 0 && copy(m.digest[:], p.GetRecordDigest()) != digestSize {
		return meta{}, fmt.Errorf("%w: digest of %d bytes", errMeta, len(p.GetRecordDigest()))
	}
	return m, nil
}

// dialable says that an address is an IP address with TCP or QUIC and that
// nothing else is in it.
func dialable(a ma.Multiaddr) bool {
	if len(a) < 2 || a[0].Protocol().Code != ma.P_IP4 && a[0].Protocol().Code != ma.P_IP6 {
		return false
	}
	if a[1].Protocol().Code == ma.P_TCP {
		return len(a) == 2
	}
	return len(a) == 3 && a[1].Protocol().Code == ma.P_UDP && a[2].Protocol().Code == ma.P_QUIC_V1
}
