package admission

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func book(t *testing.T) (*Invitations, string) {
	t.Helper()
	dir := t.TempDir()
	v, err := OpenInvitations(dir)
	if err != nil {
		t.Fatal(err)
	}
	return v, dir
}

func TestAnInvitationCountsItsUsesAcrossRestarts(t *testing.T) {
	v, dir := book(t)
	id, secret, err := v.Add(Client, 2, someTime, someTime.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := newParty(t).id, newParty(t).id, newParty(t).id
	for _, who := range []struct {
		who  party
		want error
	}{{party{id: a}, nil}, {party{id: a}, nil}, {party{id: b}, nil}, {party{id: c}, ErrInvitationUsed}, {party{id: a}, nil}} {
		v, err = OpenInvitations(dir) // a restart before each
		if err != nil {
			t.Fatal(err)
		}
		role, err := v.Redeem(id[:], secret[:], who.who.id, someTime)
		if !errors.Is(err, who.want) || err == nil && role != Client {
			t.Errorf("got %v, %v; want %v", role, err, who.want)
		}
	}
}

func TestWrongUnknownAndExpiredInvitationsDiffer(t *testing.T) {
	v, _ := book(t)
	id, secret, err := v.Add(Compute, 1, someTime, someTime.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	who := newParty(t).id
	wrong := secret
	wrong[3]++
	for name, c := range map[string]struct {
		id, secret []byte
		now        time.Time
		want       error
	}{
		"unknown id":            {[]byte("x"), secret[:], someTime, ErrInvitationUnknown},
		"wrong secret":          {id[:], wrong[:], someTime, ErrInvitationUnknown},
		"no secret":             {id[:], nil, someTime, ErrInvitationUnknown},
		"expired":               {id[:], secret[:], someTime.Add(2 * time.Hour), ErrInvitationExpired},
		"expired, wrong secret": {id[:], wrong[:], someTime.Add(2 * time.Hour), ErrInvitationUnknown},
	} {
		if _, err := v.Redeem(c.id, c.secret, who, c.now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := v.Redeem(id[:], secret[:], who, someTime); err != nil {
		t.Errorf("after the failures: %v", err)
	}
}

func TestConcurrentJoinersNeverExceedTheUses(t *testing.T) {
	v, _ := book(t)
	id, secret, err := v.Add(Compute, 3, someTime, someTime.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	var in atomic.Int32
	var wg sync.WaitGroup
	for range 12 {
		who := newParty(t).id
		wg.Go(func() {
			if _, err := v.Redeem(id[:], secret[:], who, someTime); err == nil {
				in.Add(1)
			}
		})
	}
	wg.Wait()
	if in.Load() != 3 {
		t.Errorf("%d joined with 3 uses", in.Load())
	}
}

func TestAUseThatCannotBeStoredIsNotGranted(t *testing.T) {
	v, dir := book(t)
	id, secret, err := v.Add(Compute, 1, someTime, someTime.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Redeem(id[:], secret[:], newParty(t).id, someTime); err == nil {
		t.Fatal("granted without a record on disk")
	}
	if got := v.List(); len(got[0].UsedBy) != 0 {
		t.Errorf("the failed use is counted: %+v", got)
	}
}

func TestTheFileHoldsNoSecret(t *testing.T) {
	v, dir := book(t)
	_, secret, err := v.Add(Compute, 1, someTime, someTime.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, invitationFile))
	if err != nil {
		t.Fatal(err)
	}
	token := Token{Secret: secret, Inviter: newParty(t).id}
	if strings.Contains(string(b), string(secret[:])) || strings.Contains(string(b), token.String()) {
		t.Error("the secret is on disk")
	}
}

func TestInvitationsAreBounded(t *testing.T) {
	v, _ := book(t)
	for name, c := range map[string]struct {
		uses    int
		expires time.Time
	}{
		"no use": {0, someTime.Add(time.Hour)}, "many uses": {maxUses + 1, someTime.Add(time.Hour)},
		"expired": {1, someTime}, "for ever": {1, someTime.Add(maxInviteLife + time.Hour)},
	} {
		if _, _, err := v.Add(Compute, c.uses, someTime, c.expires); err == nil {
			t.Errorf("%s: issued", name)
		}
	}
	v.book = make([]Invitation, maxInvitations)
	for i := range v.book {
		v.book[i].Expires = someTime
	}
	if _, _, err := v.Add(Compute, 1, someTime, someTime.Add(time.Hour)); err == nil {
		t.Error("one too many was issued")
	}
	later := someTime.Add(rememberFor + time.Hour)
	if _, _, err := v.Add(Compute, 1, later, later.Add(time.Hour)); err != nil || len(v.List()) != 1 {
		t.Errorf("old ones were not dropped: %d, %v", len(v.List()), err)
	}
	if err := v.Clear(); err != nil || len(v.List()) != 0 {
		t.Errorf("clear: %v", err)
	}
}

func TestADamagedBookIsAnErrorThatNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, invitationFile)
	for _, text := range []string{"{", "[" + strings.Repeat("{},", maxInvitations) + "{}]"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenInvitations(dir); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v", err)
		}
	}
}
