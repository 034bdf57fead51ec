package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

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
	Chunk(tensor [32]byte, index int, dst []byte) ([]byte, error)
}

// WeightsConfig makes a WeightsServer.
type WeightsConfig struct {
	Provider Provider
	// Pace is how many bytes a second may be sent now, to all peers together; 0
	// is without bound. The daemon gives about half the link while replies run:
	// unpaced, weights delay them several times over. Nil: never bounded.
	Pace func() float64
	// MaxStreams bounds the peers that are served at once. Default 32.
	MaxStreams int
	// Log may be nil.
	Log *slog.Logger
}

// WeightsServer answers the weights protocol.
type WeightsServer struct {
	cfg     WeightsConfig
	limiter *rate.Limiter
	slots   chan struct{}
}

// NewWeightsServer makes a server.
func NewWeightsServer(cfg WeightsConfig) *WeightsServer {
	if cfg.MaxStreams <= 0 {
		cfg.MaxStreams = 32
	}
	if cfg.Pace == nil {
		cfg.Pace = func() float64 { return 0 }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &WeightsServer{cfg: cfg, limiter: rate.NewLimiter(rate.Inf, sendPiece), slots: make(chan struct{}, cfg.MaxStreams)}
}

// Serve answers the requests of one stream until it ends. Call it from the
// protocol's stream handler; ctx ends it.
func (s *WeightsServer) Serve(ctx context.Context, stream wire.Stream, peer string) {
	x := wire.NewExchange(ctx, stream, weightsTimeout)
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		_ = x.Send(&weftv1.WeightsReply{Error: "too many peers fetch from this node; ask another"})
		_ = x.Close()
		return
	}
	var buf []byte
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
			buf, err = s.answer(ctx, x, &req, buf)
		}
		if err != nil {
			s.cfg.Log.Debug("weights stream ended", "peer", peer, "error", err)
			x.Abort()
			return
		}
	}
}

// answer sends the reply to one request; an error is about the stream. buf is
// used for chunks and returned.
func (s *WeightsServer) answer(ctx context.Context, x *wire.Exchange, req *weftv1.WeightsRequest, buf []byte) ([]byte, error) {
	switch b := req.Body.(type) {
	case *weftv1.WeightsRequest_Manifest:
		model, ok := hashOf(b.Manifest.GetModel())
		if !ok {
			return buf, sendError(x, "a model is named by 32 bytes")
		}
		data, err := s.cfg.Provider.Manifest(model)
		if err != nil {
			return buf, sendError(x, reasonOf(err))
		}
		return buf, s.sendData(ctx, x, data)
	case *weftv1.WeightsRequest_Has:
		return buf, s.has(x, b.Has)
	case *weftv1.WeightsRequest_Chunk:
		tensor, ok := hashOf(b.Chunk.GetTensor())
		if !ok {
			return buf, sendError(x, "a tensor is named by 32 bytes")
		}
		data, err := s.cfg.Provider.Chunk(tensor, int(b.Chunk.Index), buf[:0])
		if err != nil {
			return buf, sendError(x, reasonOf(err))
		}
		return data, s.sendData(ctx, x, data)
	}
	return buf, sendError(x, "this node does not know the request; update it")
}

func (s *WeightsServer) has(x *wire.Exchange, m *weftv1.HasRequest) error {
	if len(m.Tensors) > maxHas {
		return sendError(x, fmt.Sprintf("%d tensors in one question; at most %d", len(m.Tensors), maxHas))
	}
	out := make([]byte, len(m.Tensors))
	for i, b := range m.Tensors {
		if t, ok := hashOf(b); ok && s.cfg.Provider.Has(t) {
			out[i] = 1
		}
	}
	return x.Send(&weftv1.WeightsReply{Has: out})
}

func hashOf(b []byte) (h [32]byte, ok bool) {
	return h, copy(h[:], b) == len(h) && len(b) == len(h)
}

func sendError(x *wire.Exchange, reason string) error {
	return x.Send(&weftv1.WeightsReply{Error: reason})
}

// sendData sends a reply with bytes behind it, at the pace of the moment.
func (s *WeightsServer) sendData(ctx context.Context, x *wire.Exchange, data []byte) error {
	if err := x.Send(&weftv1.WeightsReply{Size: uint64(len(data))}); err != nil {
		return err
	}
	for len(data) > 0 {
		n := min(len(data), sendPiece)
		if err := s.wait(ctx, n); err != nil {
			return err
		}
		if err := x.SendRaw(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// wait holds a piece of n bytes back as the pace demands.
func (s *WeightsServer) wait(ctx context.Context, n int) error {
	pace := rate.Limit(s.cfg.Pace())
	if pace <= 0 {
		pace = rate.Inf
	}
	if pace != s.limiter.Limit() {
		s.limiter.SetLimit(pace)
	}
	return s.limiter.WaitN(ctx, n)
}
