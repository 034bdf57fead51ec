package admission

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/weft-mesh/weft/p2p/internal/durable"
)

const (
	// MaxRevocations bounds what a node keeps and takes from others.
	MaxRevocations   = 1024
	maxRevokedFile   = 1 << 20
	maxStatementSize = revocationSize + CertificateSize
	// A member's certificates have all expired by then, so the statement has
	// nothing left to void. Those about admitters are kept.
	keepRevocation = MemberLifetime + 2*ClockSkew + 24*time.Hour
)

// revokedBook holds a mesh's statements, one for each subject and issuer. It
// has no clock and no lock.
type revokedBook struct {
	list []*Revocation // ordered by subject, then issuer
}

func compareRevocations(a, b *Revocation) int {
	return cmp.Or(bytes.Compare(a.Subject[:], b.Subject[:]), bytes.Compare(a.Issuer[:], b.Issuer[:]))
}

// add takes in a verified statement and says whether it tells anything new.
func (v *revokedBook) add(r *Revocation) bool {
	i, known := slices.BinarySearchFunc(v.list, r, compareRevocations)
	if known {
		old := v.list[i]
		// The later one counts; of two of one time the stricter, so that all
		// nodes end with the same.
		if r.At.Before(old.At) || r.At.Equal(old.At) && (r.Role < old.Role || r.Role == old.Role && !r.Since.Before(old.Since)) {
			return false
		}
		v.list[i] = r
		return true
	}
	if len(v.list) >= MaxRevocations {
		// A flood of an admitter's statements must not keep the root's out.
		j := slices.IndexFunc(v.list, func(o *Revocation) bool { return !o.ByRoot() })
		if !r.ByRoot() || j < 0 {
			return false
		}
		v.list = slices.Delete(v.list, j, j+1)
		i, _ = slices.BinarySearchFunc(v.list, r, compareRevocations)
	}
	v.list = slices.Insert(v.list, i, r)
	return true
}

// prune drops what has nothing left to void.
func (v *revokedBook) prune(now time.Time) {
	v.list = slices.DeleteFunc(v.list, func(r *Revocation) bool { return r.Role < Admitter && now.Sub(r.At) > keepRevocation })
}

// about calls f with every statement in force about a key.
func (v *revokedBook) about(key [32]byte, f func(*Revocation) error) error {
	for _, r := range v.list {
		if r.Subject != key || v.void(r) {
			continue
		}
		if err := f(r); err != nil {
			return err
		}
	}
	return nil
}

// void says that a statement's issuer was itself revoked from before it on.
func (v *revokedBook) void(r *Revocation) bool {
	return !r.ByRoot() && slices.ContainsFunc(v.list, func(o *Revocation) bool {
		return o.Subject == r.Issuer && o.Role == Admitter && !r.Appointment.NotBefore.After(o.At.Add(ClockSkew)) && r.At.After(o.Since)
	})
}

// Check implements Revocations.
func (v *revokedBook) Check(ch Chain) error {
	leaf, top := ch[0], ch[len(ch)-1]
	err := v.about(leaf.Subject, func(r *Revocation) error {
		// Clocks may differ: what was issued within the tolerance is void too.
		if leaf.Role > r.Role && !r.ByRoot() || leaf.NotBefore.After(r.At.Add(ClockSkew)) {
			return nil
		}
		return fmt.Errorf("%w on %s by %s; an admitter can let the machine in again an hour later", ErrRevoked, r.At.UTC().Format(time.RFC3339), r.issuerName())
	})
	if err != nil || len(ch) == 1 {
		return err
	}
	return v.about(top.Subject, func(r *Revocation) error {
		if r.Role < Admitter || top.NotBefore.After(r.At.Add(ClockSkew)) || !leaf.NotBefore.After(r.Since) {
			return nil
		}
		return fmt.Errorf("%w: it was issued by an admitter that was itself revoked on %s; join again at another one", ErrRevoked, r.At.UTC().Format(time.RFC3339))
	})
}

func (r *Revocation) issuerName() string {
	if r.ByRoot() {
		return "the mesh's root"
	}
	if id, err := peerOf(r.Issuer); err == nil {
		return "admitter " + id.String()
	}
	return "an admitter"
}

// SubjectPeer returns the peer id of the one that was revoked.
func (r *Revocation) SubjectPeer() (peer.ID, error) { return peerOf(r.Subject) }

func (v *revokedBook) encode() [][]byte {
	out := make([][]byte, 0, len(v.list))
	for _, r := range v.list {
		out = append(out, r.Bytes())
	}
	return out
}

// digest is the same for books with the same statements, nil for an empty one.
func (v *revokedBook) digest() []byte {
	if len(v.list) == 0 {
		return nil
	}
	h := sha256.New()
	h.Write([]byte("weft revocations v1\x00"))
	for _, b := range v.encode() {
		h.Write(b)
	}
	return h.Sum(nil)
}

type revokedState struct {
	Version    int      `json:"version"`
	Statements []string `json:"statements"`
}

func (m *Mesh) revokedFile() string { return m.path("revoked-" + m.id.Short() + ".json") }

// loadRevoked reads the statements of the mesh that the node belongs to.
// Callers hold mu.
func (m *Mesh) loadRevoked() error {
	m.revoked = revokedBook{}
	b, err := durable.Read(m.revokedFile(), maxRevokedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var s revokedState
	if err := json.Unmarshal(b, &s); err != nil || s.Version != 1 || len(s.Statements) > MaxRevocations {
		return fmt.Errorf("read %s: version %d, %d statements: %w; without the file this node would serve those that were revoked: take it from another member, or leave and join again",
			m.revokedFile(), s.Version, len(s.Statements), cmp.Or(err, ErrMalformed))
	}
	for _, text := range s.Statements {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return fmt.Errorf("read %s: %w", m.revokedFile(), err)
		}
		r, err := ParseRevocation(raw)
		if err != nil {
			return fmt.Errorf("read %s: %w", m.revokedFile(), err)
		}
		// The clock may have been set back since: what was taken once stays.
		if err := r.Verify(m.id, r.At); err != nil {
			return fmt.Errorf("read %s: %w", m.revokedFile(), err)
		}
		m.revoked.add(r)
	}
	return nil
}

// storeRevoked writes a book and adopts it. Callers hold mu.
func (m *Mesh) storeRevoked(v revokedBook) error {
	s := revokedState{Version: 1}
	for _, b := range v.encode() {
		s.Statements = append(s.Statements, base64.StdEncoding.EncodeToString(b))
	}
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	if err := durable.Write(m.revokedFile(), append(b, '\n')); err != nil {
		return err
	}
	m.revoked = v
	return nil
}

// Revocations returns all statements that this node knows, encoded.
func (m *Mesh) Revocations() [][]byte {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.revoked.encode()
}

// Revoked returns the statements in force, by subject.
func (m *Mesh) Revoked() []Revocation {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var out []Revocation
	for _, r := range m.revoked.list {
		if !m.revoked.void(r) {
			out = append(out, *r)
		}
	}
	return out
}

// RevocationDigest is the same on nodes that know the same statements, nil
// where there are none.
func (m *Mesh) RevocationDigest() []byte {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.revoked.digest()
}

// TakeRevocations takes in what another member knows and says whether that
// was anything new, which is on disk then. Statements that prove nothing are
// left out; the error is about the first of them.
func (m *Mesh) TakeRevocations(statements [][]byte) (changed bool, err error) {
	if len(statements) > MaxRevocations {
		return false, fmt.Errorf("take revocations: %d are more than %d", len(statements), MaxRevocations)
	}
	m.mu.Lock()
	changed, err = m.take(statements)
	told := m.told
	m.mu.Unlock()
	if changed && told != nil {
		told()
	}
	return changed, err
}

// take is TakeRevocations for callers that hold mu.
func (m *Mesh) take(statements [][]byte) (changed bool, first error) {
	if m.chain == nil {
		return false, ErrNoMesh
	}
	known := map[string]bool{}
	for _, b := range m.revoked.encode() {
		known[string(b)] = true
	}
	next := revokedBook{list: slices.Clone(m.revoked.list)}
	now := m.cfg.Now()
	next.prune(now)
	for _, b := range statements {
		if known[string(b)] {
			continue
		}
		r, err := ParseRevocation(b)
		if err == nil {
			err = r.Verify(m.id, now)
		}
		if err != nil {
			first = cmp.Or(first, err)
			continue
		}
		if r.Role == Admitter || now.Sub(r.At) <= keepRevocation {
			changed = next.add(r) || changed
		}
	}
	if !changed {
		return false, first
	}
	if err := m.storeRevoked(next); err != nil {
		return false, errors.Join(first, err)
	}
	return true, first
}

// OnRevoked names a function that is called, on the goroutine that has
// brought the news, whenever this node has learned of a revocation.
func (m *Mesh) OnRevoked(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = f
}
