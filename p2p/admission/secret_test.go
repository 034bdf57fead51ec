package admission_test

import (
	"errors"
	"testing"

	"github.com/weft-mesh/weft/p2p/admission"
)

func TestOnlyMembersKnowTheSecretAndItIsTheSameForAll(t *testing.T) {
	c := atNow()
	a, b, other := found(t, c), start(t, c), found(t, c)
	want, ok := a.mesh.Secret()
	if !ok {
		t.Fatal("the founder has no secret")
	}
	if err := b.mesh.LearnSecret(want[:]); !errors.Is(err, admission.ErrNoMesh) {
		t.Errorf("without a mesh: %v", err)
	}
	if err := b.join(t, a.invite(t, admission.Compute, 1)); err != nil {
		t.Fatal(err)
	}
	if _, ok := b.mesh.Secret(); ok {
		t.Error("b has a secret that nobody told it")
	}
	wrong, _ := other.mesh.Secret()
	for name, s := range map[string][]byte{"of another mesh": wrong[:], "short": want[:63], "changed": append([]byte{want[0] ^ 1}, want[1:]...), "none": nil} {
		if err := b.mesh.LearnSecret(s); !errors.Is(err, admission.ErrSecret) {
			t.Errorf("a secret %s: %v", name, err)
		}
	}
	if err := b.mesh.LearnSecret(want[:]); err != nil {
		t.Fatal(err)
	}
	if got, ok := b.mesh.Secret(); !ok || got != want {
		t.Error("b has another secret than it was told")
	}
	if err := b.mesh.Leave(); err != nil {
		t.Fatal(err)
	}
	if _, ok := b.mesh.Secret(); ok {
		t.Error("the secret stays after leaving")
	}
}
