package admission

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// clock is a settable time.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func openMesh(t *testing.T, dir string, key crypto.PrivKey, c *clock) *Mesh {
	t.Helper()
	m, err := Open(Config{Dir: dir, Identity: key, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newMesh(t *testing.T, c *clock) (m *Mesh, dir string, key crypto.PrivKey) {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	return openMesh(t, dir, key, c), dir, key
}

func TestAFounderKeepsItsMeshAcrossRestarts(t *testing.T) {
	c := &clock{someTime}
	m, dir, key := newMesh(t, c)
	if m.Joined() || m.Credential() != nil || !m.ID().IsZero() || m.RenewalDue() {
		t.Error("a new home belongs to a mesh")
	}
	if _, err := m.Self(); !errors.Is(err, ErrNoMesh) {
		t.Errorf("self: %v", err)
	}
	if _, err := m.Verify(m.self, nil); !errors.Is(err, ErrNoMesh) {
		t.Errorf("verify: %v", err)
	}
	if err := m.Found(" home\x1b[31m "); err != nil {
		t.Fatal(err)
	}
	if err := m.Found("again"); !errors.Is(err, ErrAlreadyMember) {
		t.Errorf("second founding: %v", err)
	}
	again := openMesh(t, dir, key, c)
	self, err := again.Self()
	if err != nil || self.Role != Admitter || again.ID() != m.ID() || again.Name() != "home[31m" || !again.HoldsRoot() {
		t.Errorf("after a restart: %+v %v name %q root %v", self, err, again.Name(), again.HoldsRoot())
	}
	info, err := os.Stat(again.rootFile())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("root key file %v, %v", info, err)
	}
}

func TestOnlyTheRootAppointsAdmitters(t *testing.T) {
	c := &clock{someTime}
	founder, _, _ := newMesh(t, c)
	if err := founder.Found(""); err != nil {
		t.Fatal(err)
	}
	second, _, _ := newMesh(t, c)
	credential, err := founder.Issue(second.self, Admitter)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Adopt(founder.ID(), "", credential); err != nil {
		t.Fatal(err)
	}
	third, _, _ := newMesh(t, c)
	if _, err := second.Issue(third.self, Admitter); !errors.Is(err, ErrNoRoot) {
		t.Errorf("an admitter appointed an admitter: %v", err)
	}
	if credential, err = second.Issue(third.self, Client); err != nil {
		t.Fatal(err)
	}
	if err := third.Adopt(founder.ID(), "", credential); err != nil {
		t.Fatal(err)
	}
	if m, err := founder.Verify(third.self, credential); err != nil || m.Role != Client {
		t.Errorf("the founder sees %+v, %v", m, err)
	}
	if _, err := third.Issue(second.self, Client); !errors.Is(err, ErrNotAdmitter) {
		t.Errorf("a client issued: %v", err)
	}
	if _, err := founder.Issue(third.self, Role(7)); err == nil {
		t.Error("an unknown role was issued")
	}
	if _, err := founder.Issue("nonsense", Client); err == nil {
		t.Error("issued to no peer")
	}
}

func TestRenewalIsDueAtHalfLife(t *testing.T) {
	c := &clock{someTime}
	founder, _, _ := newMesh(t, c)
	if err := founder.Found(""); err != nil {
		t.Fatal(err)
	}
	member, _, _ := newMesh(t, c)
	credential, err := founder.Issue(member.self, Compute)
	if err != nil {
		t.Fatal(err)
	}
	if err := member.Adopt(founder.ID(), "", credential); err != nil {
		t.Fatal(err)
	}
	c.at = someTime.Add(MemberLifetime / 2)
	if member.RenewalDue() {
		t.Error("due at half")
	}
	c.at = c.at.Add(time.Second)
	if !member.RenewalDue() || founder.RenewalDue() {
		t.Error("not due after half, or due for the admitter")
	}
	c.at = someTime.Add(AdmitterLifetime/2 + time.Hour)
	if !founder.RenewalDue() {
		t.Error("not due for the admitter")
	}
	if err := founder.renewSelf(); err != nil || founder.RenewalDue() {
		t.Errorf("the founder did not renew itself: %v", err)
	}
	if err := member.renewSelf(); !errors.Is(err, ErrNoRoot) {
		t.Errorf("a member renewed itself: %v", err)
	}
	if _, err := member.Self(); !errors.Is(err, ErrExpired) || !strings.Contains(err.Error(), "weft invite") {
		t.Errorf("an expired member is told: %v", err)
	}
}

func TestAMemberOfOneMeshDoesNotAdoptAnother(t *testing.T) {
	c := &clock{someTime}
	a, _, _ := newMesh(t, c)
	b, _, _ := newMesh(t, c)
	for _, m := range []*Mesh{a, b} {
		if err := m.Found(""); err != nil {
			t.Fatal(err)
		}
	}
	credential, err := a.Issue(b.self, Compute)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Adopt(a.ID(), "", credential); !errors.Is(err, ErrAlreadyMember) {
		t.Errorf("adopt: %v", err)
	}
	if err := b.Adopt(a.ID(), "", credential[1:]); !errors.Is(err, ErrMalformed) {
		t.Errorf("adopt a cut one: %v", err)
	}
	if err := b.Adopt(b.ID(), "", credential); !errors.Is(err, ErrOtherMesh) {
		t.Errorf("adopt a foreign one: %v", err)
	}
	if err := b.Leave(); err != nil || b.Joined() {
		t.Fatal(err)
	}
	if err := b.Adopt(a.ID(), "", credential); err != nil || b.HoldsRoot() {
		t.Errorf("adopt after leaving: %v", err)
	}
	if err := b.Leave(); err != nil {
		t.Fatal(err)
	}
	if err := b.Leave(); err != nil {
		t.Errorf("leaving twice: %v", err)
	}
}

func TestDamagedStateIsAnErrorThatNamesTheFile(t *testing.T) {
	c := &clock{someTime}
	m, dir, key := newMesh(t, c)
	if err := m.Found(""); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, meshFile))
	if err != nil {
		t.Fatal(err)
	}
	other, _, _ := newMesh(t, c)
	if err := other.Found(""); err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(other.path(meshFile))
	if err != nil {
		t.Fatal(err)
	}
	open := func() error { _, err := Open(Config{Dir: dir, Identity: key, Now: c.now}); return err }
	for name, text := range map[string]string{
		"not json": "{", "empty": "{}", "version": strings.Replace(string(good), `"version": 1`, `"version": 2`, 1),
		"id": strings.Replace(string(good), m.ID().String(), "zz", 1), "credential": strings.Replace(string(good), `"credential": "`, `"credential": "!`, 1),
		"short credential": strings.Replace(string(good), `"credential": "`, `"credential": "AAAA`, 1), "another node's": string(foreign),
		"too long": strings.Repeat(" ", maxMeshFile+1),
	} {
		if err := os.WriteFile(filepath.Join(dir, meshFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(); err == nil || !strings.Contains(err.Error(), meshFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, meshFile), good, 0o600); err != nil {
		t.Fatal(err)
	}
	otherRoot, err := os.ReadFile(other.rootFile())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"damaged root": "xx", "another root": string(otherRoot)} {
		if err := os.WriteFile(m.rootFile(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(); err == nil || !strings.Contains(err.Error(), "root-") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Chmod(m.rootFile(), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("exposed root key: %v", err)
	}
}

func TestOpenNeedsAnEd25519Identity(t *testing.T) {
	key, _, err := crypto.GenerateSecp256k1Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []crypto.PrivKey{nil, key} {
		if _, err := Open(Config{Dir: t.TempDir(), Identity: k}); err == nil {
			t.Error("opened")
		}
	}
}

func TestForeignNamesAreMadeFitForDisplay(t *testing.T) {
	for in, want := range map[string]string{
		"box": "box", " a\x00b\x1bc\n ": "abc", "\xff\xfe": "", strings.Repeat("é", 100): strings.Repeat("é", 32), "a\u202eb": "ab",
	} {
		if got := CleanName(in); got != want {
			t.Errorf("%q became %q", in, got)
		}
	}
}
