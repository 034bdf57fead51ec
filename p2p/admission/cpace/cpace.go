// Package cpace is the balanced password-authenticated key exchange CPace
// (draft-irtf-cfrg-cpace) in its suite CPACE-RISTR255-SHA512, with initiator
// and responder: two sides that hold the same short code get the same strong
// key, and whoever does not know the code learns nothing but that one guess
// of his was wrong.
//
// The package is pure: it sends nothing and keeps no time. It never gives out
// the shared point. Its callers count attempts, because each exchange is one
// guess for the other side. Start with New.
package cpace

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"errors"

	"github.com/gtank/ristretto255"
)

const (
	// ShareSize and TagSize are lengths in bytes.
	ShareSize = 32
	TagSize   = sha512.Size

	domain = "CPaceRistretto255"
	// A block of SHA-512: domain, password and padding fill the first one.
	blockSize = sha512.BlockSize
)

// ErrShare means that the other side's share is no group element or the
// neutral one: the exchange must end.
var ErrShare = errors.New("cpace: the other side's share is not valid")

// Input is what both sides must agree on.
type Input struct {
	// Password is the short common secret.
	Password []byte
	// Channel names the two parties, the initiator first, and what else the
	// key is to be bound to; it is not sent.
	Channel []byte
	// Session is unique to this exchange.
	Session []byte
}

// Party is one side of one exchange. It is used once.
type Party struct {
	session []byte
	secret  *ristretto255.Scalar
	own     message
}

// message is what one side sends: its share and data that the key is bound to.
type message struct{ share, data []byte }

func (m message) bytes() []byte { return concat(m.share, m.data) }

// New begins an exchange. data is sent in clear beside the share, and the
// keys agree only if the other side has got the same.
func New(in Input, data []byte) *Party {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails; see crypto/rand
	b[31] &= 0x0f          // 252 bits: below the group's order
	secret, err := ristretto255.NewScalar().SetCanonicalBytes(b[:])
	if err != nil {
		panic("cpace: 252 bits are not a scalar") // they always are
	}
	return begin(in, data, secret)
}

func begin(in Input, data []byte, secret *ristretto255.Scalar) *Party {
	y := ristretto255.NewIdentityElement().ScalarMult(secret, generator(in))
	return &Party{session: in.Session, secret: secret, own: message{y.Bytes(), data}}
}

// Share is what the other side needs, beside the data.
func (p *Party) Share() []byte { return p.own.share }

// Initiate ends the exchange on the side that sent its share first; share and
// data are the responder's.
func (p *Party) Initiate(share, data []byte) (*Key, error) {
	theirs := message{share, data}
	return p.finish(theirs, p.own, theirs)
}

// Respond ends the exchange on the other side; share and data are the
// initiator's.
func (p *Party) Respond(share, data []byte) (*Key, error) {
	theirs := message{share, data}
	return p.finish(theirs, theirs, p.own)
}

// finish derives the key from the transcript, the initiator's message first.
func (p *Party) finish(theirs, first, second message) (*Key, error) {
	x, err := ristretto255.NewIdentityElement().SetCanonicalBytes(theirs.share)
	if err != nil {
		return nil, ErrShare
	}
	k := ristretto255.NewIdentityElement().ScalarMult(p.secret, x)
	if k.Equal(ristretto255.NewIdentityElement()) == 1 {
		return nil, ErrShare
	}
	h := sha512.New()
	h.Write(concat([]byte(domain+"_ISK"), p.session, k.Bytes()))
	h.Write(first.bytes())
	h.Write(second.bytes())
	return newKey(h.Sum(nil), p.session, p.own, theirs), nil
}

// generator maps the common input to a group element (calculate_generator).
func generator(in Input) *ristretto255.Element {
	h := sha512.Sum512(generatorString(in))
	g, err := ristretto255.NewIdentityElement().SetUniformBytes(h[:])
	if err != nil {
		panic("cpace: 64 bytes are not an element's input") // they always are
	}
	return g
}

func generatorString(in Input) []byte {
	pad := blockSize - 1 - len(prependLen(nil, in.Password)) - len(prependLen(nil, []byte(domain)))
	return concat([]byte(domain), in.Password, make([]byte, max(0, pad)), in.Channel, in.Session)
}

// concat is lv_cat: each string with its length before it.
func concat(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = prependLen(b, p)
	}
	return b
}

// prependLen appends the length of s in LEB128, then s.
func prependLen(b, s []byte) []byte {
	n := len(s)
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(append(b, byte(n)), s...)
}

// Key is what an exchange gives. It says nothing about the other side until
// Confirm has accepted its tag.
type Key struct {
	isk       []byte
	tag, want []byte
}

func newKey(isk, session []byte, own, theirs message) *Key {
	h := sha512.New()
	h.Write([]byte("CPaceMac"))
	h.Write(session)
	h.Write(isk)
	key := h.Sum(nil)
	return &Key{isk: isk, tag: mac(key, own.bytes()), want: mac(key, theirs.bytes())}
}

func mac(key, b []byte) []byte {
	m := hmac.New(sha512.New, key)
	m.Write(b)
	return m.Sum(nil)
}

// Tag proves to the other side that this one has the key.
func (k *Key) Tag() []byte { return k.tag }

// Confirm says whether the other side's tag proves that it has the key.
func (k *Key) Confirm(tag []byte) bool { return hmac.Equal(tag, k.want) }

// Derive returns 32 bytes for a purpose of its own (HKDF, RFC 5869).
func (k *Key) Derive(purpose string) []byte {
	b, err := hkdf.Key(sha512.New, k.isk, nil, purpose, 32)
	if err != nil {
		panic("cpace: " + err.Error()) // 32 bytes are never too many
	}
	return b
}
