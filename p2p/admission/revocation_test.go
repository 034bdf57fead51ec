package admission

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"
)

// trio is a founder, an admitter and a plain member with a certificate of the
// admitter, on one clock.
type trio struct {
	c                         *clock
	founder, admitter, member *Mesh
}

func newTrio(t *testing.T) *trio {
	t.Helper()
	c := &clock{someTime}
	v := &trio{c: c}
	v.founder, _, _ = newMesh(t, c)
	v.admitter, _, _ = newMesh(t, c)
	v.member, _, _ = newMesh(t, c)
	if err := v.founder.Found("home"); err != nil {
		t.Fatal(err)
	}
	v.enlist(t, v.founder, v.admitter, Admitter)
	v.enlist(t, v.admitter, v.member, Compute)
	return v
}

func (v *trio) enlist(t *testing.T, by, who *Mesh, role Role) {
	t.Helper()
	credential, err := by.Issue(who.self, role)
	if err != nil {
		t.Fatal(err)
	}
	if err := who.Adopt(by.ID(), "home", credential); err != nil {
		t.Fatal(err)
	}
}

func (v *trio) verify(by, who *Mesh) error {
	_, err := by.Verify(who.self, who.Credential())
	return err
}

// tell brings all that one knows to another.
func tell(t *testing.T, from, to *Mesh) bool {
	t.Helper()
	changed, err := to.TakeRevocations(from.Revocations())
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func TestARevokedMemberIsOneNoMoreWhereverItIsToldAndAfterARestart(t *testing.T) {
	v := newTrio(t)
	v.c.at = someTime.Add(time.Hour)
	if _, err := v.admitter.Revoke(v.member.self, Compute, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := v.verify(v.admitter, v.member); !errors.Is(err, ErrRevoked) || !strings.Contains(err.Error(), "admitter "+v.admitter.self.String()) {
		t.Errorf("where it was revoked: %v", err)
	}
	if err := v.verify(v.founder, v.member); err != nil {
		t.Errorf("where nobody knows: %v", err)
	}
	if !tell(t, v.admitter, v.founder) || tell(t, v.admitter, v.founder) {
		t.Error("the news is news twice, or not at all")
	}
	if err := v.verify(v.founder, v.member); !errors.Is(err, ErrRevoked) {
		t.Errorf("where it was told: %v", err)
	}
	if !bytes.Equal(v.founder.RevocationDigest(), v.admitter.RevocationDigest()) || v.founder.RevocationDigest() == nil {
		t.Error("the same statements have two digests")
	}
	again, err := Open(v.founder.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.verify(again, v.member); !errors.Is(err, ErrRevoked) || len(again.Revoked()) != 1 {
		t.Errorf("after a restart: %v", err)
	}
	// The founder does not sign for it, and neither is its old certificate renewed.
	if _, err := v.founder.Issue(v.member.self, Compute); !errors.Is(err, ErrRevoked) {
		t.Errorf("issued anew at once: %v", err)
	}
	v.c.at = v.c.at.Add(ClockSkew + time.Second)
	credential, err := v.founder.Issue(v.member.self, Client)
	if err != nil {
		t.Fatalf("let in again later: %v", err)
	}
	if m, err := v.admitter.Verify(v.member.self, credential); err != nil || m.Role != Client {
		t.Errorf("let in again later: %+v %v", m, err)
	}
}

func TestWhoMayRevokeWhom(t *testing.T) {
	v := newTrio(t)
	second, _, _ := newMesh(t, v.c)
	v.enlist(t, v.founder, second, Admitter)
	for name, c := range map[string]struct {
		by, who *Mesh
		role    Role
		want    error
	}{
		"a plain member a member":      {v.member, v.admitter, Compute, ErrNotAdmitter},
		"a plain member an admitter":   {v.member, v.admitter, Admitter, ErrNotAdmitter},
		"an admitter an admitter":      {v.admitter, second, Admitter, ErrNoRoot},
		"an admitter the founder":      {v.admitter, v.founder, Admitter, ErrNoRoot},
		"somebody without a mesh":      {first(newMesh(t, v.c)), v.member, Compute, ErrNoMesh},
		"the founder an admitter":      {v.founder, second, Admitter, nil},
		"an admitter a plain member":   {v.admitter, v.member, Compute, nil},
		"an admitter one it forgot":    {v.admitter, first(newMesh(t, v.c)), 0, nil},
		"the founder one it never met": {v.founder, first(newMesh(t, v.c)), 0, nil},
	} {
		if _, err := c.by.Revoke(c.who.self, c.role, time.Time{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := v.founder.Revoke(v.founder.self, Admitter, time.Time{}); err == nil {
		t.Error("a node revoked itself")
	}
	if _, err := v.founder.Revoke("nonsense", Admitter, time.Time{}); err == nil {
		t.Error("nobody was revoked")
	}
	// An admitter that lies about another's role gets nowhere: its statement
	// is about plain memberships.
	r := signRevocation(v.admitter.key, v.founder.ID(), keyIn(t, v.founder.self), Compute, v.c.at, v.c.at, v.admitter.chain[0])
	if _, err := v.member.TakeRevocations([][]byte{r.Bytes()}); err != nil {
		t.Fatal(err)
	}
	if err := v.verify(v.member, v.founder); err != nil {
		t.Errorf("an admitter shut the founder out: %v", err)
	}
}

func first(m *Mesh, _ string, _ any) *Mesh { return m }

func keyIn(t *testing.T, id peer.ID) [32]byte {
	t.Helper()
	key, err := keyOf(id)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestRevokingAnAdmitterVoidsWhatItIssuesLater(t *testing.T) {
	v := newTrio(t)
	v.c.at = someTime.Add(24 * time.Hour)
	if _, err := v.founder.Revoke(v.admitter.self, Admitter, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := v.verify(v.founder, v.admitter); !errors.Is(err, ErrRevoked) {
		t.Errorf("the admitter itself: %v", err)
	}
	if err := v.verify(v.founder, v.member); err != nil {
		t.Errorf("whom it had let in before: %v", err)
	}
	// It does not know, or does not care, and goes on signing.
	v.c.at = v.c.at.Add(time.Minute)
	late, _, _ := newMesh(t, v.c)
	v.enlist(t, v.admitter, late, Compute)
	if err := v.verify(v.founder, late); !errors.Is(err, ErrRevoked) || !strings.Contains(err.Error(), "admitter") {
		t.Errorf("whom it lets in later: %v", err)
	}
	// What it says against others later is void too, and what it said before stands.
	if _, err := v.admitter.Revoke(v.member.self, Compute, time.Time{}); err != nil {
		t.Fatal(err)
	}
	tell(t, v.admitter, v.founder)
	if err := v.verify(v.founder, v.member); err != nil {
		t.Errorf("whom it revokes later: %v", err)
	}
	// Appointed again, it counts again.
	v.c.at = v.c.at.Add(2 * ClockSkew)
	v.enlist(t, v.founder, v.admitter, Admitter)
	fresh, _, _ := newMesh(t, v.c)
	v.enlist(t, v.admitter, fresh, Compute)
	if err := errors.Join(v.verify(v.founder, v.admitter), v.verify(v.founder, fresh)); err != nil {
		t.Errorf("appointed again: %v", err)
	}
	if err := v.verify(v.founder, late); !errors.Is(err, ErrRevoked) {
		t.Errorf("whom it had let in between: %v", err)
	}
}

func TestRevokingFromAnEarlierTimeVoidsMore(t *testing.T) {
	v := newTrio(t)
	v.c.at = someTime.Add(24 * time.Hour)
	if _, err := v.founder.Revoke(v.admitter.self, Admitter, someTime.Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := v.verify(v.founder, v.member); !errors.Is(err, ErrRevoked) {
		t.Errorf("whom it had let in after that time: %v", err)
	}
}

func TestForgedStatementsAreNotTaken(t *testing.T) {
	v := newTrio(t)
	id, now := v.founder.ID(), v.c.at
	subject := keyIn(t, v.member.self)
	other, _, _ := newMesh(t, v.c)
	if err := other.Found("other"); err != nil {
		t.Fatal(err)
	}
	plain := v.member.chain[0]
	for name, c := range map[string]struct {
		r    *Revocation
		want error
	}{
		"by a plain member":                   {signRevocation(v.member.key, id, subject, Compute, now, now, plain), ErrNotPermitted},
		"by a plain member as if by the root": {signRevocation(v.member.key, id, subject, Compute, now, now, nil), ErrNotPermitted},
		"by an admitter against an admitter":  {signRevocation(v.admitter.key, id, subject, Admitter, now, now, v.admitter.chain[0]), ErrNotPermitted},
		"with another's certificate":          {signRevocation(v.member.key, id, subject, Compute, now, now, v.admitter.chain[0]), ErrNotPermitted},
		"by another mesh's root":              {signRevocation(other.root, id, subject, Admitter, now, now, nil), ErrNotPermitted},
		"of another mesh":                     {signRevocation(other.root, other.ID(), subject, Admitter, now, now, nil), ErrOtherMesh},
		"from the future":                     {signRevocation(v.founder.root, id, subject, Admitter, now.Add(2*ClockSkew), now, nil), ErrNotYetValid},
		"from before its issuer was one":      {signRevocation(v.admitter.key, id, subject, Compute, now.Add(-48*time.Hour), now.Add(-48*time.Hour), v.admitter.chain[0]), ErrNotYetValid},
		"with a changed subject":              {changed(signRevocation(v.founder.root, id, subject, Admitter, now, now, nil)), ErrSignature},
	} {
		news, err := v.founder.TakeRevocations([][]byte{c.r.Bytes()})
		if news || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v", name, news, err)
		}
	}
	if err := v.verify(v.founder, v.member); err != nil {
		t.Errorf("after all of them: %v", err)
	}
	if _, err := v.founder.TakeRevocations(make([][]byte, MaxRevocations+1)); err == nil {
		t.Error("too many were taken")
	}
	// A bad one does not keep a good one out.
	good := signRevocation(v.founder.root, id, subject, Admitter, now, now, nil)
	if news, err := v.founder.TakeRevocations([][]byte{{1, 2}, good.Bytes()}); !news || err == nil {
		t.Errorf("good beside bad: %v, %v", news, err)
	}
}

func changed(r *Revocation) *Revocation { r.Subject[0] ^= 1; return r }

func TestAFloodOfStatementsIsBoundedAndKeepsTheRootsWord(t *testing.T) {
	v := newTrio(t)
	var flood [][]byte
	for i := range MaxRevocations {
		key := [32]byte{byte(i), byte(i >> 8), 1}
		flood = append(flood, signRevocation(v.admitter.key, v.founder.ID(), key, Compute, v.c.at, v.c.at, v.admitter.chain[0]).Bytes())
	}
	if _, err := v.founder.TakeRevocations(flood); err != nil {
		t.Fatal(err)
	}
	if _, err := v.founder.Revoke(v.admitter.self, Admitter, v.c.at.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := v.verify(v.founder, v.admitter); !errors.Is(err, ErrRevoked) || len(v.founder.Revocations()) > MaxRevocations {
		t.Errorf("the root's word: %v, of %d", err, len(v.founder.Revocations()))
	}
	if _, err := v.admitter.TakeRevocations(v.founder.Revocations()); err != nil {
		t.Fatal(err)
	}
	// Members' statements go when they have nothing left to void.
	v.c.at = v.c.at.Add(keepRevocation + time.Hour)
	if _, err := v.founder.Revoke(v.member.self, Compute, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if n := len(v.founder.Revocations()); n != 2 {
		t.Errorf("%d statements are kept", n)
	}
}

func TestADamagedRevocationFileStopsTheNode(t *testing.T) {
	v := newTrio(t)
	if _, err := v.founder.Revoke(v.member.self, Compute, time.Time{}); err != nil {
		t.Fatal(err)
	}
	path := v.founder.revokedFile()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"{", `{"version":2}`, `{"version":1,"statements":["!"]}`, `{"version":1,"statements":["AAAA"]}`, strings.Replace(string(good), `"AQ`, `"Ag`, 1)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(v.founder.cfg); err == nil || !strings.Contains(err.Error(), filepath.Base(path)) {
			t.Errorf("%.40s: %v", text, err)
		}
	}
}

// TestTheOrderOfTheNewsDoesNotMatter gives statements to two nodes in any
// order: they end with the same.
func TestTheOrderOfTheNewsDoesNotMatter(t *testing.T) {
	v := newTrio(t)
	second, _, _ := newMesh(t, v.c)
	v.enlist(t, v.founder, second, Admitter)
	rapid.Check(t, func(r *rapid.T) {
		var all []*Revocation
		for range rapid.IntRange(1, 8).Draw(r, "statements") {
			at := someTime.Add(time.Duration(rapid.IntRange(0, 3).Draw(r, "at")) * time.Minute)
			since := at.Add(-time.Duration(rapid.IntRange(0, 2).Draw(r, "since")) * time.Minute)
			subject := keyIn(t, []peer.ID{v.member.self, v.admitter.self, second.self}[rapid.IntRange(0, 2).Draw(r, "subject")])
			switch rapid.IntRange(0, 2).Draw(r, "issuer") {
			case 0:
				all = append(all, signRevocation(v.founder.root, v.founder.ID(), subject, Role(rapid.IntRange(1, 3).Draw(r, "role")), at, since, nil))
			case 1:
				all = append(all, signRevocation(v.admitter.key, v.founder.ID(), subject, Compute, at, since, v.admitter.chain[0]))
			case 2:
				all = append(all, signRevocation(second.key, v.founder.ID(), subject, Compute, at, since, second.chain[0]))
			}
		}
		var a, b revokedBook
		for _, s := range all {
			a.add(s)
		}
		for _, s := range rapid.Permutation(all).Draw(r, "order") {
			b.add(s)
		}
		if !slices.EqualFunc(a.encode(), b.encode(), bytes.Equal) {
			r.Fatal("two orders, two books")
		}
		// Nobody comes back by another statement.
		for _, chain := range []Chain{v.member.chain, v.admitter.chain, second.chain} {
			if (a.Check(chain) == nil) != (b.Check(chain) == nil) {
				r.Fatal("two orders, two answers")
			}
		}
	})
}

func FuzzParseRevocation(f *testing.F) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	c := sign(key, ID{1}, [32]byte{2}, Admitter, someTime, AdmitterLifetime)
	f.Add(signRevocation(key, ID{1}, [32]byte{3}, Compute, someTime, someTime, nil).Bytes())
	f.Add(signRevocation(key, ID{1}, [32]byte{3}, Compute, someTime, someTime, c).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRevocation(b)
		if err != nil {
			return
		}
		if !bytes.Equal(r.Bytes(), b) {
			t.Fatalf("%x became %x", b, r.Bytes())
		}
		_ = r.Verify(ID{1}, someTime)
	})
}
