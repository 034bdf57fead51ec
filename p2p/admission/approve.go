package admission

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

const (
	askTime   = 3 * time.Second // for members about who waits with them
	vouchTime = 10 * time.Second
)

// ErrAmbiguousCode means that two machines wait with codes that begin alike.
var ErrAmbiguousCode = errors.New("two machines wait with codes that begin alike: end `weft up` on one of them and start it again for another code")

// Approved says who was let in by a code.
type Approved struct {
	Peer peer.ID
	Name string // as the machine calls itself
	Role Role
}

// Approve lets in the machine that shows a code, wherever in the mesh it
// waits: on this node or on any member that this one is connected to. Each
// call is the one attempt that the code allows. It blocks for some seconds
// at most.
func (s *Service) Approve(ctx context.Context, c Code, role Role) (Approved, error) {
	if err := s.mayApprove(role); err != nil {
		return Approved{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	w, err := s.seek(ctx, c.Slot())
	if err != nil {
		return Approved{}, err
	}
	defer w.close()
	stop := context.AfterFunc(ctx, func() { _ = w.st.Reset() })
	defer stop()
	_ = w.st.SetDeadline(time.Now().Add(exchangeTime))
	out := Approved{Peer: w.peer, Name: CleanName(w.knock.GetName()), Role: role}
	certify := func() ([]byte, error) { return s.certify(ctx, w.peer, role, out.Name) }
	err = admitByCode(w.talk, c, s.mesh.ID(), s.net.ID(), s.mesh.Credential(), s.mesh.Name(), w.peer, w.knock, certify)
	w.end()
	if err != nil {
		s.log.Warn("a code let nobody in", "peer", w.peer.String(), "error", err)
		return Approved{}, fmt.Errorf("%s (%s): %w", out.Name, w.peer, err)
	}
	s.log.Info("node admitted by code", "peer", w.peer.String(), "name", out.Name, "role", role.String())
	return out, nil
}

// mayApprove says no before a code is spent in vain.
func (s *Service) mayApprove(role Role) error {
	self, err := s.mesh.Self()
	switch {
	case err != nil:
		return err
	case self.Role < Compute:
		return fmt.Errorf("%w: this node joined as a client: type the code on another member", ErrNotPermitted)
	case role < Client || role > Admitter:
		return fmt.Errorf("unknown %v", role)
	case role == Admitter && !s.mesh.HoldsRoot():
		return fmt.Errorf("appoint an admitter: %w: type the code on the founding node", ErrNoRoot)
	case self.Role == Admitter:
		return nil
	case len(s.net.Admitters()) == 0:
		return fmt.Errorf("%w, and no admitter is connected that could sign: start the founding node, or type the code there", ErrNotAdmitter)
	}
	return nil
}

// guest is a machine that waits, with a way to speak to it.
type guest struct {
	talk
	peer  peer.ID
	knock *weftv1.Knock
	close func()
}

// seek finds the machine that waits with a slot.
func (s *Service) seek(ctx context.Context, slot string) (*guest, error) {
	here, status := s.porch.find(slot)
	found := map[peer.ID]*guest{}
	for _, w := range here {
		found[w.peer] = nil
	}
	if len(here) != 1 { // what stands before this node's own door is taken as meant
		for _, g := range s.askPorches(ctx, slot, &status) {
			if _, ok := found[g.peer]; ok {
				g.close() // several members hold the same machine
				continue
			}
			found[g.peer] = g
		}
	}
	if len(found) > 1 || len(found) == 0 && status == weftv1.CodeStatus_CODE_STATUS_BUSY {
		for _, g := range found {
			if g != nil {
				g.close()
			}
		}
		return nil, ErrAmbiguousCode
	}
	for _, g := range found {
		if g != nil {
			return g, nil
		}
	}
	if len(here) == 0 {
		return nil, nobody(slot, status)
	}
	w := here[0]
	if !s.porch.take(w) {
		return nil, ErrCodeSpent
	}
	return &guest{talk{w.st, w.r, w.heard}, w.peer, w.knock, func() { close(w.ended) }}, nil
}

// nobody explains that no machine waits with a slot.
func nobody(slot string, status weftv1.CodeStatus) error {
	err := codeError(status, "")
	if err == nil || errors.Is(err, ErrNobodyWaits) {
		return fmt.Errorf("%w: none whose code begins with %s; codes are good for %d minutes, and the new machine must see a member of this mesh",
			ErrNobodyWaits, slot, int(CodeLife.Minutes()))
	}
	return fmt.Errorf("%w: the new machine shows another one, or start `weft up` there again", err)
}

// askPorches asks all connected members for machines that wait with a slot.
// The caller closes all that it gets. status learns more where nobody waits.
func (s *Service) askPorches(ctx context.Context, slot string, status *weftv1.CodeStatus) []*guest {
	var mu sync.Mutex // guards out and status
	var out []*guest
	var wg sync.WaitGroup
	for _, id := range s.net.Peers() {
		wg.Go(func() {
			g, said := s.askPorch(ctx, id, slot)
			mu.Lock()
			defer mu.Unlock()
			if g != nil {
				out = append(out, g)
			} else {
				*status = max(*status, said)
			}
		})
	}
	wg.Wait()
	return out
}

func (s *Service) askPorch(ctx context.Context, member peer.ID, slot string) (*guest, weftv1.CodeStatus) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	st, err := s.net.OpenStream(ctx, member, PorchProtocol)
	if err != nil {
		return nil, weftv1.CodeStatus_CODE_STATUS_UNSPECIFIED
	}
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer stop()
	r := bufio.NewReaderSize(st, 512)
	var e weftv1.PorchEntry
	err = send(st, &weftv1.PorchQuery{Slot: slot})
	if err == nil {
		err = receive(r, &e)
	}
	id, idErr := peer.IDFromBytes(e.GetPeer())
	k := e.GetKnock()
	if err != nil || e.GetStatus() != weftv1.CodeStatus_CODE_STATUS_OK || idErr != nil || len(k.GetNonce()) != nonceSize || len(k.GetName()) > maxNameLen {
		_ = st.Reset()
		return nil, e.GetStatus()
	}
	return &guest{talk{st, r, nil}, id, k, func() { _ = st.Reset() }}, e.GetStatus()
}

// certify gets a certificate for a machine that knows the code: from this
// node, or for a plain member from a connected admitter.
func (s *Service) certify(ctx context.Context, machine peer.ID, role Role, name string) ([]byte, error) {
	if self, err := s.mesh.Self(); err != nil || self.Role == Admitter {
		if err != nil {
			return nil, err
		}
		return s.mesh.Issue(machine, role)
	}
	ctx, cancel := context.WithTimeout(ctx, vouchTime)
	defer cancel()
	admitters := s.net.Admitters()
	errs := []error{errors.New("no admitter has signed")}
	for _, i := range rand.Perm(len(admitters)) {
		credential, err := s.askVouch(ctx, admitters[i], machine, role, name)
		if err == nil {
			return credential, nil
		}
		errs = append(errs, fmt.Errorf("ask %s: %w", admitters[i], err))
	}
	return nil, errors.Join(errs...)
}

func (s *Service) askVouch(ctx context.Context, admitter, machine peer.ID, role Role, name string) ([]byte, error) {
	st, err := s.net.OpenStream(ctx, admitter, VouchProtocol)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer stop()
	if err := send(st, &weftv1.Vouch{Peer: []byte(machine), Role: uint32(role), Name: name}); err != nil {
		return nil, err
	}
	var a weftv1.VouchAnswer
	if err := receive(bufio.NewReaderSize(st, 512), &a); err != nil {
		return nil, err
	}
	if reason := cleanReason(a.GetReason()); reason != "" {
		return nil, errors.New(reason)
	}
	// The machine would refuse a bad one too; here the fault has a name.
	if _, err := s.mesh.Verify(machine, a.GetCredential()); err != nil {
		return nil, err
	}
	return a.GetCredential(), nil
}

// serveVouch signs for a machine that a member has let in by a code.
func (s *Service) serveVouch(st network.Stream) {
	defer st.Close()
	_ = st.SetDeadline(time.Now().Add(vouchTime))
	stop := context.AfterFunc(s.ctx, func() { _ = st.Reset() })
	defer stop()
	by := st.Conn().RemotePeer()
	var v weftv1.Vouch
	if err := receive(bufio.NewReaderSize(st, 512), &v); err != nil {
		return
	}
	var answer weftv1.VouchAnswer
	credential, machine, err := s.vouch(by, &v)
	if err != nil {
		s.log.Warn("a member's word was not taken", "member", by.String(), "error", err)
		answer.Reason = cleanReason(err.Error())
	} else {
		s.log.Info("node admitted by a member's word", "member", by.String(), "peer", machine.String(), "name", CleanName(v.GetName()))
		answer.Credential = credential
	}
	_ = send(st, &answer)
}

func (s *Service) vouch(by peer.ID, v *weftv1.Vouch) ([]byte, peer.ID, error) {
	machine, err := peer.IDFromBytes(v.GetPeer())
	if err != nil {
		return nil, "", fmt.Errorf("the machine's id: %w", err)
	}
	role := Role(min(v.GetRole(), 255))
	switch {
	case s.net.RoleOf(by) < Compute:
		return nil, "", fmt.Errorf("%w: a client lets nobody in", ErrNotPermitted)
	case role != Client && role != Compute:
		return nil, "", fmt.Errorf("%w: a member's word makes no %v", ErrNotPermitted, role)
	case !s.vouches.Allow():
		return nil, "", fmt.Errorf("%w: try again in a few seconds", ErrBusy)
	}
	credential, err := s.mesh.Issue(machine, role)
	return credential, machine, err
}
