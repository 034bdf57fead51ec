package admission

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/weft-mesh/weft/p2p/internal/durable"
)

// Secret is what all members of a mesh know and nobody else: the root key's
// signature of a label. Ed25519 signs deterministically, so whoever holds the
// root key finds it again, members check what another member tells them, and
// nobody can make a second one.
type Secret [ed25519.SignatureSize]byte

// ErrSecret means that a mesh secret is not signed by the mesh's root key.
var ErrSecret = errors.New("the mesh secret is not signed by the mesh's root key")

const (
	secretFile   = "secret.key"
	secretDomain = "weft mesh secret v1\x00"
)

// Secret returns the mesh's secret; ok is false while this node has not got it
// from another member.
func (m *Mesh) Secret() (s Secret, ok bool) {
	m.mu.RLock()
	id, root := m.id, m.root
	m.mu.RUnlock()
	if root != nil {
		return Secret(ed25519.Sign(root, secretBytes(id))), true
	}
	b, err := durable.ReadSecret(m.path(secretFile), int64(len(s)))
	if err != nil || m.checkSecret(b) != nil {
		return Secret{}, false
	}
	return Secret(b), true
}

// LearnSecret takes over the secret that another member has told. It writes to
// disk before it returns.
func (m *Mesh) LearnSecret(b []byte) error {
	if err := m.checkSecret(b); err != nil {
		return err
	}
	if _, ok := m.Secret(); ok {
		return nil
	}
	if err := durable.Write(m.path(secretFile), b); err != nil {
		return fmt.Errorf("keep the mesh secret: %w", err)
	}
	return nil
}

func (m *Mesh) checkSecret(b []byte) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.chain == nil {
		return ErrNoMesh
	}
	root := m.chain[len(m.chain)-1].Issuer
	if len(b) != ed25519.SignatureSize || !ed25519.Verify(root[:], secretBytes(m.id), b) {
		return ErrSecret
	}
	return nil
}

func (m *Mesh) forgetSecret() error {
	if err := os.Remove(m.path(secretFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the mesh secret: %w", err)
	}
	return nil
}

func secretBytes(id ID) []byte { return append([]byte(secretDomain), id[:]...) }
