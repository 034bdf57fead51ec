package admission_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/weft-mesh/weft/p2p/admission"
)

// asking is a node that asks to be let in.
type asking struct {
	*node
	shown  chan admission.Waiting
	result chan error
	found  chan peer.AddrInfo
}

// ask starts a node that asks at the given members.
func ask(t *testing.T, c *clock, name string, change func(*admission.AskOptions), at ...*node) *asking {
	t.Helper()
	a := &asking{node: start(t, c), shown: make(chan admission.Waiting, 64), result: make(chan error, 1), found: make(chan peer.AddrInfo, 8)}
	for _, n := range at {
		a.found <- peer.AddrInfo{ID: n.ID(), Addrs: n.DialAddrs()}
	}
	o := admission.AskOptions{
		Candidates: a.found, Look: 100 * time.Millisecond, Name: name, Versions: admission.Versions{Wire: 1, Contract: 1},
		Show: func(w admission.Waiting) { a.shown <- w },
	}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, err := admission.Ask(ctx, a.Host, a.mesh, o)
		a.result <- err
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return a
}

// code waits until the node shows a code at so many doors.
func (a *asking) code(t *testing.T, doors int) admission.Waiting {
	t.Helper()
	for {
		select {
		case w := <-a.shown:
			n := 0
			for _, m := range w.Meshes {
				n += m.Doors
			}
			if n == doors {
				return w
			}
		case err := <-a.result:
			if a.result <- err; len(a.shown) == 0 { // what was shown before it ended comes first
				t.Fatalf("asking ended: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no code is shown")
		}
	}
}

func (a *asking) ended(t *testing.T) error {
	t.Helper()
	select {
	case err := <-a.result:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("asking does not end")
		return nil
	}
}

// other is a code with the same slot and another secret, as a person would
// have to type it: with a good last character.
func other(t *testing.T, c admission.Code) admission.Code {
	t.Helper()
	for {
		o := admission.NewCode()
		text := c.Slot() + strings.ReplaceAll(o.String(), "-", "")[2:7]
		for _, r := range "0123456789ABCDEFGHJKMNPQRSTVWXYZ" {
			if got, err := admission.ParseCode(text + string(r)); err == nil && got != c {
				return got
			}
		}
	}
}

func TestATypedCodeMakesAMember(t *testing.T) {
	c := atNow()
	a := found(t, c)
	b := ask(t, c, "b", nil, a)
	w := b.code(t, 1)
	if len(w.Meshes) != 1 || w.Meshes[0].Name != "home" || w.Meshes[0].ID != a.mesh.ID() || w.Note != "" {
		t.Errorf("shown %+v", w)
	}
	got, err := a.service.Approve(t.Context(), w.Code, admission.Compute)
	if err != nil || got.Peer != b.ID() || got.Name != "b" || got.Role != admission.Compute {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := b.ended(t); err != nil {
		t.Fatal(err)
	}
	self, err := b.mesh.Self()
	if err != nil || self.Role != admission.Compute || b.mesh.Name() != "home" || b.mesh.ID() != a.mesh.ID() {
		t.Errorf("self %+v %v", self, err)
	}
	if m, ok := a.Member(b.ID()); !ok || m.Role != admission.Compute {
		t.Errorf("the approver sees %+v %v", m, ok)
	}
	if _, err := a.service.Approve(t.Context(), w.Code, admission.Compute); !errors.Is(err, admission.ErrCodeSpent) {
		t.Errorf("a second time: %v", err)
	}
}

// enlisted is a member of founder's mesh that is connected to it.
func enlisted(t *testing.T, c *clock, founder *node, role admission.Role) *node {
	t.Helper()
	n := start(t, c)
	if err := n.join(t, founder.invite(t, role, 1)); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestACodeMayBeTypedOnAnyMember has the machine wait at a, and types its code
// at a plain member that is connected to a and may not sign.
func TestACodeMayBeTypedOnAnyMember(t *testing.T) {
	c := atNow()
	a := found(t, c)
	m := enlisted(t, c, a, admission.Compute)
	b := ask(t, c, "b", nil, a)
	w := b.code(t, 1)
	if _, err := m.service.Approve(t.Context(), w.Code, admission.Admitter); !errors.Is(err, admission.ErrNoRoot) {
		t.Errorf("a plain member appoints: %v", err)
	}
	got, err := m.service.Approve(t.Context(), w.Code, admission.Client)
	if err != nil || got.Peer != b.ID() || got.Name != "b" {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := b.ended(t); err != nil {
		t.Fatal(err)
	}
	if self, err := b.mesh.Self(); err != nil || self.Role != admission.Client {
		t.Errorf("self %+v %v", self, err)
	}
}

// TestAPlainMemberNeedsAnAdmitter waits at the plain member itself.
func TestAPlainMemberNeedsAnAdmitter(t *testing.T) {
	c := atNow()
	a := found(t, c)
	m, client := enlisted(t, c, a, admission.Compute), enlisted(t, c, a, admission.Client)
	b := ask(t, c, "b", nil, m)
	w := b.code(t, 1)
	if _, err := client.service.Approve(t.Context(), w.Code, admission.Compute); !errors.Is(err, admission.ErrNotPermitted) {
		t.Errorf("a client lets somebody in: %v", err)
	}
	if _, err := m.service.Approve(t.Context(), w.Code, admission.Compute); err != nil {
		t.Fatal(err)
	}
	if err := b.ended(t); err != nil {
		t.Fatal(err)
	}
	second := ask(t, c, "second", nil, m)
	w = second.code(t, 1)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	waitGone(t, m, a.ID())
	if _, err := m.service.Approve(t.Context(), w.Code, admission.Compute); !errors.Is(err, admission.ErrNotAdmitter) {
		t.Errorf("without an admitter: %v", err)
	}
}

func TestAWrongCodeIsSpentAndAnotherIsShown(t *testing.T) {
	c := atNow()
	a := found(t, c)
	b := ask(t, c, "b", nil, a)
	for i := range 3 {
		w := b.code(t, 1)
		if (w.Note == "") != (i == 0) || i > 0 && !strings.Contains(w.Note, "home") {
			t.Errorf("code %d has the note %q", i, w.Note)
		}
		wrong := other(t, w.Code)
		if _, err := a.service.Approve(t.Context(), wrong, admission.Compute); !errors.Is(err, admission.ErrWrongCode) {
			t.Fatalf("a wrong code: %v", err)
		}
		if _, err := a.service.Approve(t.Context(), w.Code, admission.Compute); !errors.Is(err, admission.ErrCodeSpent) && !errors.Is(err, admission.ErrNobodyWaits) {
			t.Fatalf("the right code after a wrong one: %v", err)
		}
	}
	if err := b.ended(t); !errors.Is(err, admission.ErrNotLetIn) || b.mesh.Joined() {
		t.Errorf("in the end: %v", err)
	}
}

func TestALateCodeSaysSoOnBothSides(t *testing.T) {
	c := atNow()
	a := found(t, c)
	b := ask(t, c, "b", func(o *admission.AskOptions) { o.Life = 50 * time.Millisecond }, a)
	w := b.code(t, 1)
	if err := b.ended(t); !errors.Is(err, admission.ErrNotLetIn) || !strings.Contains(err.Error(), "expired") {
		t.Errorf("the machine: %v", err)
	}
	if _, err := a.service.Approve(t.Context(), w.Code, admission.Compute); !errors.Is(err, admission.ErrNobodyWaits) {
		t.Errorf("the member: %v", err)
	}
}

func TestThreeMachinesMayWaitAtOnce(t *testing.T) {
	c := atNow()
	a := found(t, c)
	var all []*asking
	var codes []admission.Code
	for range 3 {
		b := ask(t, c, "b", nil, a)
		all, codes = append(all, b), append(codes, b.code(t, 1).Code)
	}
	if err := ask(t, c, "fourth", nil, a).ended(t); !errors.Is(err, admission.ErrPorchFull) {
		t.Errorf("the fourth: %v", err)
	}
	for i, b := range all {
		if _, err := a.service.Approve(t.Context(), codes[i], admission.Compute); err != nil && !errors.Is(err, admission.ErrAmbiguousCode) {
			t.Fatal(err)
		} else if err == nil {
			if err := b.ended(t); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestAMachineWithNobodyInSightIsTold(t *testing.T) {
	c := atNow()
	if err := ask(t, c, "b", nil).ended(t); !errors.Is(err, admission.ErrNoMeshFound) {
		t.Errorf("nobody: %v", err)
	}
	if err := ask(t, c, "b", nil, start(t, c)).ended(t); !errors.Is(err, admission.ErrNoMeshFound) {
		t.Errorf("a machine without a mesh: %v", err)
	}
	a := found(t, c)
	err := ask(t, c, "b", func(o *admission.AskOptions) { o.Want = "office" }, a).ended(t)
	if !errors.Is(err, admission.ErrNoMeshFound) || !strings.Contains(err.Error(), "home ("+a.mesh.ID().Short()+")") {
		t.Errorf("another name: %v", err)
	}
	b := ask(t, c, "b", func(o *admission.AskOptions) { o.Want = a.mesh.ID().Short() }, a)
	b.code(t, 1)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestARogueMeshOfTheSameName waits at two meshes of one name; the code lets
// the machine into the one where it was typed, whatever the other does.
func TestARogueMeshOfTheSameName(t *testing.T) {
	c := atNow()
	a, rogue := found(t, c), found(t, c)
	b := ask(t, c, "b", nil, a, rogue)
	w := b.code(t, 2)
	if len(w.Meshes) != 2 || w.Meshes[0].ID == w.Meshes[1].ID {
		t.Errorf("shown %+v", w.Meshes)
	}
	if _, err := rogue.service.Approve(t.Context(), other(t, w.Code), admission.Compute); !errors.Is(err, admission.ErrWrongCode) {
		t.Fatalf("the rogue guesses: %v", err)
	}
	w = b.code(t, 2)
	if !strings.Contains(w.Note, rogue.mesh.ID().Short()) {
		t.Errorf("the note %q does not name the rogue", w.Note)
	}
	if _, err := a.service.Approve(t.Context(), w.Code, admission.Compute); err != nil {
		t.Fatal(err)
	}
	if err := b.ended(t); err != nil || b.mesh.ID() != a.mesh.ID() {
		t.Errorf("%v, in mesh %s", err, b.mesh.ID().Short())
	}
}

func TestAMemberDoesNotAsk(t *testing.T) {
	c := atNow()
	a := found(t, c)
	_, err := admission.Ask(t.Context(), a.Host, a.mesh, admission.AskOptions{Show: func(admission.Waiting) {}})
	if !errors.Is(err, admission.ErrAlreadyMember) {
		t.Errorf("%v", err)
	}
}

func TestAWrongClockIsNamed(t *testing.T) {
	c, late := atNow(), atNow()
	a := found(t, c)
	late.pass(-3 * time.Hour)
	err := ask(t, late, "b", nil, a).ended(t)
	if !errors.Is(err, admission.ErrNotYetValid) || !strings.Contains(err.Error(), "clock") {
		t.Errorf("%v", err)
	}
	skewed := atNow()
	skewed.pass(-50 * time.Minute)
	b := ask(t, skewed, "b", nil, a)
	if _, err := a.service.Approve(t.Context(), b.code(t, 1).Code, admission.Compute); err != nil {
		t.Errorf("less than an hour: %v", err)
	}
	if err := b.ended(t); err != nil {
		t.Errorf("less than an hour: %v", err)
	}
}
