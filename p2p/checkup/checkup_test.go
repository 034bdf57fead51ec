package checkup

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/p2p/host"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// everybody is an authority that takes everyone for a member.
type everybody struct{}

func (everybody) ID() admission.ID   { return admission.ID{1} }
func (everybody) Credential() []byte { return []byte("member") }
func (everybody) Verify(id peer.ID, _ []byte) (admission.Member, error) {
	return admission.Member{ID: id, Role: admission.Compute, Expires: time.Now().Add(time.Hour)}, nil
}

func (everybody) Revocations() [][]byte                  { return nil }
func (everybody) RevocationDigest() []byte               { return nil }
func (everybody) TakeRevocations([][]byte) (bool, error) { return false, nil }

func newHost(t *testing.T) *host.Host {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h, err := host.New(t.Context(), host.Config{Key: key, Authority: everybody{}, Listen: "127.0.0.1:0", Wire: 1, Contract: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// pair are two connected members, the second of which answers checkups.
func pair(t *testing.T) (asks, answers *host.Host) {
	t.Helper()
	a, b := newHost(t), newHost(t)
	s := Serve(b)
	t.Cleanup(s.Close)
	if err := a.Connect(t.Context(), peer.AddrInfo{ID: b.ID(), Addrs: b.DialAddrs()}); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func portOf(t *testing.T, h *host.Host) int {
	t.Helper()
	for _, a := range h.DialAddrs() {
		if p, err := a.ValueForProtocol(ma.P_TCP); err == nil {
			n, err := strconv.Atoi(p)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no port")
	return 0
}

func TestAMemberSaysHowItSeesThisNode(t *testing.T) {
	a, b := pair(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	shut := closed.Addr().(*net.TCPAddr).Port
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	go func() {
		for {
			c, err := other.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "SSH-2.0-something and more than is read")
			_ = c.Close()
		}
	}()
	r, err := Ask(t.Context(), a, b.ID(), []int{portOf(t, a), shut, other.Addr().(*net.TCPAddr).Port})
	if err != nil {
		t.Fatal(err)
	}
	if r.RTT <= 0 || r.Ahead.Abs() > r.RTT+time.Second || r.Small != nil || r.Large != nil || r.NotDialed != "" {
		t.Errorf("%+v", r)
	}
	if len(r.Dialed) != 3 || r.Dialed[0].Error != "" || r.Dialed[0].Address != fmt.Sprintf("127.0.0.1:%d", portOf(t, a)) {
		t.Fatalf("%+v", r.Dialed)
	}
	if !strings.Contains(r.Dialed[1].Error, "refused") && !strings.Contains(r.Dialed[1].Error, "timed out") {
		t.Errorf("a closed port: %q", r.Dialed[1].Error)
	}
	if r.Dialed[2].Error != errOther.Error() && !strings.Contains(r.Dialed[2].Error, "reset") {
		t.Errorf("another program's port: %q", r.Dialed[2].Error)
	}
}

func TestOneMemberCannotOccupyAnother(t *testing.T) {
	a, b := pair(t)
	failed := 0
	for range 3 * burst {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if _, err := Ask(ctx, a, b.ID(), nil); err != nil {
			failed++
		}
		cancel()
	}
	if failed < burst {
		t.Errorf("only %d of %d checkups in a row were refused", failed, 3*burst)
	}
}

func TestHostileRequestsAreRefused(t *testing.T) {
	s := &Server{ctx: t.Context()}
	from := ma.StringCast("/ip4/127.0.0.1/tcp/1")
	many := make([]uint32, maxPorts+1)
	for name, c := range map[string]struct {
		from ma.Multiaddr
		body *weftv1.CheckupRequest
	}{
		"nothing":    {from, &weftv1.CheckupRequest{}},
		"no ports":   {from, &weftv1.CheckupRequest{Body: &weftv1.CheckupRequest_Dial{Dial: &weftv1.CheckupDial{}}}},
		"many ports": {from, &weftv1.CheckupRequest{Body: &weftv1.CheckupRequest_Dial{Dial: &weftv1.CheckupDial{Ports: many}}}},
		"a relay":    {ma.StringCast("/ip4/9.9.9.9/tcp/1/p2p-circuit"), &weftv1.CheckupRequest{Body: &weftv1.CheckupRequest_Dial{Dial: &weftv1.CheckupDial{Ports: []uint32{1}}}}},
		"a big echo": {from, &weftv1.CheckupRequest{Body: &weftv1.CheckupRequest_Echo{Echo: &weftv1.CheckupEcho{Payload: make([]byte, maxEcho+1)}}}},
	} {
		if r := s.answer(c.from, c.body); r.Error == "" || len(r.Dialed) > 0 || len(r.Payload) > 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	r := s.answer(from, &weftv1.CheckupRequest{Body: &weftv1.CheckupRequest_Dial{Dial: &weftv1.CheckupDial{Ports: []uint32{0, 70000}}}})
	for _, d := range r.Dialed {
		if d.Error != "no such port" {
			t.Errorf("%+v", d)
		}
	}
}

func TestAnyClockCanBeCompared(t *testing.T) {
	here := time.UnixMicro(1_700_000_000_000_000)
	for unix, want := range map[int64]time.Duration{
		here.UnixMicro() + 1500: 1500 * time.Microsecond,
		here.UnixMicro() - 2e6:  -2 * time.Second,
		math.MaxInt64:           100 * 365 * 24 * time.Hour,
		math.MinInt64:           -100 * 365 * 24 * time.Hour,
	} {
		if got := ahead(unix, here); (got - want).Abs() > time.Microsecond {
			t.Errorf("%d is %v ahead, want %v", unix, got, want)
		}
	}
}
