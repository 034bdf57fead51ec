package admission

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

const (
	// CodeLife is how long a code is good for.
	CodeLife = 2 * time.Minute

	maxWaiting   = 3 // machines that wait at one member
	maxPast      = 64
	pastLife     = 15 * time.Minute
	nonceSize    = 16
	exchangeTime = 20 * time.Second
	maxRelayed   = 16 << 10 // bytes each way of one exchange
)

// Reasons why a code lets nobody in.
var (
	ErrNobodyWaits = errors.New("no machine waits with this code")
	ErrCodeExpired = errors.New("the code has expired")
	ErrCodeSpent   = errors.New("the code was tried before and is spent")
	ErrWrongCode   = errors.New("the code is wrong; it is spent now")
	ErrPorchFull   = errors.New("as many machines as may are waiting there already")
)

// codeErrors maps what is said on the wire to what callers get.
var codeErrors = map[weftv1.CodeStatus]error{
	weftv1.CodeStatus_CODE_STATUS_NOBODY:     ErrNobodyWaits,
	weftv1.CodeStatus_CODE_STATUS_FULL:       ErrPorchFull,
	weftv1.CodeStatus_CODE_STATUS_EXPIRED:    ErrCodeExpired,
	weftv1.CodeStatus_CODE_STATUS_SPENT:      ErrCodeSpent,
	weftv1.CodeStatus_CODE_STATUS_WRONG_CODE: ErrWrongCode,
	weftv1.CodeStatus_CODE_STATUS_NO_MESH:    ErrNoMesh,
	weftv1.CodeStatus_CODE_STATUS_BUSY:       ErrBusy,
}

func codeError(status weftv1.CodeStatus, reason string) error {
	if status == weftv1.CodeStatus_CODE_STATUS_OK {
		return nil
	}
	err, ok := codeErrors[status]
	reason = cleanReason(reason)
	switch {
	case ok && reason != "":
		return fmt.Errorf("%w: %s", err, reason)
	case ok:
		return err
	case reason != "":
		return errors.New(reason)
	}
	return fmt.Errorf("the other side refused (%d)", status)
}

// porch is where machines wait that have knocked. It holds a few of them and
// remembers for a while what became of the others.
type porch struct {
	mu      sync.Mutex // guards all below and the membership of waiting
	waiting []*waiting
	past    []fate
}

// fate is what became of a slot.
type fate struct {
	slot string
	why  weftv1.CodeStatus
	at   time.Time
}

// waiting is one machine on the porch. Whoever takes it off, by take or
// leave, owns its stream from then on.
type waiting struct {
	peer  peer.ID
	knock *weftv1.Knock
	from  netip.Addr
	since time.Time
	st    network.Stream
	r     *bufio.Reader
	heard chan struct{} // closed when the machine has spoken or is gone
	err   error         // of that, once heard is closed
	taken chan struct{} // closed by take
	ended chan struct{} // closed by whoever has taken it, when he is done
}

// enter lets a machine wait. One that knocks again replaces itself. When the
// porch is full, the oldest of the network with several places makes room for
// one of another network, so that nobody fills it from one address.
func (p *porch) enter(w *waiting) (evicted *waiting, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.IndexFunc(p.waiting, func(o *waiting) bool { return o.peer == w.peer }); i >= 0 {
		evicted = p.waiting[i]
		p.waiting = slices.Delete(p.waiting, i, i+1)
	} else if len(p.waiting) >= maxWaiting {
		count := map[netip.Addr]int{}
		for _, o := range p.waiting {
			count[o.from]++
		}
		i := slices.IndexFunc(p.waiting, func(o *waiting) bool { return o.from != w.from && count[o.from] > 1 })
		if i < 0 {
			return nil, false
		}
		evicted = p.waiting[i]
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
	p.waiting = append(p.waiting, w)
	return evicted, true
}

// take gives a machine to the caller for the one attempt that its code
// allows; false when somebody else has it or it has left.
func (p *porch) take(w *waiting) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.drop(w, weftv1.CodeStatus_CODE_STATUS_SPENT) {
		return false
	}
	close(w.taken)
	return true
}

// remove takes a machine off the porch and notes why.
func (p *porch) remove(w *waiting, why weftv1.CodeStatus) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.drop(w, why)
}

// drop is remove for callers that hold mu.
func (p *porch) drop(w *waiting, why weftv1.CodeStatus) bool {
	i := slices.Index(p.waiting, w)
	if i < 0 {
		return false
	}
	p.waiting = slices.Delete(p.waiting, i, i+1)
	if why != weftv1.CodeStatus_CODE_STATUS_UNSPECIFIED {
		p.past = append(p.past, fate{w.knock.GetSlot(), why, time.Now()})
		p.past = p.past[max(0, len(p.past)-maxPast):]
	}
	return true
}

// find returns the machines that wait with a slot, and when there are none
// what became of the last one.
func (p *porch) find(slot string) ([]*waiting, weftv1.CodeStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []*waiting
	for _, w := range p.waiting {
		if w.knock.GetSlot() == slot {
			found = append(found, w)
		}
	}
	if len(found) > 0 {
		return found, weftv1.CodeStatus_CODE_STATUS_OK
	}
	for _, f := range slices.Backward(p.past) {
		if f.slot == slot && time.Since(f.at) < pastLife {
			return nil, f.why
		}
	}
	return nil, weftv1.CodeStatus_CODE_STATUS_NOBODY
}

// serveKnock lets a stranger wait until a person types its code here or at
// another member.
func (s *Service) serveKnock(st network.Stream) {
	defer func() { _ = st.Close() }() // harmless after a reset; a refusal has to arrive
	_ = st.SetDeadline(time.Now().Add(joinTimeout))
	stop := context.AfterFunc(s.ctx, func() { _ = st.Reset() })
	defer stop()
	release, ok := s.limits.enter(st.Conn().RemoteMultiaddr())
	if !ok {
		_ = send(st, &weftv1.Porch{Status: weftv1.CodeStatus_CODE_STATUS_BUSY, Reason: "try again in a few seconds"})
		return
	}
	w, err := s.greet(st)
	release()
	if err != nil {
		s.log.Warn("knock refused", "peer", st.Conn().RemotePeer().String(), "error", err)
		return
	}
	s.log.Info("a machine asks to be let in", "name", CleanName(w.knock.GetName()), "peer", w.peer.String(), "addr", st.Conn().RemoteMultiaddr().String())
	s.await(w)
}

// greet reads a knock and answers it.
func (s *Service) greet(st network.Stream) (*waiting, error) {
	w := &waiting{
		peer: st.Conn().RemotePeer(), knock: &weftv1.Knock{}, from: network64(st.Conn().RemoteMultiaddr()), since: time.Now(),
		st: st, r: bufio.NewReaderSize(st, 512), heard: make(chan struct{}), taken: make(chan struct{}), ended: make(chan struct{}),
	}
	if err := receive(w.r, w.knock); err != nil {
		return nil, err
	}
	refuse := func(status weftv1.CodeStatus, err error) (*waiting, error) {
		_ = send(st, &weftv1.Porch{Status: status, Reason: cleanReason(err.Error())})
		return nil, err
	}
	if !slotForm(w.knock.GetSlot()) || len(w.knock.GetNonce()) != nonceSize {
		return refuse(weftv1.CodeStatus_CODE_STATUS_REFUSED, errors.New("the knock is malformed"))
	}
	if _, err := s.mesh.Self(); err != nil {
		return refuse(weftv1.CodeStatus_CODE_STATUS_NO_MESH, err)
	}
	w.knock.Name = CleanName(w.knock.GetName())
	evicted, ok := s.porch.enter(w)
	if !ok {
		return refuse(weftv1.CodeStatus_CODE_STATUS_FULL, fmt.Errorf("%d machines wait already", maxWaiting))
	}
	if evicted != nil {
		_ = evicted.st.Reset()
	}
	s.net.Tolerate(w.peer, CodeLife+exchangeTime)
	id := s.mesh.ID()
	_ = st.SetDeadline(time.Now().Add(CodeLife + exchangeTime))
	if err := send(st, &weftv1.Porch{Status: weftv1.CodeStatus_CODE_STATUS_OK, Mesh: id[:], Credential: s.mesh.Credential(), MeshName: s.mesh.Name()}); err != nil {
		s.porch.remove(w, weftv1.CodeStatus_CODE_STATUS_UNSPECIFIED)
		return nil, err
	}
	return w, nil
}

// await waits beside a machine until its time is over, it has gone, or an
// attempt with its code has ended.
func (s *Service) await(w *waiting) {
	life := time.NewTimer(CodeLife)
	defer life.Stop()
	var listen sync.WaitGroup
	listen.Go(func() {
		_, w.err = w.r.Peek(1)
		close(w.heard)
	})
	defer func() {
		_ = w.st.Reset() // ends the listening
		listen.Wait()
	}()
	why := weftv1.CodeStatus_CODE_STATUS_UNSPECIFIED
	select {
	case <-w.taken:
	case <-w.heard: // gone, or it speaks out of turn
	case <-s.ctx.Done():
	case <-life.C:
		why = weftv1.CodeStatus_CODE_STATUS_EXPIRED
	}
	if !s.porch.remove(w, why) {
		select {
		case <-w.taken:
			<-w.ended
		default: // another knock of the same machine is in its place
		}
	}
}

// servePorch tells another member of a machine that waits here and passes
// the exchange between the two on, once.
func (s *Service) servePorch(st network.Stream) {
	defer func() { _ = st.Close() }()
	_ = st.SetDeadline(time.Now().Add(exchangeTime))
	stop := context.AfterFunc(s.ctx, func() { _ = st.Reset() })
	defer stop()
	r := bufio.NewReaderSize(st, 512)
	var q weftv1.PorchQuery
	if err := receive(r, &q); err != nil {
		return
	}
	found, status := s.porch.find(q.GetSlot())
	if len(found) > 1 {
		status = weftv1.CodeStatus_CODE_STATUS_BUSY
	}
	if status != weftv1.CodeStatus_CODE_STATUS_OK {
		_ = send(st, &weftv1.PorchEntry{Status: status})
		return
	}
	w := found[0]
	if err := send(st, &weftv1.PorchEntry{Status: status, Peer: []byte(w.peer), Knock: w.knock}); err != nil {
		return
	}
	// The first byte of an attempt is what takes the machine.
	if _, err := r.Peek(1); err != nil {
		return
	}
	if !s.porch.take(w) {
		_ = send(st, &weftv1.CodeAnswer{Status: weftv1.CodeStatus_CODE_STATUS_SPENT})
		return
	}
	defer close(w.ended)
	s.log.Info("a code is tried from another member", "member", st.Conn().RemotePeer().String(), "peer", w.peer.String())
	pass(st, r, w)
}

// pass copies between the member that has the code and the machine until
// both have ended.
func pass(st network.Stream, r io.Reader, w *waiting) {
	_ = w.st.SetDeadline(time.Now().Add(exchangeTime))
	var there sync.WaitGroup
	there.Go(func() {
		_, _ = io.Copy(w.st, io.LimitReader(r, maxRelayed))
		_ = w.st.CloseWrite()
	})
	<-w.heard
	_, _ = io.Copy(st, io.LimitReader(w.r, maxRelayed))
	_ = st.CloseWrite()
	there.Wait()
}
