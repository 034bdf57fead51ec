package node_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node/api"
)

// TestMembersWhoseClocksAreAnHourApartWorkTogether runs a mesh whose clocks are
// wrong by almost as much as certificates tolerate: it joins, sees itself fresh,
// splits a model, says the same bytes, and takes back a machine whose clock was
// put right.
func TestMembersWhoseClocksAreAnHourApartWorkTogether(t *testing.T) {
	const most = 59 * time.Minute
	by := func(d time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(d) } }
	home := t.TempDir()
	founder := start(t, api.Config{Name: "right", Memory: 1 << 30})
	token := invite(t, founder, api.InviteRequest{Uses: 2, Expires: 2 * time.Hour})
	behind := start(t, api.Config{Name: "behind", Memory: -1, Join: token, Now: by(-most)})
	ahead, err := tryStart(t, api.Config{Name: "ahead", Memory: 1 << 30, Home: home, Join: token, Now: by(most)})
	if err != nil {
		t.Fatal(err)
	}
	all := []api.Running{founder, ahead, behind}
	see(t, 3, all...)
	m := add(t, ahead, api.AddRequest{Path: tinyModels + "llama-Q4_0.gguf", Name: "m", Context: 128})
	var want api.Reply
	for i, r := range all {
		seeModel(t, r, m.Name)
		got, err := generate(t, r, greedy(m.Name, sequence(3, 20), 12))
		if err != nil {
			t.Fatalf("node %d: %v", i, err)
		}
		if i == 0 {
			want = got
		}
		if diff := cmp.Diff(bytesIn(want), bytesIn(got)); diff != "" {
			t.Errorf("node %d (-right +skewed):\n%s", i, diff)
		}
		fresh(t, r, i)
	}
	if err := ahead.Close(); err != nil {
		t.Fatal(err)
	}
	again := start(t, api.Config{Name: "again", Memory: 1 << 30, Home: home})
	all[1] = again
	see(t, 3, all...)
	eventually(t, 15*time.Second, func() error {
		ps, err := founder.Node().Peers(t.Context())
		if err != nil {
			return err
		}
		for _, p := range ps {
			if p.Name == "again" && !p.Stale {
				return nil
			}
		}
		return fmt.Errorf("the record with the right clock is not known: %+v", ps)
	})
	if got, err := generate(t, again, greedy(m.Name, sequence(3, 20), 12)); err != nil || cmp.Diff(bytesIn(want), bytesIn(got)) != "" {
		t.Errorf("after its clock was put right: %v", err)
	}
}

// fresh holds that no record looks old or new by another machine's clock.
func fresh(t *testing.T, r api.Running, i int) {
	t.Helper()
	ps, err := r.Node().Peers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if p.Stale || p.Age > time.Minute || p.RTTAge > time.Minute {
			t.Errorf("node %d takes %s for stale: %v, its age %v, of the round trip %v", i, p.Name, p.Stale, p.Age, p.RTTAge)
		}
	}
}
