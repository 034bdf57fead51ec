package admission

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	tokenPrefix   = "weft1"
	tokenVersion  = 1
	maxTokenText  = 2048
	maxTokenAddrs = 8
	maxAddrBytes  = 128
	checksumSize  = 4
	// invitationSize and secretSize are lengths in bytes; the secret is the
	// only part of a token that is worth guessing, at 128 bits.
	invitationSize = 8
	secretSize     = 16
)

// Reasons for refusing a token as text.
var (
	ErrTokenForm     = errors.New("this is not an invitation token")
	ErrTokenChecksum = errors.New("the invitation token is damaged")
)

var tokenEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// Token is an invitation as it is handed from person to person.
type Token struct {
	Mesh       ID
	Inviter    peer.ID
	Invitation [invitationSize]byte
	Secret     [secretSize]byte
	Expires    time.Time
	// Addrs are addresses of the inviter without its peer id, best first.
	Addrs []ma.Multiaddr
}

// String encodes the token: a prefix and lower-case base32, with a checksum
// so that a typing error is not mistaken for a wrong invitation. Whoever
// reads it can join; do not log it.
func (t *Token) String() string {
	b := []byte{tokenVersion}
	b = append(b, t.Mesh[:]...)
	key, err := keyOf(t.Inviter)
	if err != nil {
		return "" // only peers with Ed25519 keys invite; Invite made sure of it
	}
	b = append(b, key[:]...)
	b = append(b, t.Invitation[:]...)
	b = append(b, t.Secret[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(t.Expires.Unix()))
	at := len(b)
	b = append(b, 0)
	for _, a := range t.Addrs {
		raw := a.Bytes()
		if len(raw) > maxAddrBytes || b[at] == maxTokenAddrs {
			continue
		}
		b[at]++
		b = append(append(b, byte(len(raw))), raw...)
	}
	b = append(b, checksum(b)...)
	return tokenPrefix + strings.ToLower(tokenEncoding.EncodeToString(b))
}

func checksum(b []byte) []byte {
	h := sha256.Sum256(append([]byte("weft token v1\x00"), b...))
	return h[:checksumSize]
}

// ParseToken decodes a token. White space and letter case are ignored.
// It does not look at the clock.
func ParseToken(text string) (*Token, error) {
	if len(text) > maxTokenText {
		return nil, fmt.Errorf("%w: %d characters are too many", ErrTokenForm, len(text))
	}
	// A mail program may have broken the line.
	rest, ok := strings.CutPrefix(strings.ToLower(strings.Join(strings.Fields(text), "")), tokenPrefix)
	if !ok {
		return nil, fmt.Errorf("%w: it must begin with %s", ErrTokenForm, tokenPrefix)
	}
	b, err := tokenEncoding.DecodeString(strings.ToUpper(rest))
	// The last character has spare bits; only zeros are a token's.
	if err != nil || tokenEncoding.EncodeToString(b) != strings.ToUpper(rest) {
		return nil, fmt.Errorf("%w: copy it again, whole", ErrTokenChecksum)
	}
	const fixed = 1 + 32 + 32 + invitationSize + secretSize + 8 + 1
	if len(b) < fixed+checksumSize {
		return nil, fmt.Errorf("%w: it is too short; copy it again, whole", ErrTokenChecksum)
	}
	b, sum := b[:len(b)-checksumSize], b[len(b)-checksumSize:]
	if !bytes.Equal(sum, checksum(b)) {
		return nil, fmt.Errorf("%w: its checksum is wrong; copy it again, whole", ErrTokenChecksum)
	}
	if b[0] != tokenVersion {
		return nil, fmt.Errorf("%w: version %d is newer than this program; update weft", ErrTokenForm, b[0])
	}
	t := &Token{}
	var key [32]byte
	b = b[1:]
	for _, field := range [][]byte{t.Mesh[:], key[:], t.Invitation[:], t.Secret[:]} {
		b = b[copy(field, b):]
	}
	unix := binary.BigEndian.Uint64(b)
	if unix > maxUnix {
		return nil, fmt.Errorf("%w: its expiry is out of range", ErrTokenForm)
	}
	t.Expires = time.Unix(int64(unix), 0)
	if t.Inviter, err = peerOf(key); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTokenForm, err)
	}
	if t.Addrs, err = parseAddrs(int(b[8]), b[9:]); err != nil {
		return nil, err
	}
	return t, nil
}

func parseAddrs(n int, b []byte) ([]ma.Multiaddr, error) {
	if n > maxTokenAddrs {
		return nil, fmt.Errorf("%w: %d addresses", ErrTokenForm, n)
	}
	var addrs []ma.Multiaddr
	for range n {
		if len(b) < 1 || len(b) < 1+int(b[0]) || int(b[0]) > maxAddrBytes {
			return nil, fmt.Errorf("%w: an address is cut off", ErrTokenForm)
		}
		a, err := ma.NewMultiaddrBytes(b[1 : 1+int(b[0])])
		if err != nil {
			return nil, fmt.Errorf("%w: bad address: %w", ErrTokenForm, err)
		}
		if !dialable(a) {
			return nil, fmt.Errorf("%w: %s is not an address weft dials", ErrTokenForm, a)
		}
		addrs, b = append(addrs, a), b[1+int(b[0]):]
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%w: %d bytes too many", ErrTokenForm, len(b))
	}
	return addrs, nil
}

// dialable says that an address is an IP address or DNS name with TCP or UDP,
// and that no peer id or relay is in it.
func dialable(a ma.Multiaddr) bool {
	if len(a) < 2 {
		return false
	}
	switch a[0].Protocol().Code {
	case ma.P_IP4, ma.P_IP6, ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
	default:
		return false
	}
	switch a[1].Protocol().Code {
	case ma.P_TCP:
		return len(a) == 2
	case ma.P_UDP:
		return len(a) == 3 && a[2].Protocol().Code == ma.P_QUIC_V1
	}
	return false
}
