package admission

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/time/rate"
)

// Protocols of this package. Only JoinProtocol and KnockProtocol are open to
// strangers.
const (
	JoinProtocol  protocol.ID = "/weft/join/1"
	KnockProtocol protocol.ID = "/weft/knock/1"
	PorchProtocol protocol.ID = "/weft/porch/1"
	VouchProtocol protocol.ID = "/weft/vouch/1"
	RenewProtocol protocol.ID = "/weft/renew/1"
	// RevokedProtocol tells members who is one no more.
	RevokedProtocol protocol.ID = "/weft/revoked/1"
)

// Versions is what a node says about its program when it joins.
type Versions struct {
	Wire, Contract uint32
}

// Network is what admission needs of a host.
type Network interface {
	ID() peer.ID
	// Handle serves members only; HandleStranger serves anybody.
	Handle(protocol.ID, network.StreamHandler)
	HandleStranger(protocol.ID, network.StreamHandler)
	RemoveHandler(protocol.ID)
	// OpenStream reaches members only; OpenStranger also reaches a node that
	// was dialed by Dial and has shown no certificate.
	OpenStream(context.Context, peer.ID, protocol.ID) (network.Stream, error)
	OpenStranger(context.Context, peer.ID, protocol.ID) (network.Stream, error)
	// Dial connects without asking for membership; Connect demands it.
	Dial(context.Context, peer.AddrInfo) error
	Connect(context.Context, peer.AddrInfo) error
	ClosePeer(peer.ID) error
	// Peers lists connected members, Admitters those that may issue
	// certificates. RoleOf is zero for one that is no member.
	Peers() []peer.ID
	Admitters() []peer.ID
	RoleOf(peer.ID) Role
	// Tolerate lets a connected peer stay that long without a certificate.
	Tolerate(peer.ID, time.Duration)
	// Refresh shows the node's present certificate to all members; Recheck
	// disconnects those whose own is not good any more.
	Refresh()
	Recheck()
}

// Service issues certificates to invited machines and members on behalf of
// this node, and keeps the node's own certificate fresh.
type Service struct {
	mesh    *Mesh
	invites *Invitations
	net     Network
	log     *slog.Logger
	limits  joinLimits
	porch   porch
	vouches *rate.Limiter // certificates on members' word
	news    chan struct{} // revocations have been learned of

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// renewal timing: a look every quarter of an hour costs nothing and leaves a
// week of attempts before a member's certificate ends.
const (
	renewEvery   = 15 * time.Minute
	renewTimeout = 20 * time.Second
)

// Serve starts the service. A node that is not joined yet may start it too:
// it answers that it cannot admit anybody. Close ends it.
func Serve(net Network, mesh *Mesh, invites *Invitations, log *slog.Logger) *Service {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Service{mesh: mesh, invites: invites, net: net, log: log, vouches: rate.NewLimiter(joinRate, joinBurst), news: make(chan struct{}, 1)}
	s.limits.init()
	s.ctx, s.cancel = context.WithCancel(context.Background())
	net.HandleStranger(JoinProtocol, s.serveJoin)
	net.HandleStranger(KnockProtocol, s.serveKnock)
	net.Handle(PorchProtocol, s.servePorch)
	net.Handle(VouchProtocol, s.serveVouch)
	net.Handle(RenewProtocol, s.serveRenew)
	net.Handle(RevokedProtocol, s.serveRevoked)
	mesh.OnRevoked(s.heard)
	s.wg.Go(s.renewLoop)
	s.wg.Go(s.spreadLoop)
	return s
}

// Close stops the service and waits for it.
func (s *Service) Close() error {
	for _, id := range []protocol.ID{JoinProtocol, KnockProtocol, PorchProtocol, VouchProtocol, RenewProtocol, RevokedProtocol} {
		s.net.RemoveHandler(id)
	}
	s.cancel()
	s.wg.Wait()
	return nil
}

// Invite issues a token for uses joinings with the given role, valid for
// life. addrs are this node's addresses as others can dial them, best first;
// at most eight are taken.
func (s *Service) Invite(role Role, uses int, life time.Duration, addrs []ma.Multiaddr) (*Token, error) {
	self, err := s.mesh.Self()
	if err != nil {
		return nil, fmt.Errorf("invite: %w", err)
	}
	if self.Role != Admitter {
		return nil, fmt.Errorf("invite: %w: run weft invite on an admitter (weft peers shows them)", ErrNotAdmitter)
	}
	if role == Admitter && !s.mesh.HoldsRoot() {
		return nil, fmt.Errorf("invite an admitter: %w: run it on the founding node", ErrNoRoot)
	}
	if role < Client || role > Admitter {
		return nil, fmt.Errorf("invite: unknown %v", role)
	}
	t := &Token{Mesh: s.mesh.ID(), Inviter: s.net.ID(), Addrs: tokenAddrs(addrs)}
	if len(t.Addrs) == 0 {
		return nil, errors.New("invite: this node has no address that others could dial: start it with --listen")
	}
	now := s.mesh.cfg.Now()
	t.Expires = time.Unix(now.Add(life).Unix(), 0)
	if t.Invitation, t.Secret, err = s.invites.Add(role, uses, now, t.Expires); err != nil {
		return nil, err
	}
	s.log.Info("invitation issued", "uses", uses, "role", role.String(), "expires", t.Expires)
	return t, nil
}

func tokenAddrs(addrs []ma.Multiaddr) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, a := range addrs {
		if dialable(a) && len(a.Bytes()) <= maxAddrBytes && len(out) < maxTokenAddrs {
			out = append(out, a)
		}
	}
	return out
}

func (s *Service) renewLoop() {
	// Nodes that start together should not ask together.
	timer := time.NewTimer(time.Second + rand.N(10*time.Second))
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-timer.C:
		}
		if s.mesh.RenewalDue() {
			if err := s.Renew(s.ctx); err != nil && s.ctx.Err() == nil {
				s.log.Warn("certificate not renewed", "error", err)
			}
		}
		timer.Reset(renewEvery)
	}
}

// Renew replaces the node's certificate by a fresh one: from its own root
// key where it has it, else from any connected admitter.
func (s *Service) Renew(ctx context.Context) error {
	if !s.mesh.Joined() {
		return fmt.Errorf("renew: %w", ErrNoMesh)
	}
	err := s.mesh.renewSelf()
	if errors.Is(err, ErrNoRoot) {
		err = s.renewFrom(ctx)
	}
	if err != nil {
		return err
	}
	s.log.Info("certificate renewed")
	s.net.Refresh()
	return nil
}

func (s *Service) renewFrom(ctx context.Context) error {
	admitters := s.net.Admitters()
	if len(admitters) == 0 {
		return errors.New("renew: no admitter is connected: keep one running, or the certificate ends")
	}
	var errs []error
	for _, i := range rand.Perm(len(admitters)) {
		if err := s.askRenewal(ctx, admitters[i]); err != nil {
			errs = append(errs, fmt.Errorf("renew at %s: %w", admitters[i], err))
			continue
		}
		return nil
	}
	return errors.Join(errs...)
}
