package admission

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/weft-mesh/weft/p2p/internal/durable"
)

const (
	meshFile    = "mesh.json"
	maxMeshFile = 1 << 16
)

// Errors of a node's own membership.
var (
	ErrNoMesh        = errors.New("this node belongs to no mesh")
	ErrAlreadyMember = errors.New("this node already belongs to a mesh")
	ErrNotAdmitter   = errors.New("this node may not admit others")
	ErrNoRoot        = errors.New("this node does not hold the mesh's root key")
)

// Member is what a verified certificate chain says about a peer.
type Member struct {
	ID      peer.ID
	Role    Role
	Issued  time.Time
	Expires time.Time // of the certificate; skew not included
	Serial  [16]byte
}

// Config says where a Mesh lives.
type Config struct {
	// Dir is the node's home; it must exist.
	Dir string
	// Identity is the node's Ed25519 key.
	Identity crypto.PrivKey
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Mesh is this node's membership: which mesh, with which certificate, and
// the root key where this node founded it. All methods are safe for use by
// several goroutines; those that change it write to disk before they return.
type Mesh struct {
	cfg  Config
	key  ed25519.PrivateKey
	self peer.ID

	mu      sync.RWMutex // guards all below
	id      ID
	name    string
	chain   Chain
	root    ed25519.PrivateKey // nil unless this node founded the mesh
	revoked revokedBook        // its list is replaced, never changed
	told    func()             // see OnRevoked
}

type meshState struct {
	Version    int    `json:"version"`
	Mesh       string `json:"mesh"`
	Name       string `json:"name"`
	Credential string `json:"credential"`
}

// Open loads the membership from the node's home. A home without one gives a
// Mesh that is not joined yet; Found or a joining fills it.
func Open(cfg Config) (*Mesh, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Identity == nil || cfg.Identity.Type() != crypto.Ed25519 {
		return nil, errors.New("open mesh: an Ed25519 identity is needed")
	}
	raw, err := cfg.Identity.Raw()
	if err != nil {
		return nil, fmt.Errorf("open mesh: %w", err)
	}
	self, err := peer.IDFromPrivateKey(cfg.Identity)
	if err != nil {
		return nil, fmt.Errorf("open mesh: %w", err)
	}
	m := &Mesh{cfg: cfg, key: ed25519.PrivateKey(raw), self: self}
	b, err := durable.Read(m.path(meshFile), maxMeshFile)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	if err := m.restore(b); err != nil {
		return nil, fmt.Errorf("read %s: %w; weft leave forgets the mesh", m.path(meshFile), err)
	}
	return m, nil
}

func (m *Mesh) path(name string) string { return filepath.Join(m.cfg.Dir, name) }

// restore fills m from the state file. An expired certificate is no error
// here: the node can still say what it needs.
func (m *Mesh) restore(b []byte) error {
	var s meshState
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if s.Version != 1 {
		return fmt.Errorf("version %d is not known to this program", s.Version)
	}
	id, err := hex.DecodeString(s.Mesh)
	if err != nil || len(id) != len(m.id) {
		return fmt.Errorf("mesh id %q is malformed", s.Mesh)
	}
	credential, err := base64.StdEncoding.DecodeString(s.Credential)
	if err != nil {
		return err
	}
	chain, err := ParseChain(credential)
	if err != nil {
		return err
	}
	copy(m.id[:], id)
	if err := chain.Verify(m.id, m.self, chain[0].NotBefore, nil); err != nil {
		return err
	}
	m.name, m.chain = CleanName(s.Name), chain
	return errors.Join(m.loadRevoked(), m.loadRoot())
}

func (m *Mesh) rootFile() string { return m.path("root-" + m.id.Short() + ".key") }

// loadRoot reads the root key where this node has it.
func (m *Mesh) loadRoot() error {
	b, err := durable.ReadSecret(m.rootFile(), 256)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return fmt.Errorf("read %s: the root key is malformed", m.rootFile())
	}
	root := ed25519.NewKeyFromSeed(seed)
	if MeshID(root.Public().(ed25519.PublicKey)) != m.id {
		return fmt.Errorf("read %s: it is the root key of another mesh", m.rootFile())
	}
	m.root = root
	return nil
}

func encodeRoot(root ed25519.PrivateKey) []byte {
	return []byte(base64.StdEncoding.EncodeToString(root.Seed()) + "\n")
}

// Found creates a mesh: a new root key and this node as its first admitter.
func (m *Mesh) Found(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.chain != nil {
		return fmt.Errorf("found a mesh: %w (%s): weft leave first", ErrAlreadyMember, m.id.Short())
	}
	pub, root, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("found a mesh: %w", err)
	}
	prior := m.id
	m.id = MeshID(pub)
	if err := durable.Create(m.rootFile(), encodeRoot(root)); err != nil {
		m.id = prior
		return fmt.Errorf("found a mesh: %w", err)
	}
	if err := m.install(m.id, CleanName(name), Chain{m.appoint(root)}); err != nil {
		m.id = prior
		return fmt.Errorf("found a mesh: %w", err)
	}
	m.root = root
	return nil
}

// appoint makes this node's own admitter certificate.
func (m *Mesh) appoint(root ed25519.PrivateKey) *Certificate {
	return sign(root, m.id, [32]byte(m.key.Public().(ed25519.PublicKey)), Admitter, m.cfg.Now(), AdmitterLifetime)
}

// install writes a membership to disk and adopts it. Callers hold mu.
func (m *Mesh) install(id ID, name string, chain Chain) error {
	b, err := json.MarshalIndent(meshState{
		Version: 1, Mesh: id.String(), Name: name,
		Credential: base64.StdEncoding.EncodeToString(chain.Bytes()),
	}, "", " ")
	if err != nil {
		return err
	}
	if err := durable.Write(m.path(meshFile), append(b, '\n')); err != nil {
		return err
	}
	other := m.chain == nil || m.id != id
	m.id, m.name, m.chain = id, name, chain
	if other {
		return m.loadRevoked()
	}
	return nil
}

// Adopt takes over a credential that an admitter of mesh id has issued to
// this node, after checking it. A node that belongs to another mesh refuses.
func (m *Mesh) Adopt(id ID, name string, credential []byte) error {
	chain, err := ParseChain(credential)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := chain.Verify(id, m.self, m.cfg.Now(), &m.revoked); err != nil {
		return err
	}
	if m.chain != nil && m.id != id {
		return fmt.Errorf("%w (%s, not %s): weft leave first", ErrAlreadyMember, m.id.Short(), id.Short())
	}
	if m.chain != nil && name == "" {
		name = m.name
	}
	if err := m.install(id, CleanName(name), chain); err != nil {
		return err
	}
	if m.root == nil {
		return m.loadRoot()
	}
	return nil
}

// Leave forgets the mesh. The root key of a founder stays in its file, which
// is named after the mesh: without it nobody can appoint admitters again.
func (m *Mesh) Leave() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := os.Remove(m.path(meshFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("leave the mesh: %w", err)
	}
	m.id, m.name, m.chain, m.root, m.revoked = ID{}, "", nil, nil, revokedBook{}
	return m.forgetSecret()
}

// Joined says whether the node belongs to a mesh, valid or not.
func (m *Mesh) Joined() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.chain != nil
}

// ID returns the mesh's id, zero before joining.
func (m *Mesh) ID() ID {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.id
}

// Name returns the mesh's name as its founder gave it; it may be empty.
func (m *Mesh) Name() string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.name
}

// HoldsRoot says whether this node can appoint admitters.
func (m *Mesh) HoldsRoot() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.root != nil
}

// Self verifies this node's own certificate and returns what it says.
func (m *Mesh) Self() (Member, error) {
	c := m.Credential()
	if c == nil {
		return Member{}, ErrNoMesh
	}
	return m.Verify(m.self, c)
}

// Credential returns the chain to show to others, nil before joining.
func (m *Mesh) Credential() []byte {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.chain == nil {
		return nil
	}
	return m.chain.Bytes()
}

// Verify checks that a credential makes remote a member of this mesh now.
func (m *Mesh) Verify(remote peer.ID, credential []byte) (Member, error) {
	m.mu.RLock()
	id, revoked := m.id, m.revoked
	m.mu.RUnlock()
	if id.IsZero() {
		return Member{}, ErrNoMesh
	}
	return verifyMember(id, remote, credential, m.cfg.Now(), &revoked)
}

func verifyMember(mesh ID, remote peer.ID, credential []byte, now time.Time, revoked Revocations) (Member, error) {
	chain, err := ParseChain(credential)
	if err != nil {
		return Member{}, err
	}
	if err := chain.Verify(mesh, remote, now, revoked); err != nil {
		return Member{}, err
	}
	leaf := chain[0]
	expires := leaf.NotAfter
	if top := chain[len(chain)-1]; top.NotAfter.Before(expires) {
		expires = top.NotAfter
	}
	return Member{ID: remote, Role: leaf.Role, Issued: leaf.NotBefore, Expires: expires, Serial: leaf.Serial}, nil
}

// Issue makes a credential for subject. Admitters issue every role but
// admitter, for which the root key is needed.
func (m *Mesh) Issue(subject peer.ID, role Role) ([]byte, error) {
	key, err := keyOf(subject)
	if err != nil {
		return nil, err
	}
	self, err := m.Self()
	if err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	if self.Role != Admitter {
		return nil, fmt.Errorf("issue a certificate: %w: ask an admitter (weft peers shows them)", ErrNotAdmitter)
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	now := m.cfg.Now()
	var chain Chain
	switch role {
	case Client, Compute:
		chain = Chain{sign(m.key, m.id, key, role, now, MemberLifetime), m.chain[0]}
	case Admitter:
		if m.root == nil {
			return nil, fmt.Errorf("appoint an admitter: %w: do it on the founding node", ErrNoRoot)
		}
		chain = Chain{sign(m.root, m.id, key, Admitter, now, AdmitterLifetime)}
	default:
		return nil, fmt.Errorf("issue a certificate: unknown %v", role)
	}
	if err := m.revoked.Check(chain); err != nil { // others would refuse it
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	return chain.Bytes(), nil
}

// RenewalDue says that more than half of the node's own certificate's life
// has passed.
func (m *Mesh) RenewalDue() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.chain == nil {
		return false
	}
	c := m.chain[0]
	return m.cfg.Now().After(c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 2))
}

// renewSelf reissues the admitter certificate of a node that holds the root.
func (m *Mesh) renewSelf() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.root == nil {
		return ErrNoRoot
	}
	return m.install(m.id, m.name, Chain{m.appoint(m.root)})
}
