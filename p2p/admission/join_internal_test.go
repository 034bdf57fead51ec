package admission

import (
	"bufio"
	"bytes"
	"fmt"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

func TestJoiningsAreCountedByNetwork(t *testing.T) {
	var l joinLimits
	l.init()
	one, two := ma.StringCast("/ip6/2001:db8::1/tcp/1"), ma.StringCast("/ip6/2001:db8::2/tcp/1")
	for i := range joinBurst {
		release, ok := l.enter([]ma.Multiaddr{one, two}[i%2])
		if !ok {
			t.Fatalf("attempt %d refused", i)
		}
		release()
	}
	if _, ok := l.enter(two); ok {
		t.Error("two addresses of one machine count apart")
	}
	var held []func()
	for i := range maxJoining {
		release, ok := l.enter(ma.StringCast(fmt.Sprintf("/ip4/10.0.0.%d/tcp/1", i+1)))
		if !ok {
			t.Fatal("another machine refused")
		}
		held = append(held, release)
	}
	if _, ok := l.enter(ma.StringCast("/ip4/10.1.0.1/tcp/1")); ok {
		t.Error("too many at once")
	}
	for _, release := range held {
		release()
	}
	for i := range 2 * maxJoinAddrs {
		if release, ok := l.enter(ma.StringCast("/ip4/10.2." + string(rune('0'+i/100)) + "." + string(rune('0'+i%10)) + "/tcp/1")); ok {
			release()
		}
	}
	if len(l.byAddr) > maxJoinAddrs {
		t.Errorf("%d addresses are watched", len(l.byAddr))
	}
	if release, ok := l.enter(ma.StringCast("/dns4/x/tcp/1")); ok {
		release()
	}
}

func FuzzReceive(f *testing.F) {
	var b bytes.Buffer
	if _, err := protodelim.MarshalTo(&b, &weftv1.JoinProof{Invitation: make([]byte, 8), Secret: make([]byte, 16), Name: "x"}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		var start weftv1.JoinStart
		var offer weftv1.JoinOffer
		var proof weftv1.JoinProof
		var result weftv1.JoinResult
		_ = receive(bufio.NewReader(bytes.NewReader(b)), &start)
		_ = receive(bufio.NewReader(bytes.NewReader(b)), &proof)
		_ = receive(bufio.NewReader(bytes.NewReader(b)), &result)
		for _, m := range []proto.Message{
			&weftv1.Knock{}, &weftv1.Porch{}, &weftv1.CodeAnswer{}, &weftv1.CodeVerdict{}, &weftv1.CodeDone{}, &weftv1.PorchQuery{},
			&weftv1.PorchEntry{}, &weftv1.Vouch{}, &weftv1.VouchAnswer{},
		} {
			_ = receive(bufio.NewReader(bytes.NewReader(b)), m)
		}
		var attempt weftv1.CodeAttempt
		if err := receive(bufio.NewReader(bytes.NewReader(b)), &attempt); err == nil {
			_, _ = memberOf(&attempt, ID{1}, someTime)
		}
		_, _ = receiveRevocations(bufio.NewReader(bytes.NewReader(b)))
		if err := receive(bufio.NewReader(bytes.NewReader(b)), &offer); err != nil {
			return
		}
		if len(offer.GetReason()) > maxJoinMessage {
			t.Fatal("a reason longer than a message")
		}
		_ = joinError(offer.GetStatus(), offer.GetReason())
	})
}
