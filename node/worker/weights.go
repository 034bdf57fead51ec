package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// Bounds of the weights protocol.
const (
	// MaxManifest is the most bytes of a manifest on the wire.
	MaxManifest = 256 << 20
	// MaxChunk is the most bytes of a chunk of a tensor.
	MaxChunk = 1 << 20
	// maxHas is how many tensors one question may name.
	maxHas = 16 << 10
	// sendPiece is what is written at once, so that other streams of the
	// connection get in between.
	sendPiece = 64 << 10
	// weightsIdle is how long a stream may wait for its next request.
	weightsIdle = 30 * time.Second
	// weightsTimeout bounds each message and each piece.
	weightsTimeout = 20 * time.Second
)

// Provider has the weights that peers may ask for; the store is one.
type Provider interface {
	// Manifest gives the encoded manifest of a model.
	Manifest(model [32]byte) ([]byte, error)
	// Has says whether all of a tensor is here.
	Has(tensor [32]byte) bool
	// Chunk gives a chunk of a tensor's GGUF bytes, using dst if it has room.
	// What it returns is the server's from then on.
	Chunk(tensor [32]byte, index int, dst []byte) ([]byte, error)
	// Origin says where a model can be downloaded from; nil when that is not
	// known.
	Origin(model [32]byte) *weftv1.Origin
}

// WeightsConfig makes a WeightsServer.
type WeightsConfig struct {
	Provider Provider
	// Pace is how many bytes a second may be sent now, to all peers together and
	// to this one; 0 is without bound. The daemon gives half of a link while
	// replies run: unpaced, weights delay them several times over. It is called
	// before every piece. Nil: never bounded.
	Pace func(peer string) (all, each float64)
	// MaxStreams bounds the streams that are open at once; a stream beyond them
	// is turned away. Default 512.
	MaxStreams int
	// MaxSends bounds the chunks that are sent at once, a MiB of memory each;
	// further requests wait their turn. Default 32.
	MaxSends int
	// Log may be nil.
	Log *slog.Logger
}

// WeightsServer answers the weights protocol.
type WeightsServer struct {
	cfg   WeightsConfig
	pace  *pacing
	slots chan struct{} // one for each stream
	sends chan struct{} // one for each chunk that is being sent
}

// NewWeightsServer makes a server.
func NewWeightsServer(cfg WeightsConfig) *WeightsServer {
	if cfg.MaxStreams <= 0 {
		cfg.MaxStreams = 512
	}
	if cfg.MaxSends <= 0 {
		cfg.MaxSends = 32
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &WeightsServer{cfg: cfg, pace: newPacing(cfg.Pace), slots: make(chan struct{}, cfg.MaxStreams), sends: make(chan struct{}, cfg.MaxSends)}
}

// Serve answers the requests of one stream until it ends. Call it from the
// protocol's stream handler; ctx ends it.
func (s *WeightsServer) Serve(ctx context.Context, stream wire.Stream, peer string) {
	x := wire.NewExchange(ctx, stream, weightsTimeout)
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		turnAway(x)
		return
	}
	pace, leave := s.pace.enter(peer)
	defer leave()
	c := &serving{server: s, x: x, peer: peer, pace: pace}
	for {
		var req weftv1.WeightsRequest
		x.SetTimeout(weightsIdle)
		err := x.Receive(&req)
		x.SetTimeout(weightsTimeout)
		if errors.Is(err, io.EOF) {
			_ = x.Close()
			return
		}
		if err == nil {
			err = c.answer(ctx, &req)
		}
		if err != nil {
			s.cfg.Log.Debug("weights stream ended", "peer", peer, "error", err)
			x.Abort()
			return
		}
	}
}

// turnAway answers the first request of a stream that cannot be served. The
// request is read, so that whoever still sends it gets the answer.
func turnAway(x *wire.Exchange) {
	var req weftv1.WeightsRequest
	if err := x.Receive(&req); err != nil {
		x.Abort()
		return
	}
	_ = x.Send(&weftv1.WeightsReply{Error: "too many peers fetch from this node; ask another"})
	_ = x.Close()
}

// serving is one stream that is being answered.
type serving struct {
	server *WeightsServer
	x      *wire.Exchange
	peer   string
	pace   *peerPace
}

// answer sends the reply to one request; an error is about the stream.
func (c *serving) answer(ctx context.Context, req *weftv1.WeightsRequest) error {
	from := c.server.cfg.Provider
	switch b := req.Body.(type) {
	case *weftv1.WeightsRequest_Manifest:
		model, ok := hashOf(b.Manifest.GetModel())
		if !ok {
			return c.refuse(unnamedModel)
		}
		data, err := from.Manifest(model)
		if err != nil {
			return c.refuse(reasonOf(err))
		}
		return c.send(ctx, data, 0)
	case *weftv1.WeightsRequest_Has:
		return c.has(b.Has)
	case *weftv1.WeightsRequest_Origin:
		model, ok := hashOf(b.Origin.GetModel())
		if !ok {
			return c.refuse(unnamedModel)
		}
		return c.x.Send(&weftv1.WeightsReply{Origin: from.Origin(model)})
	case *weftv1.WeightsRequest_Chunk:
		tensor, ok := hashOf(b.Chunk.GetTensor())
		if !ok {
			return c.refuse("a tensor is named by 32 bytes")
		}
		return c.chunk(ctx, tensor, b.Chunk)
	}
	return c.refuse("this node does not know the request; update it")
}

// chunk sends a chunk when its turn has come.
func (c *serving) chunk(ctx context.Context, tensor [32]byte, req *weftv1.ChunkRequest) error {
	select {
	case c.server.sends <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-c.server.sends }()
	room := newRoom()
	data, err := c.server.cfg.Provider.Chunk(tensor, int(req.Index), room)
	if err != nil {
		recycle(room)
		return c.refuse(reasonOf(err))
	}
	defer recycle(data)
	return c.send(ctx, data, float64(req.Rate))
}

const unnamedModel = "a model is named by 32 bytes"

func (c *serving) has(m *weftv1.HasRequest) error {
	if len(m.Tensors) > maxHas {
		return c.refuse(fmt.Sprintf("%d tensors in one question; at most %d", len(m.Tensors), maxHas))
	}
	out := make([]byte, len(m.Tensors))
	for i, b := range m.Tensors {
		if t, ok := hashOf(b); ok && c.server.cfg.Provider.Has(t) {
			out[i] = 1
		}
	}
	return c.x.Send(&weftv1.WeightsReply{Has: out})
}

func hashOf(b []byte) (h [32]byte, ok bool) {
	return h, copy(h[:], b) == len(h) && len(b) == len(h)
}

func (c *serving) refuse(reason string) error {
	return c.x.Send(&weftv1.WeightsReply{Error: reason})
}

// send sends a reply with bytes behind it, at the pace of the moment.
func (c *serving) send(ctx context.Context, data []byte, wish float64) error {
	if err := c.x.Send(&weftv1.WeightsReply{Size: uint64(len(data))}); err != nil {
		return err
	}
	for len(data) > 0 {
		n, err := c.server.pace.wait(ctx, c.peer, c.pace, wish, len(data))
		if err != nil {
			return err
		}
		if err := c.x.SendRaw(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}
