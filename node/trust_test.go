package node_test

import (
	"testing"
	"time"

	"github.com/weft-mesh/weft/node/api"
)

func trusted(t *testing.T, r api.Running) map[string]api.Member {
	t.Helper()
	list, err := r.Node().Trusted(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]api.Member{}
	for _, m := range list {
		out[m.Name] = m
	}
	return out
}

func TestARevokedNodeIsGoneAndItsLayersGoElsewhere(t *testing.T) {
	nodes := together(t, api.Config{Name: "a", Memory: -1}, api.Config{Name: "b", Memory: 1 << 30}, api.Config{Name: "c", Memory: 1 << 30})
	a, b := nodes[0], nodes[1]
	got := trusted(t, a)
	if m := got["a"]; !m.Self || m.Role != "admitter" || m.State != "member" || m.AdmittedBy != "the root" {
		t.Errorf("a: %+v", m)
	}
	if m := got["b"]; m.Self || m.Role != "compute" || m.State != "member" || m.AdmittedBy != "a" || !m.Connected || m.Expires.Before(time.Now()) {
		t.Errorf("b: %+v", m)
	}
	for _, who := range []string{"nobody", "a"} { // unknown, itself
		if _, err := a.Node().Revoke(t.Context(), api.RevokeRequest{Peer: who}); err == nil {
			t.Errorf("%s was revoked", who)
		}
	}
	if _, err := b.Node().Revoke(t.Context(), api.RevokeRequest{Peer: "a"}); kindOf(err) != api.KindForbidden {
		t.Errorf("a plain member revokes: %v", err)
	}
	m := add(t, nodes[2], api.AddRequest{Path: tinyModels + "llama-Q4_0.gguf", Context: 128})
	seeModel(t, a, m.Name)
	begin := time.Now()
	done, err := a.Node().Revoke(t.Context(), api.RevokeRequest{Peer: "b"})
	if err != nil || done.Name != "b" || done.State != "revoked" || done.RevokedAt.IsZero() {
		t.Fatalf("%+v, %v", done, err)
	}
	see(t, 2, a, nodes[2])
	t.Logf("gone from the others' screens after %v", time.Since(begin).Round(time.Millisecond))
	if _, err := generate(t, a, greedy(m.Name, sequence(1, 20), 4)); err != nil {
		t.Errorf("a prompt afterwards: %v", err)
	}
	for _, r := range []api.Running{a, nodes[2]} {
		if m := trusted(t, r)["b"]; m.State != "revoked" || m.Connected {
			t.Errorf("b afterwards: %+v", m)
		}
	}
	// The node itself still answers its user, who sees why it is alone.
	if m := trusted(t, b)["b"]; m.State != "revoked" {
		t.Errorf("b about itself: %+v", m)
	}
	if s, err := b.Node().Status(t.Context()); err != nil || s.Role != "" {
		t.Errorf("b's status: %+v, %v", s, err)
	}
}
