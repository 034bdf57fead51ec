package admission

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/weft-mesh/weft/p2p/internal/durable"
)

const (
	invitationFile = "invites.json"
	maxInvitations = 256
	maxUses        = 1000
	maxInvitedFile = 1 << 22
	// A dead invitation is remembered this long, so that whoever brings it
	// late is told that it has expired, not that it is unknown.
	rememberFor   = 7 * 24 * time.Hour
	maxInviteLife = 30 * 24 * time.Hour
)

// Reasons for refusing an invitation.
var (
	ErrInvitationUnknown = errors.New("the invitation is not known to the node that should have issued it")
	ErrInvitationExpired = errors.New("the invitation has expired")
	ErrInvitationUsed    = errors.New("the invitation has been used up")
)

// Invitation is one entry of the book, without its secret.
type Invitation struct {
	ID      string    `json:"id"`
	Hash    string    `json:"hash"`
	Role    string    `json:"role"`
	MaxUses int       `json:"max_uses"`
	UsedBy  []string  `json:"used_by,omitempty"`
	Expires time.Time `json:"expires"`
}

// Invitations is the book of invitations that this node has issued, kept on
// disk. Secrets are stored as hashes. A use is on disk before it counts, so a
// crash never makes an invitation usable again.
type Invitations struct {
	path string

	mu   sync.Mutex // guards book and the file
	book []Invitation
}

// OpenInvitations loads the book from dir, which may hold none yet.
func OpenInvitations(dir string) (*Invitations, error) {
	v := &Invitations{path: filepath.Join(dir, invitationFile)}
	b, err := durable.Read(v.path, maxInvitedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &v.book); err != nil {
		return nil, fmt.Errorf("read %s: %w; delete the file to withdraw all invitations", v.path, err)
	}
	if len(v.book) > maxInvitations {
		return nil, fmt.Errorf("read %s: more than %d invitations", v.path, maxInvitations)
	}
	return v, nil
}

// Add issues an invitation for uses joinings and returns its id and secret;
// the secret exists nowhere else.
func (v *Invitations) Add(role Role, uses int, now, expires time.Time) (id [invitationSize]byte, secret [secretSize]byte, err error) {
	switch {
	case uses < 1 || uses > maxUses:
		return id, secret, fmt.Errorf("invitation for %d uses: it must be 1 to %d", uses, maxUses)
	case !expires.After(now):
		return id, secret, errors.New("invitation expires before it is issued: choose a positive duration")
	case expires.Sub(now) > maxInviteLife:
		return id, secret, fmt.Errorf("invitation for %v: at most %v", expires.Sub(now), maxInviteLife)
	}
	_, _ = rand.Read(id[:]) // never fails; see crypto/rand
	_, _ = rand.Read(secret[:])
	hash := secretHash(secret[:])
	v.mu.Lock()
	defer v.mu.Unlock()
	kept := slices.DeleteFunc(slices.Clone(v.book), func(e Invitation) bool { return now.After(e.Expires.Add(rememberFor)) })
	if len(kept) >= maxInvitations {
		return id, secret, fmt.Errorf("%d invitations are open: wait until some expire", len(kept))
	}
	kept = append(kept, Invitation{
		ID: hex.EncodeToString(id[:]), Hash: hex.EncodeToString(hash[:]),
		Role: role.String(), MaxUses: uses, Expires: expires.UTC(),
	})
	return id, secret, v.store(kept)
}

// Redeem spends one use of an invitation on a peer and returns the role that
// it grants. The same peer may come again at no further cost, as long as the
// invitation lasts: its answer may have been lost on the way. Nothing is
// learned about an invitation without its secret.
func (v *Invitations) Redeem(id, secret []byte, who peer.ID, now time.Time) (Role, error) {
	hash := secretHash(secret)
	name := hex.EncodeToString(id)
	v.mu.Lock()
	defer v.mu.Unlock()
	i := slices.IndexFunc(v.book, func(e Invitation) bool { return e.ID == name })
	if i < 0 {
		return 0, ErrInvitationUnknown
	}
	e := v.book[i]
	want, err := hex.DecodeString(e.Hash)
	if err != nil || subtle.ConstantTimeCompare(want, hash[:]) != 1 {
		return 0, ErrInvitationUnknown
	}
	role, err := ParseRole(e.Role)
	if err != nil {
		return 0, fmt.Errorf("invitation in %s: %w", v.path, err)
	}
	switch {
	case now.After(e.Expires):
		return 0, fmt.Errorf("%w: on %s", ErrInvitationExpired, e.Expires.UTC().Format(time.RFC3339))
	case slices.Contains(e.UsedBy, who.String()):
		return role, nil
	case len(e.UsedBy) >= e.MaxUses:
		return 0, fmt.Errorf("%w: all %d uses", ErrInvitationUsed, e.MaxUses)
	}
	next := slices.Clone(v.book)
	next[i].UsedBy = append(slices.Clone(e.UsedBy), who.String())
	if err := v.store(next); err != nil {
		return 0, err
	}
	return role, nil
}

// List returns a copy of the book.
func (v *Invitations) List() []Invitation {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.book)
}

// Withdraw takes an invitation out of the book; nobody joins by it any more.
// Who has joined stays a member. The beginning of the id is enough where only
// one fits.
func (v *Invitations) Withdraw(id string) (Invitation, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var fit []int
	for i, e := range v.book {
		if id != "" && strings.HasPrefix(e.ID, strings.ToLower(id)) {
			fit = append(fit, i)
		}
	}
	switch len(fit) {
	case 0:
		return Invitation{}, fmt.Errorf("%w: %s", ErrInvitationUnknown, id)
	case 1:
		e := v.book[fit[0]]
		return e, v.store(slices.Delete(slices.Clone(v.book), fit[0], fit[0]+1))
	}
	return Invitation{}, fmt.Errorf("%d invitations have ids that begin with %s: give more of it", len(fit), id)
}

// Clear withdraws all invitations.
func (v *Invitations) Clear() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.store(nil)
}

// store writes the book and adopts it once it is on disk. Callers hold mu.
func (v *Invitations) store(book []Invitation) error {
	b, err := json.MarshalIndent(book, "", " ")
	if err != nil {
		return err
	}
	if err := durable.Write(v.path, append(b, '\n')); err != nil {
		return err
	}
	v.book = book
	return nil
}

func secretHash(secret []byte) [32]byte {
	return sha256.Sum256(append([]byte("weft invitation v1\x00"), secret...))
}
