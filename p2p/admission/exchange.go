package admission

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/crypto/chacha20poly1305"
	"google.golang.org/protobuf/proto"

	"github.com/weft-mesh/weft/p2p/admission/cpace"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// The exchange behind a code has three messages and a receipt: the member
// sends its share, the machine its share and its proof of the key, the member
// its own proof and the certificate under the key. Both peer ids, the mesh's
// root and the member's certificate are part of the key, so neither a member
// in the middle nor another mesh can change anything unnoticed.

const (
	channelLabel = "weft join by code v1"
	sealLabel    = "weft admission v1"
)

// talk is one side's view of an exchange.
type talk struct {
	st network.Stream
	r  *bufio.Reader
	// ready, where it is not nil, is closed when r may be read.
	ready <-chan struct{}
}

func (t talk) send(m proto.Message) error { return send(t.st, m) }

func (t talk) receive(m proto.Message) error {
	if t.ready != nil {
		<-t.ready
	}
	return receive(t.r, m)
}

// end says that nothing more comes and waits until the other side has ended
// too, so that it gets what was sent last. The stream's deadline bounds it.
func (t talk) end() {
	_ = t.st.CloseWrite()
	if t.ready != nil {
		<-t.ready
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(t.r, maxRelayed))
}

// exchangeInput is what both sides must have in common: the code, the mesh,
// the member as initiator, the machine as responder, and both nonces.
func exchangeInput(c Code, mesh ID, member, machine peer.ID, memberNonce, machineNonce []byte) cpace.Input {
	channel := []byte(channelLabel)
	for _, s := range [][]byte{mesh[:], []byte(member), []byte(machine)} {
		channel = append(append(channel, byte(len(s))), s...) // peer ids have fewer than 256 bytes
	}
	session := append(append([]byte{}, memberNonce...), machineNonce...)
	return cpace.Input{Password: []byte(c.text()), Channel: channel, Session: session}
}

func nonce() []byte {
	b := make([]byte, nonceSize)
	_, _ = rand.Read(b) // never fails; see crypto/rand
	return b
}

// admitByCode is the member's side. certify is called once the machine has
// proved that it knows the code.
func admitByCode(t talk, c Code, mesh ID, self peer.ID, credential []byte, meshName string, machine peer.ID, knock *weftv1.Knock, certify func() ([]byte, error)) error {
	mine := nonce()
	p := cpace.New(exchangeInput(c, mesh, self, machine, mine, knock.GetNonce()), credential)
	var answer weftv1.CodeAnswer
	err := t.send(&weftv1.CodeAttempt{Credential: credential, Nonce: mine, Share: p.Share(), Peer: []byte(self)})
	if err == nil {
		err = t.receive(&answer)
	}
	if err != nil {
		return fmt.Errorf("%w: it has just gone, or its code has expired (%w)", ErrNobodyWaits, err)
	}
	if err := codeError(answer.GetStatus(), answer.GetReason()); err != nil {
		return err
	}
	key, err := p.Initiate(answer.GetShare(), []byte(knock.GetName()))
	if err != nil || !key.Confirm(answer.GetTag()) {
		_ = t.send(&weftv1.CodeVerdict{Status: weftv1.CodeStatus_CODE_STATUS_WRONG_CODE})
		return ErrWrongCode
	}
	issued, err := certify()
	if err != nil {
		_ = t.send(&weftv1.CodeVerdict{Status: weftv1.CodeStatus_CODE_STATUS_REFUSED, Reason: cleanReason(err.Error())})
		return err
	}
	sealed, err := seal(key, &weftv1.Admission{Credential: issued, MeshName: meshName})
	if err != nil {
		return err
	}
	if err := t.send(&weftv1.CodeVerdict{Status: weftv1.CodeStatus_CODE_STATUS_OK, Tag: key.Tag(), Sealed: sealed}); err != nil {
		return err
	}
	var done weftv1.CodeDone
	if err := t.receive(&done); err != nil {
		return fmt.Errorf("the machine has its certificate but did not say that it took it: %w", err)
	}
	return codeError(done.GetStatus(), done.GetReason())
}

// enterByCode is the machine's side after the attempt has come in. take
// stores the certificate.
func enterByCode(t talk, c Code, mesh ID, attempt *weftv1.CodeAttempt, self peer.ID, name string, machineNonce []byte, now time.Time, take func(*weftv1.Admission) error) error {
	member, err := memberOf(attempt, mesh, now)
	if err != nil {
		_ = t.send(&weftv1.CodeAnswer{Status: weftv1.CodeStatus_CODE_STATUS_REFUSED, Reason: cleanReason(err.Error())})
		return err
	}
	p := cpace.New(exchangeInput(c, mesh, member, self, attempt.GetNonce(), machineNonce), []byte(name))
	key, err := p.Respond(attempt.GetShare(), attempt.GetCredential())
	if err != nil {
		_ = t.send(&weftv1.CodeAnswer{Status: weftv1.CodeStatus_CODE_STATUS_WRONG_CODE})
		return ErrWrongCode
	}
	if err := t.send(&weftv1.CodeAnswer{Status: weftv1.CodeStatus_CODE_STATUS_OK, Share: p.Share(), Tag: key.Tag()}); err != nil {
		return err
	}
	var verdict weftv1.CodeVerdict
	if err := t.receive(&verdict); err != nil {
		return err
	}
	if err := codeError(verdict.GetStatus(), verdict.GetReason()); err != nil {
		return err
	}
	if !key.Confirm(verdict.GetTag()) {
		return ErrWrongCode
	}
	var admission weftv1.Admission
	if err := unseal(key, verdict.GetSealed(), &admission); err != nil {
		return err
	}
	if err := take(&admission); err != nil {
		_ = t.send(&weftv1.CodeDone{Status: weftv1.CodeStatus_CODE_STATUS_REFUSED, Reason: cleanReason(err.Error())})
		return err
	}
	return t.send(&weftv1.CodeDone{Status: weftv1.CodeStatus_CODE_STATUS_OK})
}

// memberOf verifies who tries a code.
func memberOf(attempt *weftv1.CodeAttempt, mesh ID, now time.Time) (peer.ID, error) {
	id, err := peer.IDFromBytes(attempt.GetPeer())
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrRogueMesh, err)
	}
	if len(attempt.GetNonce()) != nonceSize {
		return "", errors.New("the attempt is malformed")
	}
	m, err := verifyMember(mesh, id, attempt.GetCredential(), now, nil)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrRogueMesh, err)
	}
	if m.Role < Compute {
		return "", fmt.Errorf("%w: a client lets nobody in", ErrNotPermitted)
	}
	return id, nil
}

// seal encrypts a message with a key of its own under the common key.
func seal(k *cpace.Key, m proto.Message) ([]byte, error) {
	plain, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	a, err := chacha20poly1305.New(k.Derive(sealLabel))
	if err != nil {
		return nil, err
	}
	// The key serves this one message, so a fixed nonce is never repeated.
	return a.Seal(nil, make([]byte, a.NonceSize()), plain, []byte(sealLabel)), nil
}

func unseal(k *cpace.Key, sealed []byte, m proto.Message) error {
	a, err := chacha20poly1305.New(k.Derive(sealLabel))
	if err != nil {
		return err
	}
	plain, err := a.Open(nil, make([]byte, a.NonceSize()), sealed, []byte(sealLabel))
	if err != nil {
		return fmt.Errorf("what came with the certificate was changed on its way: %w", err)
	}
	return proto.Unmarshal(plain, m)
}
