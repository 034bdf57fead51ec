package admission

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"
)

// party is a key with its peer id.
type party struct {
	key ed25519.PrivateKey
	pub [32]byte
	id  peer.ID
}

func newParty(t testing.TB) party {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := party{key: key, pub: [32]byte(pub)}
	if p.id, err = peerOf(p.pub); err != nil {
		t.Fatal(err)
	}
	return p
}

var someTime = time.Unix(1_900_000_000, 0)

func TestTheChainOfRootAdmitterMemberVerifies(t *testing.T) {
	root, admitter, member := newParty(t), newParty(t), newParty(t)
	mesh := MeshID(root.key.Public().(ed25519.PublicKey))
	top := sign(root.key, mesh, admitter.pub, Admitter, someTime, AdmitterLifetime)
	leaf := sign(admitter.key, mesh, member.pub, Compute, someTime, MemberLifetime)
	for name, c := range map[string]struct {
		chain Chain
		who   peer.ID
	}{"admitter": {Chain{top}, admitter.id}, "member": {Chain{leaf, top}, member.id}} {
		parsed, err := ParseChain(c.chain.Bytes())
		if err != nil {
			t.Fatal(name, err)
		}
		if err := parsed.Verify(mesh, c.who, someTime.Add(time.Hour), nil); err != nil {
			t.Error(name, err)
		}
		if !bytes.Equal(parsed.Bytes(), c.chain.Bytes()) {
			t.Error(name, "the encoding changed")
		}
	}
}

func TestEveryWrongChainIsRefusedWithItsReason(t *testing.T) {
	root, admitter, member, rogue := newParty(t), newParty(t), newParty(t), newParty(t)
	mesh := MeshID(root.key.Public().(ed25519.PublicKey))
	other := MeshID(rogue.key.Public().(ed25519.PublicKey))
	now := someTime.Add(time.Hour)
	top := sign(root.key, mesh, admitter.pub, Admitter, someTime, AdmitterLifetime)
	leaf := sign(admitter.key, mesh, member.pub, Compute, someTime, MemberLifetime)
	forged := *leaf
	forged.Role = Client
	for name, c := range map[string]struct {
		chain Chain
		now   time.Time
		want  error
	}{
		"empty":                      {Chain{}, now, ErrMalformed},
		"leaf alone":                 {Chain{leaf}, now, ErrNotPermitted},
		"another peer's":             {Chain{top}, now, ErrOtherPeer},
		"changed after signing":      {Chain{&forged, top}, now, ErrSignature},
		"another mesh":               {Chain{sign(rogue.key, other, member.pub, Admitter, someTime, AdmitterLifetime)}, now, ErrOtherMesh},
		"another root, same mesh id": {Chain{sign(rogue.key, mesh, member.pub, Admitter, someTime, AdmitterLifetime)}, now, ErrNotPermitted},
		"issuer is not in the chain": {Chain{sign(rogue.key, mesh, member.pub, Compute, someTime, MemberLifetime), top}, now, ErrNotPermitted},
		"admitter made an admitter":  {Chain{sign(admitter.key, mesh, member.pub, Admitter, someTime, AdmitterLifetime), top}, now, ErrNotPermitted},
		"root signed a plain member": {Chain{sign(root.key, mesh, member.pub, Compute, someTime, MemberLifetime)}, now, ErrNotPermitted},
		"member signed a member":     {Chain{sign(admitter.key, mesh, member.pub, Compute, someTime, MemberLifetime), sign(root.key, mesh, admitter.pub, Compute, someTime, MemberLifetime)}, now, ErrNotPermitted},
		"lives too long":             {Chain{sign(admitter.key, mesh, member.pub, Compute, someTime, MemberLifetime+time.Second), top}, now, ErrNotPermitted},
		"older than its admitter":    {Chain{sign(admitter.key, mesh, member.pub, Compute, someTime.Add(-2*time.Hour), MemberLifetime), top}, now, ErrNotPermitted},
		"expired":                    {Chain{leaf, top}, someTime.Add(MemberLifetime + ClockSkew + time.Second), ErrExpired},
		"not valid yet":              {Chain{leaf, top}, someTime.Add(-ClockSkew - time.Second), ErrNotYetValid},
		"the admitter's has expired": {Chain{sign(admitter.key, mesh, member.pub, Compute, someTime.Add(AdmitterLifetime), MemberLifetime), top}, someTime.Add(AdmitterLifetime + 2*time.Hour), ErrExpired},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.chain.Verify(mesh, member.id, c.now, nil); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestAnHourOfClockSkewIsTolerated(t *testing.T) {
	root, admitter := newParty(t), newParty(t)
	mesh := MeshID(root.key.Public().(ed25519.PublicKey))
	chain := Chain{sign(root.key, mesh, admitter.pub, Admitter, someTime, AdmitterLifetime)}
	for _, now := range []time.Time{someTime.Add(-ClockSkew), someTime.Add(AdmitterLifetime + ClockSkew)} {
		if err := chain.Verify(mesh, admitter.id, now, nil); err != nil {
			t.Error(now, err)
		}
	}
}

type revokeAll struct{}

var errRevoked = errors.New("revoked")

func (revokeAll) Check(Chain) error { return errRevoked }

func TestRevocationsAreAsked(t *testing.T) {
	root, admitter := newParty(t), newParty(t)
	mesh := MeshID(root.key.Public().(ed25519.PublicKey))
	chain := Chain{sign(root.key, mesh, admitter.pub, Admitter, someTime, AdmitterLifetime)}
	if err := chain.Verify(mesh, admitter.id, someTime, revokeAll{}); !errors.Is(err, errRevoked) {
		t.Errorf("got %v", err)
	}
}

func TestEveryFlippedBitBreaksACertificate(t *testing.T) {
	root, admitter := newParty(t), newParty(t)
	mesh := MeshID(root.key.Public().(ed25519.PublicKey))
	good := sign(root.key, mesh, admitter.pub, Admitter, someTime, AdmitterLifetime).Bytes()
	rapid.Check(t, func(r *rapid.T) {
		bad := bytes.Clone(good)
		bad[rapid.IntRange(0, len(bad)-1).Draw(r, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(r, "bit")
		chain, err := ParseChain(bad)
		if err == nil {
			err = chain.Verify(mesh, admitter.id, someTime, nil)
		}
		if err == nil {
			r.Fatal("accepted")
		}
	})
}

func TestTheSignatureCoversTheDomain(t *testing.T) {
	root := newParty(t)
	c := sign(root.key, ID{1}, root.pub, Admitter, someTime, time.Hour)
	if ed25519.Verify(c.Issuer[:], c.body(), c.Signature[:]) {
		t.Error("the bare body verifies: a signature made for another purpose could be taken for a certificate")
	}
	want := append([]byte("weft certificate v1\x00"), c.Bytes()[:bodySize]...)
	if !ed25519.Verify(c.Issuer[:], want, c.Signature[:]) {
		t.Error("the documented bytes do not verify")
	}
}

func TestMeshIDIsTheDocumentedHash(t *testing.T) {
	root := newParty(t)
	want := sha256.Sum256(append([]byte("weft mesh root v1\x00"), root.pub[:]...))
	if id := MeshID(root.pub[:]); id != ID(want) || len(id.String()) != 64 || len(id.Short()) != 8 || len(id.Label()) != 16 {
		t.Errorf("mesh id %v", id)
	}
}

func TestRolesRoundTrip(t *testing.T) {
	for _, r := range []Role{Client, Compute, Admitter} {
		if got, err := ParseRole(r.String()); err != nil || got != r {
			t.Errorf("%v became %v, %v", r, got, err)
		}
	}
	if _, err := ParseRole(Role(9).String()); err == nil {
		t.Error("an unknown role was parsed")
	}
}

func TestOnlyEd25519PeersHaveKeys(t *testing.T) {
	_, pub, err := crypto.GenerateECDSAKeyPair(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyOf(id); err == nil {
		t.Error("an ECDSA peer got a key")
	}
	_, pub, err = crypto.GenerateSecp256k1Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if id, err = peer.IDFromPublicKey(pub); err != nil {
		t.Fatal(err)
	}
	if _, err := keyOf(id); err == nil {
		t.Error("a secp256k1 peer got a key")
	}
}

func FuzzParseChain(f *testing.F) {
	root, admitter, member := newParty(f), newParty(f), newParty(f)
	mesh := MeshID(root.pub[:])
	top := sign(root.key, mesh, admitter.pub, Admitter, someTime, AdmitterLifetime)
	leaf := sign(admitter.key, mesh, member.pub, Compute, someTime, MemberLifetime)
	f.Add(Chain{top}.Bytes())
	f.Add(Chain{leaf, top}.Bytes())
	f.Add(make([]byte, CertificateSize))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		chain, err := ParseChain(b)
		if err != nil {
			return
		}
		if !bytes.Equal(chain.Bytes(), b) {
			t.Fatal("two encodings of one chain")
		}
		_ = chain.Verify(mesh, member.id, someTime, nil)
	})
}
