package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/p2p/host"
	"github.com/weft-mesh/weft/p2p/wire"
)

// The protocols of the echoes: bare streams, and frames.
const (
	streamEcho = "/weft/bench/stream"
	frameEcho  = "/weft/bench/frame"
)

// What the two processes tell each other, a JSON object each way and back: the
// far side's peer id, its membership, where it listens.
type (
	farID      struct{ Peer string }
	membership struct{ Mesh, Credential []byte }
	farAddrs   struct {
		TCP   string
		Addrs []string
	}
)

// pair is this process and another one, a mesh of two, with an echo over each
// kind of connection.
type pair struct {
	cmd    *exec.Cmd
	far    peer.ID
	stdin  io.Closer
	host   *host.Host
	tcp    *byteEcho
	stream *byteEcho
	link   linkEcho
}

// member is a libp2p host of the given home and its membership.
type member struct {
	mesh *admission.Mesh
	cfg  host.Config
}

func newMember(home string) (*member, error) {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	key, err := host.LoadIdentity(home)
	if err != nil {
		return nil, err
	}
	mesh, err := admission.Open(admission.Config{Dir: home, Identity: key})
	if err != nil {
		return nil, err
	}
	return &member{mesh, host.Config{Key: key, Authority: mesh, Listen: "127.0.0.1:0"}}, nil
}

// startPair starts the far process and connects to it. Each of its two homes is of
// the name, since a home is of one mesh only.
func (b *bench) startPair(ctx context.Context, name string) (*pair, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	near, err := newMember(filepath.Join(b.dir, name, "near"))
	if err != nil {
		return nil, err
	}
	if err := near.mesh.Found("bench"); err != nil {
		return nil, err
	}
	p := &pair{cmd: exec.Command(self, "-echo", filepath.Join(b.dir, name, "far"))}
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the far process: %w", err)
	}
	p.stdin = in
	if err := p.connect(ctx, near, json.NewEncoder(in), json.NewDecoder(out)); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// connect admits the far side and opens the three connections.
func (p *pair) connect(ctx context.Context, near *member, say *json.Encoder, hear *json.Decoder) error {
	var id farID
	if err := hear.Decode(&id); err != nil {
		return fmt.Errorf("hear of the far process: %w", err)
	}
	far, err := peer.Decode(id.Peer)
	if err != nil {
		return err
	}
	p.far = far
	credential, err := near.mesh.Issue(far, admission.Client)
	if err != nil {
		return err
	}
	mesh := near.mesh.ID()
	if err := say.Encode(membership{mesh[:], credential}); err != nil {
		return err
	}
	var at farAddrs
	if err := hear.Decode(&at); err != nil {
		return fmt.Errorf("hear where the far process listens: %w", err)
	}
	conn, err := net.Dial("tcp", at.TCP)
	if err != nil {
		return err
	}
	p.tcp = &byteEcho{stream: conn}
	if p.host, err = host.New(ctx, near.cfg); err != nil {
		return err
	}
	info := peer.AddrInfo{ID: far}
	for _, s := range at.Addrs {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			return err
		}
		info.Addrs = append(info.Addrs, a)
	}
	if err := p.host.Connect(ctx, info); err != nil {
		return err
	}
	s, err := p.host.OpenStream(ctx, far, streamEcho)
	if err != nil {
		return err
	}
	p.stream = &byteEcho{stream: s}
	if s, err = p.host.OpenStream(ctx, far, frameEcho); err != nil {
		return err
	}
	p.link = linkEcho{wire.NewLink(s, far.String(), wire.Config{})}
	p.link.Busy(1) // as while a reply runs
	return nil
}

// stop ends both sides and waits for them.
func (p *pair) stop() {
	for _, e := range []*byteEcho{p.tcp, p.stream} {
		if e != nil {
			_ = e.stream.Close()
		}
	}
	if p.link.Link != nil {
		p.link.Close(nil)
		<-p.link.Done()
	}
	if p.host != nil {
		_ = p.host.Close()
	}
	_ = p.stdin.Close()
	_ = p.cmd.Wait()
}

// serveEchoes is the far process: it ends when its stdin does.
func serveEchoes(ctx context.Context, home string, stdin io.Reader, stdout io.Writer) error {
	far, err := newMember(home)
	if err != nil {
		return err
	}
	self, err := peer.IDFromPrivateKey(far.cfg.Key)
	if err != nil {
		return err
	}
	say, hear := json.NewEncoder(stdout), json.NewDecoder(stdin)
	if err := say.Encode(farID{self.String()}); err != nil {
		return err
	}
	var m membership
	if err := hear.Decode(&m); err != nil {
		return fmt.Errorf("hear of the mesh: %w", err)
	}
	if len(m.Mesh) != len(admission.ID{}) {
		return fmt.Errorf("mesh id of %d bytes", len(m.Mesh))
	}
	if err := far.mesh.Adopt(admission.ID(m.Mesh), "bench", m.Credential); err != nil {
		return err
	}
	h, err := host.New(ctx, far.cfg)
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }()
	h.Handle(streamEcho, func(s network.Stream) { echoBytes(s) })
	h.Handle(frameEcho, func(s network.Stream) {
		echoFrames(wire.NewLink(s, s.Conn().RemotePeer().String(), wire.Config{}))
	})
	if err := serveWeights(ctx, h, home); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	go acceptEchoes(l)
	at := farAddrs{TCP: l.Addr().String()}
	for _, a := range h.DialAddrs() {
		at.Addrs = append(at.Addrs, a.String())
	}
	if err := say.Encode(at); err != nil {
		return err
	}
	if err := hear.Decode(&m); !errors.Is(err, io.EOF) && ctx.Err() == nil {
		return fmt.Errorf("wait for the end: %w", err)
	}
	return nil
}

// acceptEchoes serves connections until the listener is closed.
func acceptEchoes(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go echoBytes(c)
	}
}
