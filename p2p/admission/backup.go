package admission

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/weft-mesh/weft/p2p/internal/durable"
)

const (
	maxBackup     = 16 << 10
	minPassphrase = 8
	// scrypt's cost as a power of two: about a second, and 256 MiB.
	backupWork    = 18
	maxBackupWork = 20
)

// Reasons why a backup is not opened.
var (
	ErrNoBackup   = errors.New("this is not a backup of a mesh's root key")
	ErrPassphrase = errors.New("the passphrase is wrong")
)

// RootBackup is what a backup of a root key holds.
type RootBackup struct {
	Mesh ID
	Name string
	root ed25519.PrivateKey
}

type backupState struct {
	Version int    `json:"version"`
	Kind    string `json:"kind"`
	Mesh    string `json:"mesh"`
	Name    string `json:"name"`
	Seed    []byte `json:"seed"`
}

const backupKind = "weft root key"

// Backup encrypts the mesh's root key with a passphrase: a file of age
// (age-encryption.org), which its own program opens too. It takes about a
// second.
func (m *Mesh) Backup(passphrase string) ([]byte, error) { return m.backup(passphrase, backupWork) }

func (m *Mesh) backup(passphrase string, work int) ([]byte, error) {
	m.mu.RLock()
	id, name, root := m.id, m.name, m.root
	m.mu.RUnlock()
	if id.IsZero() {
		return nil, fmt.Errorf("back up the root key: %w", ErrNoMesh)
	}
	if root == nil {
		return nil, fmt.Errorf("back up the root key: %w: do it on the founding node", ErrNoRoot)
	}
	if len(passphrase) < minPassphrase {
		return nil, fmt.Errorf("back up the root key: a passphrase has at least %d characters: who has the file and guesses it owns the mesh", minPassphrase)
	}
	to, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, fmt.Errorf("back up the root key: %w", err)
	}
	to.SetWorkFactor(work)
	plain, err := json.Marshal(backupState{Version: 1, Kind: backupKind, Mesh: id.String(), Name: name, Seed: root.Seed()})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	text := armor.NewWriter(&out)
	w, err := age.Encrypt(text, to)
	if err != nil {
		return nil, fmt.Errorf("back up the root key: %w", err)
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := errors.Join(w.Close(), text.Close()); err != nil {
		return nil, fmt.Errorf("back up the root key: %w", err)
	}
	return out.Bytes(), nil
}

// OpenBackup decrypts a backup.
func OpenBackup(file []byte, passphrase string) (*RootBackup, error) {
	if len(file) > maxBackup {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrNoBackup, len(file))
	}
	with, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, fmt.Errorf("open the backup: %w", err)
	}
	with.SetMaxWorkFactor(maxBackupWork) // a hostile file must not take all memory
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(file)), with)
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &none) && errors.Is(err, age.ErrIncorrectIdentity) && bytes.Contains(file, []byte(armor.Header)):
		return nil, fmt.Errorf("open the backup: %w, or the file was not made with a passphrase", ErrPassphrase)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrNoBackup, err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxBackup))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoBackup, err)
	}
	return parseBackup(plain)
}

func parseBackup(plain []byte) (*RootBackup, error) {
	var s backupState
	if err := json.Unmarshal(plain, &s); err != nil || s.Kind != backupKind {
		return nil, fmt.Errorf("%w: it holds something else", ErrNoBackup)
	}
	if s.Version != 1 || len(s.Seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%w: version %d is not known to this program", ErrNoBackup, s.Version)
	}
	root := ed25519.NewKeyFromSeed(s.Seed)
	id := MeshID(root.Public().(ed25519.PublicKey))
	if id.String() != s.Mesh {
		return nil, fmt.Errorf("%w: the key and the mesh's id do not belong together", ErrNoBackup)
	}
	return &RootBackup{Mesh: id, Name: CleanName(s.Name), root: root}, nil
}

// Restore makes this node hold the root key of a backup, and an admitter of
// that mesh. The node must belong to that mesh or to none.
func (m *Mesh) Restore(b *RootBackup) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.chain != nil && m.id != b.Mesh {
		return fmt.Errorf("restore the root key of %s (%s): %w (%s): weft leave first, or use another home", b.Name, b.Mesh.Short(), ErrAlreadyMember, m.id.Short())
	}
	prior := m.id
	m.id = b.Mesh
	fail := func(err error) error {
		m.id = prior
		return fmt.Errorf("restore the root key: %w", err)
	}
	if m.chain == nil {
		if err := m.loadRevoked(); err != nil {
			return fail(err)
		}
	}
	chain := Chain{m.appoint(b.root)}
	if err := m.revoked.Check(chain); err != nil {
		return fail(err)
	}
	err := durable.Create(m.rootFile(), encodeRoot(b.root))
	if err != nil && !errors.Is(err, fs.ErrExist) { // it may have been here before
		return fail(err)
	}
	name := m.name
	if name == "" {
		name = b.Name
	}
	if err := m.install(b.Mesh, name, chain); err != nil {
		return fail(err)
	}
	return m.loadRoot()
}
