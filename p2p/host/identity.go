package host

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/weft-mesh/weft/p2p/internal/durable"
)

const identityFile = "identity.key"

// LoadIdentity returns the Ed25519 key of the node whose home is dir, which
// must exist. The first call creates the key; of several processes that do
// so at once, all get the same one.
func LoadIdentity(dir string) (crypto.PrivKey, error) {
	path := filepath.Join(dir, identityFile)
	key, err := readIdentity(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key, _, err = crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	raw, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	err = durable.Create(path, []byte(base64.StdEncoding.EncodeToString(raw)+"\n"))
	if errors.Is(err, fs.ErrExist) {
		return readIdentity(path)
	}
	if err != nil {
		return nil, err
	}
	return key, nil
}

func readIdentity(path string) (crypto.PrivKey, error) {
	b, err := durable.ReadSecret(path, 4096)
	if err != nil {
		return nil, err
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w; delete it to get a new identity, and join again", path, err)
	}
	key, err := crypto.UnmarshalPrivateKey(raw)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w; delete it to get a new identity, and join again", path, err)
	}
	if key.Type() != crypto.Ed25519 {
		return nil, fmt.Errorf("read %s: the key is not Ed25519", path)
	}
	return key, nil
}
