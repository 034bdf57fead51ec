package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	gops "github.com/shirou/gopsutil/v4/process"

	"github.com/weft-mesh/weft/node/worker"
	"github.com/weft-mesh/weft/p2p/host"
	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/store"
	"github.com/weft-mesh/weft/shard/store/fetch"
	"github.com/weft-mesh/weft/shard/store/manifest"
)

const (
	weightsTransfer = "/weft/bench/weights"
	// weightsTensors matrices of 8.9 MB each, as a model of 8 billion parameters
	// has them, are half a gigabyte.
	weightsTensors = 57
	weightsRows    = 2048
	weightsCols    = 4096
)

// weights measures how fast one node gets weights from another over loopback:
// bare TCP with the same bytes, chunks that are checked and thrown away, and
// chunks that end packed in the store.
func (b *bench) weights(ctx context.Context) error {
	file := filepath.Join(b.dir, "weights.gguf")
	if err := writeWeights(file); err != nil {
		return err
	}
	far, err := store.Open(filepath.Join(b.dir, "weights", "far"), store.Options{})
	if err != nil {
		return err
	}
	e, err := far.Add(ctx, file, store.AddOptions{Name: "weights"})
	if err != nil {
		return err
	}
	man, err := far.Manifest(e.Model)
	if err != nil {
		return err
	}
	p, err := b.startPair(ctx, "weights")
	if err != nil {
		return err
	}
	defer p.stop()
	t := &transfer{b: b, p: p, man: man, entry: e}
	t.client = worker.NewWeightsClient(func(ctx context.Context, _ string) (wire.Stream, error) {
		return p.host.OpenStream(ctx, p.far, weightsTransfer)
	})
	defer t.client.Close()
	var rows [][]string
	for _, way := range []struct {
		name string
		run  func(context.Context) error
	}{{"bare TCP", t.tcp}, {"chunks, checked", t.checked}, {"chunks, checked and packed", t.packed}} {
		row, err := t.measure(ctx, way.run)
		if err != nil {
			return fmt.Errorf("%s: %w", way.name, err)
		}
		rows = append(rows, append([]string{way.name}, row...))
	}
	b.report.add(section{
		title: "Weights between two nodes, in MB/s",
		note: fmt.Sprintf("%.0f MB of Q8_0 matrices from one process to another on loopback, over p2p/host with TLS; the sender checks each chunk as it reads it, the receiver as it comes. "+
			"Beside it the CPU time that both sides take for a gigabyte: the cores that a machine must have for the rate. Sender and receiver share this machine's cores.", float64(man.Size())/1e6),
		head: []string{"", "MB/s", "sender, CPU s/GB", "receiver, CPU s/GB"},
		rows: rows,
	})
	return nil
}

// writeWeights writes a model of matrices that no two of which are the same.
func writeWeights(path string) error {
	var b gguf.Builder
	b.Set("general.architecture", "llama")
	for i := range weightsTensors {
		b.Add(fmt.Sprintf("blk.%d.ffn.weight", i), gguf.Q8_0, weightsCols, weightsRows)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	rng := rand.NewChaCha8([32]byte{1})
	err = b.Write(f, func(t gguf.Tensor, w io.Writer) error {
		data := make([]byte, t.Size)
		_, _ = rng.Read(data)
		for at := 1; at < len(data); at += int(gguf.Q8_0.BlockBytes()) {
			data[at] &^= 0x40 // a finite scale
		}
		_, err := w.Write(data)
		return err
	})
	return errors.Join(err, f.Close())
}

// transfer is the measured model on its way.
type transfer struct {
	b      *bench
	p      *pair
	man    *manifest.Manifest
	entry  store.Entry
	client *worker.WeightsClient
	runs   int
}

// measure runs one way several times and gives the cells of its row.
func (t *transfer) measure(ctx context.Context, run func(context.Context) error) ([]string, error) {
	var rate, sender, receiver series
	gb := float64(t.man.Size()) / 1e9
	for i := range t.b.times + 1 {
		near, far, err := t.cpu()
		if err != nil {
			return nil, err
		}
		begin := time.Now()
		if err := run(ctx); err != nil {
			return nil, err
		}
		took := time.Since(begin).Seconds()
		near2, far2, err := t.cpu()
		if err != nil {
			return nil, err
		}
		if i > 0 { // the first time warms up
			rate = append(rate, gb*1000/took)
			sender, receiver = append(sender, (far2-far)/gb), append(receiver, (near2-near)/gb)
		}
	}
	return []string{rate.cell(0), sender.cell(2), receiver.cell(2)}, nil
}

// cpu is the CPU time of both processes so far, in seconds.
func (t *transfer) cpu() (near, far float64, err error) {
	for pid, out := range map[int]*float64{os.Getpid(): &near, t.p.cmd.Process.Pid: &far} {
		p, err := gops.NewProcess(int32(pid))
		if err != nil {
			return 0, 0, err
		}
		times, err := p.Times()
		if err != nil {
			return 0, 0, err
		}
		*out = times.User + times.System
	}
	return near, far, nil
}

// tcp sends the same number of bytes over a bare connection, in pieces.
func (t *transfer) tcp(context.Context) error {
	piece := make([]byte, maxEcho)
	for left := int64(t.man.Size()); left > 0; left -= maxEcho {
		if err := t.p.tcp.pull(piece); err != nil {
			return err
		}
	}
	return nil
}

// checked fetches everything into a sink that throws it away.
func (t *transfer) checked(ctx context.Context) error {
	return t.fetch(ctx, func(tensors []*manifest.Tensor, src fetch.Source) error {
		dir, err := os.MkdirTemp(t.b.dir, "")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		return fetch.Fetch(ctx, tensors, []fetch.Source{src}, fetch.Options{Dir: dir, Sink: nowhere{}})
	})
}

// packed fetches everything into a store of its own.
func (t *transfer) packed(ctx context.Context) error {
	t.runs++
	home := filepath.Join(t.b.dir, fmt.Sprintf("near-%d", t.runs))
	defer os.RemoveAll(home)
	s, err := store.Open(home, store.Options{})
	if err != nil {
		return err
	}
	if _, err := s.Import(t.man.Encode(), t.man.ID(), store.AddOptions{Name: "weights", Profile: t.entry.Profile}); err != nil {
		return err
	}
	return t.fetch(ctx, func(tensors []*manifest.Tensor, src fetch.Source) error {
		return s.Fetch(ctx, tensors, []fetch.Source{src}, fetch.Options{})
	})
}

func (t *transfer) fetch(ctx context.Context, get func([]*manifest.Tensor, fetch.Source) error) error {
	var tensors []*manifest.Tensor
	var hashes []manifest.Hash
	for i := range t.man.Tensors {
		tensors, hashes = append(tensors, &t.man.Tensors[i]), append(hashes, t.man.Tensors[i].Hash)
	}
	src, err := t.client.Source(ctx, t.p.far.String(), hashes)
	if err != nil {
		return err
	}
	return get(tensors, src)
}

// nowhere takes tensors and keeps nothing.
type nowhere struct{}

func (nowhere) Has(*manifest.Tensor) bool                                { return false }
func (nowhere) Put(context.Context, *manifest.Tensor, io.ReaderAt) error { return nil }

// serveWeights lets the far process give what its store has.
func serveWeights(ctx context.Context, h *host.Host, home string) error {
	s, err := store.Open(home, store.Options{})
	if err != nil {
		return err
	}
	ws := worker.NewWeightsServer(worker.WeightsConfig{Provider: shelf{s}})
	h.Handle(weightsTransfer, func(st network.Stream) { ws.Serve(ctx, st, st.Conn().RemotePeer().String()) })
	return nil
}

// shelf is a store as the weights protocol sees it.
type shelf struct{ *store.Store }

func (s shelf) Manifest(model [32]byte) ([]byte, error) {
	m, err := s.Store.Manifest(model)
	if err != nil {
		return nil, err
	}
	return m.Encode(), nil
}

func (s shelf) Has(tensor [32]byte) bool { return s.HasTensor(tensor) }

func (s shelf) Chunk(tensor [32]byte, index int, dst []byte) ([]byte, error) {
	return s.ReadChunkInto(dst, tensor, index)
}

func (s shelf) Origin([32]byte) *weftv1.Origin { return nil }
