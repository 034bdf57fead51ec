package admission_test

import (
	"bufio"
	"bytes"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/weft-mesh/weft/p2p/admission"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// stranger opens a stream of the knocking protocol without the joiner's code.
func stranger(t *testing.T, n, at *node) network.Stream {
	t.Helper()
	if err := n.Dial(t.Context(), peer.AddrInfo{ID: at.ID(), Addrs: at.DialAddrs()}); err != nil {
		t.Fatal(err)
	}
	s, err := n.OpenStranger(t.Context(), at.ID(), admission.KnockProtocol)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Reset() })
	_ = s.SetDeadline(time.Now().Add(10 * time.Second))
	return s
}

// TestAHostileKnockHarmsNothing sends what no machine would, and speaks before
// it is asked.
func TestAHostileKnockHarmsNothing(t *testing.T) {
	c := atNow()
	a := found(t, c)
	for name, send := range map[string]func(network.Stream){
		"huge length": func(s network.Stream) { _, _ = s.Write([]byte{0xff, 0xff, 0xff, 0xff, 0x7f}) },
		"garbage":     func(s network.Stream) { _, _ = s.Write([]byte{5, 0xff, 0xff, 0xff, 0xff, 0xff}) },
		"no slot":     func(s network.Stream) { _, _ = protodelim.MarshalTo(s, &weftv1.Knock{Nonce: make([]byte, 16)}) },
		"no nonce":    func(s network.Stream) { _, _ = protodelim.MarshalTo(s, &weftv1.Knock{Slot: "AA"}) },
		"out of turn": func(s network.Stream) {
			_, _ = protodelim.MarshalTo(s, &weftv1.Knock{Slot: "AA", Nonce: make([]byte, 16)})
			_, _ = s.Write(bytes.Repeat([]byte{1}, 1<<16))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := stranger(t, start(t, c), a)
			send(s)
			_ = s.CloseWrite()
			for buf := make([]byte, 4096); ; {
				if _, err := s.Read(buf); err != nil {
					break
				}
			}
		})
	}
	b := ask(t, c, "b", nil, a)
	if _, err := a.service.Approve(t.Context(), b.code(t, 1).Code, admission.Compute); err != nil {
		t.Errorf("a good machine afterwards: %v", err)
	}
}

// TestAReplayedExchangeGivesNothing records what a machine that was let in has
// sent, and sends it again from another machine to a new attempt.
func TestAReplayedExchangeGivesNothing(t *testing.T) {
	c := atNow()
	a := found(t, c)
	code := admission.NewCode()
	knock := &weftv1.Knock{Slot: code.Slot(), Name: "b", Nonce: bytes.Repeat([]byte{7}, 16)}
	recorded := &weftv1.CodeAnswer{Status: weftv1.CodeStatus_CODE_STATUS_OK, Share: make([]byte, 32), Tag: make([]byte, 64)}
	recorded.Share[0] = 2
	for range 2 { // the first exchange gives the share and tag that the second replays
		s := stranger(t, start(t, c), a)
		r := bufio.NewReader(s)
		if _, err := protodelim.MarshalTo(s, knock); err != nil {
			t.Fatal(err)
		}
		var porch weftv1.Porch
		if err := protodelim.UnmarshalFrom(r, &porch); err != nil || porch.GetStatus() != weftv1.CodeStatus_CODE_STATUS_OK {
			t.Fatalf("%v, %v", &porch, err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := a.service.Approve(t.Context(), code, admission.Compute)
			done <- err
		}()
		var attempt weftv1.CodeAttempt
		if err := protodelim.UnmarshalFrom(r, &attempt); err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(attempt.GetShare(), []byte(code.String())) || len(attempt.GetNonce()) != 16 {
			t.Errorf("the attempt is %v", &attempt)
		}
		// Neither another's answer nor the member's own share sent back is good.
		recorded.Share = attempt.GetShare()
		if _, err := protodelim.MarshalTo(s, recorded); err != nil {
			t.Fatal(err)
		}
		var verdict weftv1.CodeVerdict
		if err := protodelim.UnmarshalFrom(r, &verdict); err != nil || verdict.GetStatus() != weftv1.CodeStatus_CODE_STATUS_WRONG_CODE || verdict.GetSealed() != nil || verdict.GetTag() != nil {
			t.Errorf("the verdict is %v, %v", &verdict, err)
		}
		_ = s.Close()
		if err := <-done; err == nil {
			t.Error("let in")
		}
		if len(a.Members()) != 0 {
			t.Errorf("members %v", a.Members())
		}
	}
}
