package admission

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

// quickly is a cost of scrypt that tests can pay.
const quickly = 6

const passphrase = "correct horse battery"

func backupOf(t *testing.T, m *Mesh) []byte {
	t.Helper()
	file, err := m.backup(passphrase, quickly)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestALostFounderIsReplacedFromItsBackup(t *testing.T) {
	v := newTrio(t)
	file := backupOf(t, v.founder)
	if bytes.Contains(file, v.founder.root.Seed()) || !strings.HasPrefix(string(file), "-----BEGIN AGE ENCRYPTED FILE-----") {
		t.Errorf("the file is %.60s", file)
	}
	b, err := OpenBackup(file, passphrase)
	if err != nil || b.Mesh != v.founder.ID() || b.Name != "home" {
		t.Fatalf("%+v, %v", b, err)
	}
	// On a member, which becomes what the founder was and stays itself.
	if err := v.member.Restore(b); err != nil {
		t.Fatal(err)
	}
	if self, err := v.member.Self(); err != nil || self.Role != Admitter || !v.member.HoldsRoot() {
		t.Errorf("a member afterwards: %+v, %v", self, err)
	}
	other, _, _ := newMesh(t, v.c)
	v.enlist(t, v.member, other, Admitter)
	if err := v.verify(v.admitter, other); err != nil {
		t.Errorf("whom it appoints: %v", err)
	}
	if err := v.member.Restore(b); err != nil { // twice does no harm
		t.Errorf("twice: %v", err)
	}
	// In a fresh home.
	fresh, _, _ := newMesh(t, v.c)
	if err := fresh.Restore(b); err != nil {
		t.Fatal(err)
	}
	again, err := Open(fresh.cfg)
	if err != nil || !again.HoldsRoot() || again.ID() != b.Mesh || again.Name() != "home" {
		t.Errorf("a fresh home, restarted: %v", err)
	}
	if info, err := os.Stat(fresh.rootFile()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info, err)
	}
	// In a home of another mesh.
	elsewhere, _, _ := newMesh(t, v.c)
	if err := elsewhere.Found("other"); err != nil {
		t.Fatal(err)
	}
	id := elsewhere.ID()
	if err := elsewhere.Restore(b); !errors.Is(err, ErrAlreadyMember) || elsewhere.ID() != id {
		t.Errorf("in another mesh: %v", err)
	}
}

func TestAnotherPassphraseOpensNothing(t *testing.T) {
	v := newTrio(t)
	file := backupOf(t, v.founder)
	if _, err := OpenBackup(file, "wrong horse battery"); !errors.Is(err, ErrPassphrase) {
		t.Errorf("%v", err)
	}
	for name, m := range map[string]*Mesh{"an admitter without the root": v.admitter, "a member": v.member} {
		if _, err := m.backup(passphrase, quickly); !errors.Is(err, ErrNoRoot) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := first(newMesh(t, v.c)).backup(passphrase, quickly); !errors.Is(err, ErrNoMesh) {
		t.Errorf("without a mesh: %v", err)
	}
	if _, err := v.founder.backup("short", quickly); err == nil {
		t.Error("a short passphrase was taken")
	}
}

func TestADamagedBackupIsToldFromAWrongPassphrase(t *testing.T) {
	v := newTrio(t)
	file := backupOf(t, v.founder)
	cut := file[:len(file)/2]
	flipped := bytes.Clone(file)
	i := bytes.LastIndexByte(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(flipped), []byte("-----END AGE ENCRYPTED FILE-----"))), '\n') + 5
	flipped[i] = map[bool]byte{true: 'B', false: 'A'}[flipped[i] == 'A']
	var foreign bytes.Buffer
	to, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	to.SetWorkFactor(quickly)
	w, err := age.Encrypt(&foreign, to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(`{"kind":"shopping list"}`)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "text": []byte("hello"), "cut": cut, "changed": flipped, "something else": foreign.Bytes(), "too long": make([]byte, maxBackup+1),
	} {
		if _, err := OpenBackup(b, passphrase); !errors.Is(err, ErrNoBackup) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"no key": `{"kind":"weft root key","version":1}`, "newer": `{"kind":"weft root key","version":2}`,
		"another mesh's key": `{"kind":"weft root key","version":1,"mesh":"00","seed":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`,
	} {
		if _, err := parseBackup([]byte(text)); !errors.Is(err, ErrNoBackup) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestARevokedNodeIsNotMadeAnAdmitterAtOnce(t *testing.T) {
	v := newTrio(t)
	b, err := OpenBackup(backupOf(t, v.founder), passphrase)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.founder.Revoke(v.member.self, Compute, time.Time{}); err != nil {
		t.Fatal(err)
	}
	tell(t, v.founder, v.member)
	if err := v.member.Restore(b); !errors.Is(err, ErrRevoked) {
		t.Errorf("%v", err)
	}
}

func FuzzParseBackup(f *testing.F) {
	f.Add([]byte(`{"kind":"weft root key","version":1,"mesh":"00","seed":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseBackup(b)
		if err == nil && MeshID(got.root.Public().(ed25519.PublicKey)) != got.Mesh {
			t.Fatal("a key of another mesh")
		}
	})
}

func TestAWithdrawnInvitationLetsNobodyIn(t *testing.T) {
	v, dir := book(t)
	id, secret, err := v.Add(Compute, 3, someTime, someTime.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	other, otherSecret, err := v.Add(Client, 1, someTime, someTime.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Redeem(id[:], secret[:], newParty(t).id, someTime); err != nil {
		t.Fatal(err)
	}
	name := v.List()[0].ID
	for _, wrong := range []string{"", "zz", name + "0"} {
		if _, err := v.Withdraw(wrong); !errors.Is(err, ErrInvitationUnknown) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	got, err := v.Withdraw(strings.ToUpper(name[:8]))
	if err != nil || got.ID != name || len(got.UsedBy) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if v, err = OpenInvitations(dir); err != nil { // a restart
		t.Fatal(err)
	}
	if _, err := v.Redeem(id[:], secret[:], newParty(t).id, someTime); !errors.Is(err, ErrInvitationUnknown) {
		t.Errorf("redeemed: %v", err)
	}
	if _, err := v.Redeem(other[:], otherSecret[:], newParty(t).id, someTime); err != nil {
		t.Errorf("the other one: %v", err)
	}
}
