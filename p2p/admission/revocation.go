package admission

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// ErrRevoked means that a membership was ended before its time.
var ErrRevoked = errors.New("membership was revoked")

const (
	revocationVersion = 1
	revocationBody    = 2 + 3*32 + 2*8
	revocationSize    = revocationBody + ed25519.SignatureSize
	revocationDomain  = "weft revocation v1\x00"
)

// Revocation is a signed statement that a peer's certificates of until now
// are void, and if it was an admitter, those that it issues later too. The
// root may revoke anybody, an admitter members that are none. The encoding
// has one form:
//
//	version 1 | role 1 | mesh 32 | subject 32 | issuer 32 | at 8 | since 8 | signature 64
//
// followed, where the issuer is an admitter, by its own certificate.
type Revocation struct {
	// Role is what the subject was: Admitter only by the root's hand.
	Role    Role
	Mesh    ID
	Subject [32]byte
	Issuer  [32]byte
	// At is when it was signed; certificates that were issued to the subject
	// until then are void. Since is from when on what it issued is void.
	At, Since time.Time
	Signature [64]byte
	// Appointment is the issuer's certificate, nil when the root signed.
	Appointment *Certificate
}

// Bytes returns the encoding.
func (r *Revocation) Bytes() []byte {
	b := append(r.body(), r.Signature[:]...)
	if r.Appointment != nil {
		b = append(b, r.Appointment.Bytes()...)
	}
	return b
}

func (r *Revocation) body() []byte {
	b := make([]byte, 0, revocationSize+CertificateSize)
	b = append(b, revocationVersion, byte(r.Role))
	b = append(b, r.Mesh[:]...)
	b = append(b, r.Subject[:]...)
	b = append(b, r.Issuer[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.At.Unix()))
	return binary.BigEndian.AppendUint64(b, uint64(r.Since.Unix()))
}

func (r *Revocation) signedBytes() []byte { return append([]byte(revocationDomain), r.body()...) }

// ByRoot says that the mesh's root signed.
func (r *Revocation) ByRoot() bool { return r.Appointment == nil }

// ParseRevocation decodes a statement. It checks the form only.
func ParseRevocation(b []byte) (*Revocation, error) {
	if len(b) != revocationSize && len(b) != revocationSize+CertificateSize {
		return nil, fmt.Errorf("revocation: %w: %d bytes", ErrMalformed, len(b))
	}
	if b[0] != revocationVersion {
		return nil, fmt.Errorf("revocation: %w: version %d is not known to this program", ErrMalformed, b[0])
	}
	r := &Revocation{Role: Role(b[1])}
	if r.Role < Client || r.Role > Admitter {
		return nil, fmt.Errorf("revocation: %w: %v", ErrMalformed, r.Role)
	}
	copy(r.Mesh[:], b[2:])
	copy(r.Subject[:], b[34:])
	copy(r.Issuer[:], b[66:])
	at, since := binary.BigEndian.Uint64(b[98:]), binary.BigEndian.Uint64(b[106:])
	if at > maxUnix || since > at {
		return nil, fmt.Errorf("revocation: %w: at %d, since %d", ErrMalformed, at, since)
	}
	r.At, r.Since = time.Unix(int64(at), 0), time.Unix(int64(since), 0)
	copy(r.Signature[:], b[revocationBody:])
	if len(b) == revocationSize {
		return r, nil
	}
	var err error
	if r.Appointment, err = ParseCertificate(b[revocationSize:]); err != nil {
		return nil, fmt.Errorf("revocation: %w", err)
	}
	return r, nil
}

// Verify checks that the statement was made by one who may make it. Its
// issuer's own certificate may have expired since.
func (r *Revocation) Verify(mesh ID, now time.Time) error {
	switch {
	case r.Mesh != mesh:
		return fmt.Errorf("revocation: %w: %s, not %s", ErrOtherMesh, r.Mesh.Short(), mesh.Short())
	case r.At.After(now.Add(ClockSkew)):
		return fmt.Errorf("revocation: %w: it was signed at %s; compare the clocks of the machines", ErrNotYetValid, r.At.UTC().Format(time.RFC3339))
	case !ed25519.Verify(r.Issuer[:], r.signedBytes(), r.Signature[:]):
		return fmt.Errorf("revocation: %w", ErrSignature)
	}
	if r.ByRoot() {
		if MeshID(r.Issuer[:]) != mesh {
			return fmt.Errorf("revocation: %w: neither the root nor an admitter signed", ErrNotPermitted)
		}
		return nil
	}
	c := r.Appointment
	switch {
	case r.Role == Admitter:
		return fmt.Errorf("revocation: %w: only the root revokes an admitter", ErrNotPermitted)
	case c.Mesh != mesh || c.Subject != r.Issuer || c.Role != Admitter:
		return fmt.Errorf("revocation: %w: its issuer is no admitter of this mesh", ErrNotPermitted)
	}
	if err := c.check(r.At); err != nil { // at the time it signed
		return fmt.Errorf("revocation: its issuer's certificate: %w", err)
	}
	if err := (Chain{c}).checkIssuers(mesh); err != nil {
		return fmt.Errorf("revocation: its issuer's certificate: %w", err)
	}
	return nil
}

// signRevocation makes a statement. appointment is nil when key is the root.
func signRevocation(key ed25519.PrivateKey, mesh ID, subject [32]byte, role Role, at, since time.Time, appointment *Certificate) *Revocation {
	r := &Revocation{Role: role, Mesh: mesh, Subject: subject, At: time.Unix(at.Unix(), 0), Since: time.Unix(since.Unix(), 0), Appointment: appointment}
	copy(r.Issuer[:], key.Public().(ed25519.PublicKey))
	copy(r.Signature[:], ed25519.Sign(key, r.signedBytes()))
	return r
}

// Revoke signs that a peer is a member no more: with the root key where this
// node has it, else as an admitter, who may revoke members that are none.
// role is what the peer is known to be, zero when that is not known. What an
// admitter issued after since is void too. The statement is in force here
// when Revoke returns; the caller tells the others.
func (m *Mesh) Revoke(subject peer.ID, role Role, since time.Time) (*Revocation, error) {
	key, err := keyOf(subject)
	if err != nil {
		return nil, fmt.Errorf("revoke: %w", err)
	}
	self, err := m.Self()
	switch {
	case err != nil:
		return nil, fmt.Errorf("revoke: %w", err)
	case subject == m.self:
		return nil, errors.New("revoke: this is this node itself: weft leave")
	case self.Role != Admitter:
		return nil, fmt.Errorf("revoke: %w: do it on an admitter (weft trust shows them)", ErrNotAdmitter)
	}
	m.mu.RLock()
	now := m.cfg.Now()
	if since.IsZero() || since.After(now) {
		since = now
	}
	var r *Revocation
	switch {
	case m.root != nil:
		if role == 0 {
			role = Admitter // whatever it is
		}
		r = signRevocation(m.root, m.id, key, role, now, since, nil)
	case role == Admitter:
		err = fmt.Errorf("revoke an admitter: %w: do it on the founding node", ErrNoRoot)
	default:
		r = signRevocation(m.key, m.id, key, Compute, now, since, m.chain[0]) // a client is covered too
	}
	m.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	_, err = m.TakeRevocations([][]byte{r.Bytes()})
	return r, err
}
