package host_test

import (
	"bytes"
	"testing"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/p2p/host"
)

// TestAMemberTellsWhereItSeesOthers needs no router: on loopback a node is seen
// where it listens.
func TestAMemberTellsWhereItSeesOthers(t *testing.T) {
	a := founder(t)
	b := start(t)
	if at := b.LookOutside(ctx5(t)); at != nil {
		t.Errorf("seen at %v by nobody", at)
	}
	b.enlist(t, a, admission.Compute)
	if err := b.Connect(ctx5(t), a.info()); err != nil {
		t.Fatal(err)
	}
	at := b.LookOutside(ctx5(t))
	if at == nil {
		t.Fatal("not told")
	}
	for _, own := range b.DialAddrs() {
		if own.Equal(at) {
			return
		}
	}
	t.Errorf("seen at %v, listens at %v", at, b.DialAddrs())
}

func TestOnlyPlacesThatQUICReachesAreTaken(t *testing.T) {
	for text, good := range map[string]bool{
		"/ip4/192.0.2.7/udp/4710/quic-v1":                     true,
		"/ip6/2001:db8::7/udp/4710/quic-v1":                   true,
		"/ip4/192.0.2.7/tcp/4710":                             false,
		"/ip4/192.0.2.7/udp/4710":                             false,
		"/ip4/192.0.2.7/udp/0/quic-v1":                        false,
		"/ip4/0.0.0.0/udp/4710/quic-v1":                       false,
		"/ip4/224.0.0.251/udp/5353/quic-v1":                   false,
		"/dns4/example.org/udp/4710/quic-v1":                  false,
		"/ip4/192.0.2.7/udp/4710/quic-v1/webtransport":        false,
		"/ip4/192.0.2.7/udp/4710/quic-v1/p2p-circuit":         false,
		"/ip4/192.0.2.7/tcp/1/ip4/192.0.2.8/udp/4710/quic-v1": false,
	} {
		if a, err := host.ReadSeen(bytes.NewReader(ma.StringCast(text).Bytes())); (err == nil) != good {
			t.Errorf("%s: %v, %v", text, a, err)
		}
	}
	if _, err := host.ReadSeen(bytes.NewReader(make([]byte, 1000))); err == nil {
		t.Error("a long answer was taken")
	}
}

func FuzzReadSeen(f *testing.F) {
	f.Add(ma.StringCast("/ip4/192.0.2.7/udp/4710/quic-v1").Bytes())
	f.Add(ma.StringCast("/ip4/192.0.2.7/tcp/4710").Bytes())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := host.ReadSeen(bytes.NewReader(b)); err == nil && len(a) != 3 {
			t.Errorf("%v was taken", a)
		}
	})
}
