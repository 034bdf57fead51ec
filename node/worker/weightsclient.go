package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
)

// ErrWeights is wrapped by what a peer answers instead of weights.
var ErrWeights = errors.New("peer gave no weights")

// keptStreams is how many unused streams to one peer are kept.
const keptStreams = 8

// turnTime bounds how long a peer may take to answer: many may be before us in its
// line.
const turnTime = 2 * time.Minute

// WeightsClient asks peers for weights. What it returns is unchecked: hold it
// against the hash that was asked for. Methods may be called from anywhere.
type WeightsClient struct {
	open func(ctx context.Context, peer string) (wire.Stream, error)

	// mu guards everything below.
	mu     sync.Mutex
	closed bool
	free   map[string][]wire.Stream
}

// NewWeightsClient makes a client; open opens a stream of the weights protocol to
// a member.
func NewWeightsClient(open func(ctx context.Context, peer string) (wire.Stream, error)) *WeightsClient {
	return &WeightsClient{open: open, free: map[string][]wire.Stream{}}
}

// Manifest fetches the encoded manifest of a model.
func (c *WeightsClient) Manifest(ctx context.Context, peer string, model [32]byte) ([]byte, error) {
	var out []byte
	err := c.ask(ctx, peer, &weftv1.WeightsRequest{Body: &weftv1.WeightsRequest_Manifest{
		Manifest: &weftv1.ManifestRequest{Model: model[:]},
	}}, func(x *wire.Exchange, r *weftv1.WeightsReply) (err error) {
		out, err = receive(x, nil, r.Size, MaxManifest)
		return err
	})
	return out, err
}

// Has asks which of tensors the peer holds whole; the answer is in their order.
func (c *WeightsClient) Has(ctx context.Context, peer string, tensors [][32]byte) ([]bool, error) {
	out := make([]bool, 0, len(tensors))
	for rest := tensors; len(rest) > 0; {
		n := min(len(rest), maxHas)
		m := &weftv1.HasRequest{}
		for i := range rest[:n] {
			m.Tensors = append(m.Tensors, rest[i][:])
		}
		err := c.ask(ctx, peer, &weftv1.WeightsRequest{Body: &weftv1.WeightsRequest_Has{Has: m}}, func(_ *wire.Exchange, r *weftv1.WeightsReply) error {
			if len(r.Has) != n {
				return fmt.Errorf("%w: answers about %d tensors, %d were asked for", ErrWeights, len(r.Has), n)
			}
			for _, b := range r.Has {
				out = append(out, b == 1)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	return out, nil
}

// Chunk fetches chunk index of a tensor into dst's room, or new room. rate is how
// many bytes a second the peer shall send at most, over all requests; 0 is as
// fast as it can.
func (c *WeightsClient) Chunk(ctx context.Context, peer string, tensor [32]byte, index int, rate uint64, dst []byte) ([]byte, error) {
	var out []byte
	err := c.ask(ctx, peer, &weftv1.WeightsRequest{Body: &weftv1.WeightsRequest_Chunk{
		Chunk: &weftv1.ChunkRequest{Tensor: tensor[:], Index: uint32(index), Rate: rate},
	}}, func(x *wire.Exchange, r *weftv1.WeightsReply) (err error) {
		out, err = receive(x, dst, r.Size, MaxChunk)
		return err
	})
	return out, err
}

// Origin asks where a model can be downloaded from; nil when the peer does not
// know. What it says is to be checked.
func (c *WeightsClient) Origin(ctx context.Context, peer string, model [32]byte) (*weftv1.Origin, error) {
	var out *weftv1.Origin
	err := c.ask(ctx, peer, &weftv1.WeightsRequest{Body: &weftv1.WeightsRequest_Origin{
		Origin: &weftv1.OriginRequest{Model: model[:]},
	}}, func(_ *wire.Exchange, r *weftv1.WeightsReply) error {
		out = r.Origin
		return nil
	})
	return out, err
}

// receive reads size raw bytes, allocating as they come. Each piece has the
// exchange's time, so that a slow link is no failure.
func receive(x *wire.Exchange, dst []byte, size, limit uint64) ([]byte, error) {
	if size > limit {
		return nil, fmt.Errorf("%w: it announces %d bytes, at most %d", ErrWeights, size, limit)
	}
	out := dst[:0]
	for uint64(len(out)) < size {
		n := int(min(size-uint64(len(out)), MaxChunk))
		from := len(out)
		if cap(out)-from < n {
			out = append(out, make([]byte, n)...)
		}
		out = out[:from+n]
		for piece := range slices.Chunk(out[from:], sendPiece) {
			if err := x.ReceiveRaw(piece); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// ask sends one request on an unused stream to peer, or a new one, and hands the
// reply to take. A stream that was kept may have ended meanwhile: then a new one
// is tried.
func (c *WeightsClient) ask(ctx context.Context, peer string, req *weftv1.WeightsRequest, take func(*wire.Exchange, *weftv1.WeightsReply) error) error {
	for {
		x, kept, err := c.stream(ctx, peer)
		if err != nil {
			return fmt.Errorf("ask %s for weights: %w", peer, err)
		}
		reply, err := once(x.Exchange, req)
		if err != nil && kept && ctx.Err() == nil {
			x.Abort()
			continue
		}
		if err == nil && reply.Error != "" {
			c.keep(peer, x)
			return fmt.Errorf("ask %s for weights: %w: %s", peer, ErrWeights, clip(reply.Error, maxReason))
		}
		if err == nil {
			err = take(x.Exchange, reply)
		}
		if err != nil {
			x.Abort()
			return fmt.Errorf("ask %s for weights: %w", peer, err)
		}
		c.keep(peer, x)
		return nil
	}
}

func once(x *wire.Exchange, req *weftv1.WeightsRequest) (*weftv1.WeightsReply, error) {
	if err := x.Send(req); err != nil {
		return nil, err
	}
	reply := &weftv1.WeightsReply{}
	x.SetTimeout(turnTime)
	defer x.SetTimeout(weightsTimeout)
	return reply, x.Receive(reply)
}

// asking is an exchange together with its stream.
type asking struct {
	*wire.Exchange
	stream wire.Stream
}

// stream takes a kept stream or opens one.
func (c *WeightsClient) stream(ctx context.Context, peer string) (x asking, kept bool, err error) {
	c.mu.Lock()
	if list := c.free[peer]; len(list) > 0 {
		s := list[len(list)-1]
		c.free[peer] = list[:len(list)-1]
		c.mu.Unlock()
		return asking{wire.NewExchange(ctx, s, weightsTimeout), s}, true, nil
	}
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return asking{}, false, ErrClosed
	}
	s, err := c.open(ctx, peer)
	if err != nil {
		return asking{}, false, err
	}
	return asking{wire.NewExchange(ctx, s, weightsTimeout), s}, false, nil
}

// keep puts a stream by for the next request.
func (c *WeightsClient) keep(peer string, x asking) {
	if !x.Release() {
		x.Abort()
		return
	}
	c.mu.Lock()
	if !c.closed && len(c.free[peer]) < keptStreams {
		c.free[peer] = append(c.free[peer], x.stream)
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	_ = x.stream.Close()
}

// Close closes the streams that are kept. Requests under way go on.
func (c *WeightsClient) Close() {
	c.mu.Lock()
	c.closed = true
	free := c.free
	c.free = map[string][]wire.Stream{}
	c.mu.Unlock()
	for _, list := range free {
		for _, s := range list {
			_ = s.Close()
		}
	}
}
