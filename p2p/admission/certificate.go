package admission

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// ID names a mesh: the SHA-256 of its root's public key under a domain label.
type ID [32]byte

// String returns all of the id in lower-case hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Short returns the first 8 hexadecimal digits, for people.
func (id ID) Short() string { return hex.EncodeToString(id[:4]) }

// Label returns 16 characters that are valid in a DNS label.
func (id ID) Label() string {
	return strings.ToLower(base32.StdEncoding.EncodeToString(id[:10]))
}

// IsZero says that the id names no mesh.
func (id ID) IsZero() bool { return id == ID{} }

// MeshID returns the id of the mesh with the given root key.
func MeshID(root ed25519.PublicKey) ID {
	return sha256.Sum256(append([]byte("weft mesh root v1\x00"), root...))
}

// Role is what a member may do; a higher role includes the lower ones.
type Role uint8

// Roles in ascending order of trust. They are part of the certificate format.
const (
	Client   Role = 1 // asks, computes nothing for others
	Compute  Role = 2 // also serves stages and weights
	Admitter Role = 3 // also issues member certificates
)

func (r Role) String() string {
	switch r {
	case Client:
		return "client"
	case Compute:
		return "compute"
	case Admitter:
		return "admitter"
	}
	return fmt.Sprintf("role(%d)", uint8(r))
}

// ParseRole is the inverse of String.
func ParseRole(s string) (Role, error) {
	for _, r := range []Role{Client, Compute, Admitter} {
		if s == r.String() {
			return r, nil
		}
	}
	return 0, fmt.Errorf("unknown role %q: use client, compute or admitter", s)
}

// Lifetimes. A verifier refuses a certificate that lives longer than its kind
// may, so that an admitter cannot outlast its own revocation by much.
const (
	MemberLifetime   = 14 * 24 * time.Hour
	AdmitterLifetime = 5 * 365 * 24 * time.Hour
	// ClockSkew is tolerated at both ends of a certificate's life.
	ClockSkew = time.Hour
)

// CertificateSize is the length of every certificate in bytes.
const CertificateSize = bodySize + ed25519.SignatureSize

const (
	certificateVersion = 1
	bodySize           = 130
	signatureDomain    = "weft certificate v1\x00"
	maxChain           = 2
	// maxUnix keeps times in the range where time.Time arithmetic is exact.
	maxUnix = 1 << 40
)

// Reasons for refusing a certificate chain.
var (
	ErrMalformed    = errors.New("certificate is malformed")
	ErrSignature    = errors.New("certificate signature is wrong")
	ErrOtherMesh    = errors.New("certificate belongs to another mesh")
	ErrOtherPeer    = errors.New("certificate belongs to another peer")
	ErrNotYetValid  = errors.New("certificate is not valid yet")
	ErrExpired      = errors.New("certificate has expired")
	ErrNotPermitted = errors.New("issuer may not sign this certificate")
)

// Certificate binds a peer to a mesh and a role for a time. All fields are
// covered by the signature, which the issuer makes under a domain label of
// its own. The encoding has a fixed length and exactly one form:
//
//	version 1 | role 1 | mesh 32 | subject 32 | issuer 32 |
//	not before 8 | not after 8 | serial 16 | signature 64
//
// with times in Unix seconds, big endian.
type Certificate struct {
	Role      Role
	Mesh      ID
	Subject   [32]byte // Ed25519 public key of the member
	Issuer    [32]byte // Ed25519 public key of the signer
	NotBefore time.Time
	NotAfter  time.Time
	Serial    [16]byte
	Signature [64]byte
}

// Peer returns the peer id of the subject.
func (c *Certificate) Peer() (peer.ID, error) { return peerOf(c.Subject) }

// Bytes returns the encoding.
func (c *Certificate) Bytes() []byte {
	return append(c.body(), c.Signature[:]...)
}

func (c *Certificate) body() []byte {
	b := make([]byte, 0, CertificateSize)
	b = append(b, certificateVersion, byte(c.Role))
	b = append(b, c.Mesh[:]...)
	b = append(b, c.Subject[:]...)
	b = append(b, c.Issuer[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(c.NotBefore.Unix()))
	b = binary.BigEndian.AppendUint64(b, uint64(c.NotAfter.Unix()))
	return append(b, c.Serial[:]...)
}

func (c *Certificate) signedBytes() []byte { return append([]byte(signatureDomain), c.body()...) }

// ParseCertificate decodes one certificate. It checks the form only.
func ParseCertificate(b []byte) (*Certificate, error) {
	if len(b) != CertificateSize {
		return nil, fmt.Errorf("%w: %d bytes, not %d", ErrMalformed, len(b), CertificateSize)
	}
	if b[0] != certificateVersion {
		return nil, fmt.Errorf("%w: version %d is not known to this program", ErrMalformed, b[0])
	}
	c := &Certificate{Role: Role(b[1])}
	if c.Role < Client || c.Role > Admitter {
		return nil, fmt.Errorf("%w: %v", ErrMalformed, c.Role)
	}
	copy(c.Mesh[:], b[2:])
	copy(c.Subject[:], b[34:])
	copy(c.Issuer[:], b[66:])
	before, after := binary.BigEndian.Uint64(b[98:]), binary.BigEndian.Uint64(b[106:])
	if before > maxUnix || after > maxUnix || before >= after {
		return nil, fmt.Errorf("%w: lifetime from %d to %d", ErrMalformed, before, after)
	}
	c.NotBefore, c.NotAfter = time.Unix(int64(before), 0), time.Unix(int64(after), 0)
	copy(c.Serial[:], b[114:])
	copy(c.Signature[:], b[bodySize:])
	return c, nil
}

// sign makes a certificate for subject, signed by key.
func sign(key ed25519.PrivateKey, mesh ID, subject [32]byte, role Role, from time.Time, life time.Duration) *Certificate {
	from = time.Unix(from.Unix(), 0) // the encoding's resolution
	c := &Certificate{Role: role, Mesh: mesh, Subject: subject, NotBefore: from, NotAfter: from.Add(life)}
	copy(c.Issuer[:], key.Public().(ed25519.PublicKey))
	_, _ = rand.Read(c.Serial[:]) // never fails; see crypto/rand
	copy(c.Signature[:], ed25519.Sign(key, c.signedBytes()))
	return c
}

// Chain is a member's proof, leaf first: an admitter's own certificate from
// the root, or a member's certificate followed by its admitter's.
type Chain []*Certificate

// Bytes returns the certificates one after the other.
func (ch Chain) Bytes() []byte {
	var b []byte
	for _, c := range ch {
		b = append(b, c.Bytes()...)
	}
	return b
}

// ParseChain decodes one or two certificates. It checks the form only.
func ParseChain(b []byte) (Chain, error) {
	n := len(b) / CertificateSize
	if len(b)%CertificateSize != 0 || n < 1 || n > maxChain {
		return nil, fmt.Errorf("%w: a chain of %d bytes", ErrMalformed, len(b))
	}
	ch := make(Chain, n)
	for i := range ch {
		c, err := ParseCertificate(b[i*CertificateSize : (i+1)*CertificateSize])
		if err != nil {
			return nil, err
		}
		ch[i] = c
	}
	return ch, nil
}

// Revocations is asked about every chain that is otherwise good; an error
// refuses it. The issue time of a certificate is its NotBefore.
type Revocations interface {
	Check(ch Chain) error
}

// Verify checks that the chain makes subject a member of mesh at time now.
// revoked may be nil.
func (ch Chain) Verify(mesh ID, subject peer.ID, now time.Time, revoked Revocations) error {
	if len(ch) < 1 || len(ch) > maxChain {
		return fmt.Errorf("%w: %d certificates", ErrMalformed, len(ch))
	}
	if id, err := ch[0].Peer(); err != nil || id != subject {
		return fmt.Errorf("%w: not %s", ErrOtherPeer, subject)
	}
	for _, c := range ch {
		if c.Mesh != mesh {
			return fmt.Errorf("%w: %s, not %s", ErrOtherMesh, c.Mesh.Short(), mesh.Short())
		}
		if err := c.check(now); err != nil {
			return err
		}
	}
	if err := ch.checkIssuers(mesh); err != nil {
		return err
	}
	if revoked == nil {
		return nil
	}
	return revoked.Check(ch)
}

// check verifies what a certificate says about itself: life and signature.
func (c *Certificate) check(now time.Time) error {
	life := MemberLifetime
	if c.Role == Admitter {
		life = AdmitterLifetime
	}
	switch {
	case c.NotAfter.Sub(c.NotBefore) > life:
		return fmt.Errorf("%w: a lifetime of %v is longer than %v", ErrNotPermitted, c.NotAfter.Sub(c.NotBefore), life)
	case now.Before(c.NotBefore.Add(-ClockSkew)):
		return fmt.Errorf("%w: it begins %s; compare the clocks of the two machines", ErrNotYetValid, c.NotBefore.UTC().Format(time.RFC3339))
	case now.After(c.NotAfter.Add(ClockSkew)):
		return fmt.Errorf("%w: on %s; join again with a new invitation (weft invite on a member, weft up --join TOKEN here)",
			ErrExpired, c.NotAfter.UTC().Format(time.RFC3339))
	case !ed25519.Verify(c.Issuer[:], c.signedBytes(), c.Signature[:]):
		return ErrSignature
	}
	return nil
}

// checkIssuers verifies that the root signed the last certificate and that
// each issuer was allowed to sign.
func (ch Chain) checkIssuers(mesh ID) error {
	top := ch[len(ch)-1]
	if MeshID(top.Issuer[:]) != mesh {
		return fmt.Errorf("%w: the chain does not end at the mesh's root", ErrNotPermitted)
	}
	if top.Role != Admitter {
		return fmt.Errorf("%w: the root signs admitters only", ErrNotPermitted)
	}
	if len(ch) == 1 {
		return nil
	}
	leaf := ch[0]
	switch {
	case leaf.Issuer != top.Subject:
		return fmt.Errorf("%w: the leaf names another issuer", ErrNotPermitted)
	case leaf.Role == Admitter:
		return fmt.Errorf("%w: an admitter cannot make admitters", ErrNotPermitted)
	case leaf.NotBefore.Before(top.NotBefore.Add(-ClockSkew)):
		return fmt.Errorf("%w: it was issued before its admitter was appointed", ErrNotPermitted)
	}
	return nil
}

func peerOf(key [32]byte) (peer.ID, error) {
	pub, err := crypto.UnmarshalEd25519PublicKey(key[:])
	if err != nil {
		return "", err
	}
	return peer.IDFromPublicKey(pub)
}

// keyOf returns the Ed25519 key inside a peer id.
func keyOf(id peer.ID) (key [32]byte, err error) {
	pub, err := id.ExtractPublicKey()
	if err != nil {
		return key, fmt.Errorf("peer %s: its id holds no key: %w", id, err)
	}
	if pub.Type() != crypto.Ed25519 {
		return key, fmt.Errorf("peer %s: its key is not Ed25519", id)
	}
	raw, err := pub.Raw()
	if err != nil {
		return key, err
	}
	copy(key[:], raw)
	return key, nil
}
