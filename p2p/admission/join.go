package admission

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// Further reasons why a joining failed.
var (
	ErrRogueMesh = errors.New("the node at that address does not speak for the mesh that the token names")
	ErrBusy      = errors.New("the inviting node is busy with other joinings")
	ErrInviter   = errors.New("the inviting node could not admit this one")
)

const (
	joinTimeout    = 15 * time.Second
	maxJoinMessage = 4096
	maxReason      = 300
)

// joinErrors maps what an admitter answers to what the joiner returns.
var joinErrors = map[weftv1.JoinStatus]error{
	weftv1.JoinStatus_JOIN_STATUS_WRONG_MESH:   ErrRogueMesh,
	weftv1.JoinStatus_JOIN_STATUS_NOT_ADMITTER: ErrNotAdmitter,
	weftv1.JoinStatus_JOIN_STATUS_UNKNOWN:      ErrInvitationUnknown,
	weftv1.JoinStatus_JOIN_STATUS_EXPIRED:      ErrInvitationExpired,
	weftv1.JoinStatus_JOIN_STATUS_USED:         ErrInvitationUsed,
	weftv1.JoinStatus_JOIN_STATUS_BUSY:         ErrBusy,
	weftv1.JoinStatus_JOIN_STATUS_INTERNAL:     ErrInviter,
}

// Join brings this node into the mesh of a token: it connects to the
// inviter, checks that it speaks for the mesh, only then shows the secret,
// stores the certificate that it gets, and introduces itself as a member. It
// blocks for at most 15 s after the connection stands.
func Join(ctx context.Context, net Network, mesh *Mesh, t *Token, name string, v Versions) error {
	if err := checkJoin(net, mesh, t); err != nil {
		return err
	}
	info := peer.AddrInfo{ID: t.Inviter, Addrs: t.Addrs}
	if err := net.Dial(ctx, info); err != nil {
		return fmt.Errorf("join: the inviting node %s does not answer at %v: is it running, and is its port open? %w", t.Inviter, t.Addrs, err)
	}
	credential, meshName, err := present(ctx, net, mesh.cfg.Now(), t, name, v)
	if err != nil {
		_ = net.ClosePeer(t.Inviter)
		return fmt.Errorf("join: %w", err)
	}
	if err := mesh.Adopt(t.Mesh, meshName, credential); err != nil {
		_ = net.ClosePeer(t.Inviter)
		return fmt.Errorf("join: the certificate that the inviter issued: %w", err)
	}
	return net.Connect(ctx, info)
}

func checkJoin(net Network, mesh *Mesh, t *Token) error {
	if mesh.Joined() && mesh.ID() != t.Mesh {
		return fmt.Errorf("join %s: %w (%s): weft leave first, or use another home", t.Mesh.Short(), ErrAlreadyMember, mesh.ID().Short())
	}
	if t.Inviter == net.ID() {
		return errors.New("join: this token was issued by this very node: use it on another machine")
	}
	// The inviter's clock decides; only a token that is dead by any tolerated
	// clock is refused here.
	if mesh.cfg.Now().After(t.Expires.Add(ClockSkew)) {
		return fmt.Errorf("join: %w: on %s; ask for a new one (weft invite)", ErrInvitationExpired, t.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// present runs the joiner's side of the protocol.
func present(ctx context.Context, net Network, now time.Time, t *Token, name string, v Versions) (credential []byte, meshName string, err error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	s, err := net.OpenStranger(ctx, t.Inviter, JoinProtocol)
	if err != nil {
		return nil, "", fmt.Errorf("the inviting node %s admits nobody now: %w", t.Inviter, err)
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	r := bufio.NewReaderSize(s, 512)
	if err := send(s, &weftv1.JoinStart{Mesh: t.Mesh[:], WireVersion: v.Wire, ContractVersion: v.Contract}); err != nil {
		return nil, "", err
	}
	var offer weftv1.JoinOffer
	if err := receive(r, &offer); err != nil {
		return nil, "", err
	}
	if err := joinError(offer.GetStatus(), offer.GetReason()); err != nil {
		return nil, "", err
	}
	// The stream's security proved the inviter's peer id; its chain proves
	// that the mesh's root made it an admitter. Only now the secret.
	m, err := verifyMember(t.Mesh, t.Inviter, offer.GetCredential(), now, nil)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrRogueMesh, err)
	}
	if m.Role != Admitter {
		return nil, "", fmt.Errorf("%w: it is no admitter", ErrRogueMesh)
	}
	if err := send(s, &weftv1.JoinProof{Invitation: t.Invitation[:], Secret: t.Secret[:], Name: CleanName(name)}); err != nil {
		return nil, "", err
	}
	var result weftv1.JoinResult
	if err := receive(r, &result); err != nil {
		return nil, "", err
	}
	if err := joinError(result.GetStatus(), result.GetReason()); err != nil {
		return nil, "", err
	}
	return result.GetCredential(), result.GetMeshName(), nil
}

func joinError(status weftv1.JoinStatus, reason string) error {
	if status == weftv1.JoinStatus_JOIN_STATUS_OK {
		return nil
	}
	err, ok := joinErrors[status]
	if !ok {
		err = fmt.Errorf("%w: answer %d is not known to this program", ErrInviter, status)
	}
	if reason = cleanReason(reason); reason != "" {
		return fmt.Errorf("%w (%s)", err, reason)
	}
	return err
}

// serveJoin runs the admitter's side for one stranger.
func (s *Service) serveJoin(st network.Stream) {
	defer st.Close()
	_ = st.SetDeadline(time.Now().Add(joinTimeout))
	stop := context.AfterFunc(s.ctx, func() { _ = st.Reset() })
	defer stop()
	who := st.Conn().RemotePeer()
	release, ok := s.limits.enter(st.Conn().RemoteMultiaddr())
	if !ok {
		s.log.Warn("joining refused", "peer", who.String(), "reason", "rate limit")
		_ = send(st, &weftv1.JoinOffer{Status: weftv1.JoinStatus_JOIN_STATUS_BUSY, Reason: "try again in a few seconds"})
		return
	}
	defer release()
	name, err := s.admit(st, who)
	if err != nil {
		s.log.Warn("joining refused", "peer", who.String(), "addr", st.Conn().RemoteMultiaddr().String(), "error", err)
		return
	}
	s.log.Info("node admitted", "peer", who.String(), "name", name)
}

// admit returns the name of the node that was admitted.
func (s *Service) admit(st network.Stream, who peer.ID) (name string, err error) {
	r := bufio.NewReaderSize(st, 512)
	var start weftv1.JoinStart
	if err := receive(r, &start); err != nil {
		return "", err
	}
	offer, err := s.offer(&start)
	if sendErr := send(st, offer); err != nil || sendErr != nil {
		return "", errors.Join(err, sendErr)
	}
	var proof weftv1.JoinProof
	if err := receive(r, &proof); err != nil {
		return "", err
	}
	result, err := s.redeem(&proof, who)
	if sendErr := send(st, result); err != nil || sendErr != nil {
		return "", errors.Join(err, sendErr)
	}
	return CleanName(proof.GetName()), nil
}

// offer answers the start of a joining; a non-nil error goes with an offer
// that says why there is none.
func (s *Service) offer(start *weftv1.JoinStart) (*weftv1.JoinOffer, error) {
	self, err := s.mesh.Self()
	if err != nil {
		return &weftv1.JoinOffer{Status: weftv1.JoinStatus_JOIN_STATUS_NOT_ADMITTER, Reason: err.Error()}, err
	}
	id := s.mesh.ID()
	if string(start.GetMesh()) != string(id[:]) {
		return &weftv1.JoinOffer{Status: weftv1.JoinStatus_JOIN_STATUS_WRONG_MESH, Reason: "it belongs to another mesh"}, ErrOtherMesh
	}
	if self.Role != Admitter {
		return &weftv1.JoinOffer{Status: weftv1.JoinStatus_JOIN_STATUS_NOT_ADMITTER}, ErrNotAdmitter
	}
	return &weftv1.JoinOffer{Status: weftv1.JoinStatus_JOIN_STATUS_OK, Credential: s.mesh.Credential()}, nil
}

func (s *Service) redeem(proof *weftv1.JoinProof, who peer.ID) (*weftv1.JoinResult, error) {
	role, err := s.invites.Redeem(proof.GetInvitation(), proof.GetSecret(), who, s.mesh.cfg.Now())
	if err != nil {
		return &weftv1.JoinResult{Status: redeemStatus(err)}, err
	}
	credential, err := s.mesh.Issue(who, role)
	if err != nil {
		return &weftv1.JoinResult{Status: weftv1.JoinStatus_JOIN_STATUS_INTERNAL, Reason: cleanReason(err.Error())}, err
	}
	return &weftv1.JoinResult{Status: weftv1.JoinStatus_JOIN_STATUS_OK, Credential: credential, MeshName: s.mesh.Name()}, nil
}

// redeemStatus hides the details of internal errors from the stranger.
func redeemStatus(err error) weftv1.JoinStatus {
	for status, known := range joinErrors {
		if errors.Is(err, known) {
			return status
		}
	}
	return weftv1.JoinStatus_JOIN_STATUS_INTERNAL
}

func cleanReason(s string) string { return Printable(s, maxReason) }

func send(s network.Stream, m proto.Message) error {
	var b bytes.Buffer // one write: length and message are one frame
	if _, err := protodelim.MarshalTo(&b, m); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if _, err := s.Write(b.Bytes()); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

func receive(r *bufio.Reader, m proto.Message) error {
	if err := (protodelim.UnmarshalOptions{MaxSize: maxJoinMessage}).UnmarshalFrom(r, m); err != nil {
		return fmt.Errorf("the other side broke off: %w", err)
	}
	return nil
}
