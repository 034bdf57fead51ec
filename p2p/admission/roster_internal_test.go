package admission

import (
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

func somePeer(t testing.TB) peer.ID {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestTheRosterIsBoundedAndWrittenOnlyWhenItChanges(t *testing.T) {
	r, err := OpenRoster(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	first := Known{Peer: somePeer(t), Seen: someTime}
	many := []Known{first}
	for i := range maxRoster {
		many = append(many, Known{Peer: somePeer(t), Seen: someTime.Add(time.Duration(i+1) * time.Second)})
	}
	if err := r.Note(many); err != nil {
		t.Fatal(err)
	}
	if list := r.List(); len(list) != maxRoster {
		t.Errorf("%d are remembered", len(list))
	}
	for _, k := range r.List() {
		if k.Peer == first.Peer {
			t.Error("the one that was seen longest ago is kept")
		}
	}
	if err := os.Remove(r.path); err != nil {
		t.Fatal(err)
	}
	again := many[1]
	again.Seen = again.Seen.Add(time.Minute)
	if err := r.Note([]Known{again}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.path); err == nil {
		t.Error("nothing has changed and the file was written")
	}
}

func TestADamagedRosterIsEmpty(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, rosterFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := OpenRoster(dir)
	if err == nil || r == nil || len(r.List()) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func FuzzDecodeRoster(f *testing.F) {
	good, err := json.Marshal([]Known{{Peer: somePeer(f), Name: "x", Credential: make([]byte, CertificateSize), Seen: someTime}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`[{"peer":"x"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := decodeRoster(b)
		if err != nil {
			return
		}
		for i, k := range list {
			if len(k.Name) > maxNameLen || len(k.Credential) > maxChain*CertificateSize || i > 0 && list[i-1].Peer >= k.Peer {
				t.Fatalf("%+v", k)
			}
		}
	})
}
