package admission

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/weft-mesh/weft/p2p/internal/durable"
)

const (
	rosterFile    = "members.json"
	maxRosterFile = 2 << 20
	maxRoster     = 1024
	// A sighting is written again when it is that much younger.
	seenStep = time.Hour
)

// Known is a member that this node has met, with the certificate chain that
// it showed last.
type Known struct {
	Peer       peer.ID   `json:"peer"`
	Name       string    `json:"name,omitempty"`
	Credential []byte    `json:"credential"`
	Seen       time.Time `json:"seen"`
}

// Roster remembers the members that were met, on disk, so that they can be
// named and revoked while they are away. It decides nothing.
type Roster struct {
	path string

	mu   sync.Mutex // guards list and the file
	list []Known    // ordered by peer
}

// OpenRoster loads the roster of a home. A damaged file is an empty roster,
// and the error says why: nothing is lost but names.
func OpenRoster(dir string) (*Roster, error) {
	r := &Roster{path: filepath.Join(dir, rosterFile)}
	b, err := durable.Read(r.path, maxRosterFile)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	list, err := decodeRoster(b)
	if err != nil {
		return r, fmt.Errorf("read %s: %w", r.path, err)
	}
	r.list = list
	return r, nil
}

func decodeRoster(b []byte) ([]Known, error) {
	var list []Known
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, err
	}
	if len(list) > maxRoster {
		return nil, fmt.Errorf("%d members are more than %d", len(list), maxRoster)
	}
	for i := range list {
		k := &list[i]
		if err := k.Peer.Validate(); err != nil {
			return nil, fmt.Errorf("member %d: %w", i, err)
		}
		if len(k.Credential) > maxChain*CertificateSize {
			return nil, fmt.Errorf("member %s: %w", k.Peer, ErrMalformed)
		}
		k.Name = CleanName(k.Name)
	}
	slices.SortFunc(list, comparePeers)
	return slices.CompactFunc(list, func(a, b Known) bool { return a.Peer == b.Peer }), nil
}

func comparePeers(a, b Known) int { return cmp.Compare(a.Peer, b.Peer) }

// Note remembers members that were met now. It writes to disk only what has
// changed. An empty name keeps the one that is known.
func (r *Roster) Note(met []Known) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next, changed := slices.Clone(r.list), false
	for _, k := range met {
		k.Name = CleanName(k.Name)
		i, found := slices.BinarySearchFunc(next, k, comparePeers)
		if !found {
			next, changed = slices.Insert(next, i, k), true
			continue
		}
		k.Name = cmp.Or(k.Name, next[i].Name)
		if k.Name != next[i].Name || string(k.Credential) != string(next[i].Credential) || k.Seen.Sub(next[i].Seen) > seenStep {
			next[i], changed = k, true
		}
	}
	if !changed {
		return nil
	}
	for len(next) > maxRoster {
		oldest := 0
		for i := range next {
			if next[i].Seen.Before(next[oldest].Seen) {
				oldest = i
			}
		}
		next = slices.Delete(next, oldest, oldest+1)
	}
	return r.store(next)
}

// List returns a copy of the roster.
func (r *Roster) List() []Known {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

// Clear forgets all, for leaving a mesh.
func (r *Roster) Clear() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.store(nil)
}

// store writes a list and adopts it. Callers hold mu.
func (r *Roster) store(list []Known) error {
	b, err := json.MarshalIndent(list, "", " ")
	if err != nil {
		return err
	}
	if err := durable.Write(r.path, append(b, '\n')); err != nil {
		return err
	}
	r.list = list
	return nil
}

// Standing is what this node can say about a member by its last certificate
// and the revocations.
type Standing struct {
	Known
	Role Role // zero when only a revocation is known
	// Issuer signed the certificate; empty for the mesh's root.
	Issuer          peer.ID
	Issued, Expires time.Time
	// Why is nil for a member; else it says why it is none now.
	Why error
	// RevokedAt is zero for one that was not revoked.
	RevokedAt time.Time
}

// Standings says who is who, by peer id: every member of the list whose
// certificate is of this mesh, and everybody who was revoked.
func (m *Mesh) Standings(known []Known) []Standing {
	id, now := m.ID(), m.cfg.Now()
	var out []Standing
	for _, k := range known {
		s := Standing{Known: k}
		chain, err := ParseChain(k.Credential)
		if err != nil || chain[0].Mesh != id {
			continue
		}
		leaf := chain[0]
		s.Role, s.Issued, s.Expires = leaf.Role, leaf.NotBefore, leaf.NotAfter
		if len(chain) > 1 {
			s.Issuer, _ = peerOf(leaf.Issuer)
		}
		_, s.Why = verifyMember(id, k.Peer, k.Credential, now, m.book())
		out = append(out, s)
	}
	for _, r := range m.Revoked() {
		who, err := r.SubjectPeer()
		if err != nil {
			continue
		}
		i := slices.IndexFunc(out, func(s Standing) bool { return s.Peer == who })
		if i < 0 {
			out = append(out, Standing{Known: Known{Peer: who}, Why: ErrRevoked})
			i = len(out) - 1
		}
		if errors.Is(out[i].Why, ErrRevoked) && r.At.After(out[i].RevokedAt) {
			out[i].RevokedAt = r.At
		}
	}
	slices.SortFunc(out, func(a, b Standing) int { return comparePeers(a.Known, b.Known) })
	return out
}

// book returns the revocations as they are now.
func (m *Mesh) book() *revokedBook {
	m.mu.RLock()
	defer m.mu.RUnlock()
	b := m.revoked
	return &b
}
