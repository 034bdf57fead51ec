package checkup

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/p2p/host"
	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

const (
	clockTries = 4
	smallEcho  = 64
	openTime   = 3 * time.Second
	answerTime = 2*dialTime + time.Second
	maxReason  = 200 // bytes of a foreign error
)

// Report is what a member says of this node.
type Report struct {
	// RTT is the shortest round trip of the questions about the clock.
	RTT time.Duration
	// Ahead is how far the member's clock is ahead of this one, give or take
	// half of RTT.
	Ahead time.Duration
	// Dialed says what became of its connections to this node's ports; NotDialed
	// why it made none.
	Dialed    []Dialed
	NotDialed string
	// Small and Large are how an echo of 64 bytes and one of 32 KiB failed; a
	// path that drops large packets fails the second alone.
	Small, Large error
}

// Dialed is one connection that a member tried to this node.
type Dialed struct {
	Address string // as the member sees this node
	Error   string // "" when a weft answered
}

var errEcho = errors.New("other bytes came back")

// Ask has a member look at this node: its clock, its TCP ports, the path. It
// blocks for some seconds at most. An error means that there is no report.
func Ask(ctx context.Context, h *host.Host, id peer.ID, ports []int) (*Report, error) {
	octx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	s, err := h.OpenStream(octx, id, protocolID)
	if err != nil {
		return nil, err
	}
	x := wire.NewExchange(ctx, s, answerTime)
	r := &Report{RTT: math.MaxInt64}
	for range clockTries {
		if err := r.clock(x); err != nil {
			x.Abort()
			return nil, err
		}
	}
	if err := r.dial(x, ports); err != nil {
		x.Abort()
		return nil, err
	}
	r.Small = echo(x, smallEcho)
	if r.Small == nil {
		r.Large = echo(x, maxEcho)
	}
	if r.Small != nil || r.Large != nil {
		x.Abort()
		return r, nil
	}
	return r, x.Close()
}

// question sends one request and waits for its answer.
func question(x *wire.Exchange, q *weftv1.CheckupRequest) (*weftv1.CheckupReply, error) {
	if err := x.Send(q); err != nil {
		return nil, err
	}
	r := &weftv1.CheckupReply{}
	if err := x.Receive(r); err != nil {
		return nil, fmt.Errorf("no answer: %w", err)
	}
	return r, nil
}

// clock takes the answer with the shortest round trip: it bounds the error best.
func (r *Report) clock(x *wire.Exchange) error {
	begin := time.Now()
	a, err := question(x, &weftv1.CheckupRequest{Body: &weftv1.CheckupRequest_Clock{Clock: &weftv1.CheckupClock{}}})
	if err != nil {
		return err
	}
	if rtt := time.Since(begin); rtt < r.RTT {
		r.RTT, r.Ahead = rtt, ahead(a.GetTimeUnixUs(), begin.Add(rtt/2))
	}
	return nil
}

// ahead is how far a foreign clock is before this one, at most a hundred years.
func ahead(unixUs int64, here time.Time) time.Duration {
	const century = 100 * 365 * 24 * time.Hour
	us := float64(unixUs) - float64(here.UnixMicro())
	if math.Abs(us) > float64(century.Microseconds()) {
		return time.Duration(math.Copysign(float64(century), us))
	}
	return time.Duration(us) * time.Microsecond
}

func (r *Report) dial(x *wire.Exchange, ports []int) error {
	if len(ports) == 0 {
		r.NotDialed = "this node has no TCP port"
		return nil
	}
	q := &weftv1.CheckupDial{}
	for _, p := range ports[:min(len(ports), maxPorts)] {
		q.Ports = append(q.Ports, uint32(p))
	}
	a, err := question(x, &weftv1.CheckupRequest{Body: &weftv1.CheckupRequest_Dial{Dial: q}})
	if err != nil {
		return err
	}
	r.NotDialed = admission.Printable(a.GetError(), maxReason)
	for _, d := range a.GetDialed()[:min(len(a.GetDialed()), maxPorts)] {
		r.Dialed = append(r.Dialed, Dialed{Address: admission.Printable(d.GetAddress(), maxReason), Error: admission.Printable(d.GetError(), maxReason)})
	}
	return nil
}

// echo sends bytes and compares what comes back.
func echo(x *wire.Exchange, size int) error {
	b := make([]byte, size)
	_, _ = rand.Read(b) // never fails; see crypto/rand
	q := &weftv1.CheckupRequest{Body: &weftv1.CheckupRequest_Echo{Echo: &weftv1.CheckupEcho{Payload: b}}}
	a, err := question(x, q)
	if err == nil && !bytes.Equal(a.GetPayload(), b) {
		err = errEcho
	}
	return err
}
