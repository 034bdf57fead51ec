package worker_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-mesh/weft/node/worker"
	"github.com/weft-mesh/weft/p2p/wire"
	weftv1 "github.com/weft-mesh/weft/proto/weft/v1"
	"github.com/weft-mesh/weft/shard/store/fetch"
	"github.com/weft-mesh/weft/shard/store/manifest"
)

var _ fetch.Source = (*worker.PeerSource)(nil)

// shelf is a Provider of a few tensors.
type shelf struct {
	manifest []byte
	tensors  map[[32]byte][]byte
}

func (s *shelf) Manifest(model [32]byte) ([]byte, error) {
	if s.manifest == nil || manifest.Sum(s.manifest) != model {
		return nil, errors.New("no such model here")
	}
	return s.manifest, nil
}

func (s *shelf) Has(tensor [32]byte) bool { return s.tensors[tensor] != nil }

func (s *shelf) Chunk(tensor [32]byte, index int, dst []byte) ([]byte, error) {
	b := s.tensors[tensor]
	if index*worker.MaxChunk >= len(b) {
		return nil, errors.New("no such chunk")
	}
	return append(dst, b[index*worker.MaxChunk:min(len(b), (index+1)*worker.MaxChunk)]...), nil
}

func (s *shelf) Origin(model [32]byte) *weftv1.Origin {
	if s.manifest == nil || manifest.Sum(s.manifest) != model {
		return nil
	}
	return &weftv1.Origin{Repo: "o/r", Revision: "main", Files: []*weftv1.OriginFile{{Path: "m.gguf", Size: 9, Sha256: "00"}}}
}

// weightsMesh is a client and the servers it can reach, by name.
type weightsMesh struct {
	t      *testing.T
	client *worker.WeightsClient
	wg     sync.WaitGroup
	mu     sync.Mutex
	opened int
	far    []wire.Stream
}

func newWeightsMesh(t *testing.T, servers map[string]*worker.WeightsServer) *weightsMesh {
	m := &weightsMesh{t: t}
	m.client = worker.NewWeightsClient(func(_ context.Context, peer string) (wire.Stream, error) {
		s := servers[peer]
		if s == nil {
			return nil, errors.New("unreachable")
		}
		near, far := wire.PipeStream()
		m.mu.Lock()
		m.opened++
		m.far = append(m.far, far)
		m.mu.Unlock()
		m.wg.Go(func() { s.Serve(context.Background(), far, "client") })
		return near, nil
	})
	t.Cleanup(func() {
		m.client.Close()
		m.wg.Wait()
	})
	return m
}

func TestWeightsComeFromAPeer(t *testing.T) {
	big := bytes.Repeat([]byte{1, 2, 3, 4, 5}, 500_000)
	one, two, three := manifest.Hash{1}, manifest.Hash{2}, manifest.Hash{3}
	s := worker.NewWeightsServer(worker.WeightsConfig{Provider: &shelf{
		manifest: []byte("not really one"), tensors: map[[32]byte][]byte{one: big, two: {9}},
	}})
	m := newWeightsMesh(t, map[string]*worker.WeightsServer{"p": s})
	ctx := t.Context()
	src, err := m.client.Source(ctx, "p", []manifest.Hash{one, two, three})
	if err != nil {
		t.Fatal(err)
	}
	if src.ID() != "p" || !src.Has(one) || !src.Has(two) || src.Has(three) {
		t.Errorf("source %+v", src)
	}
	for i := range 3 {
		b, err := src.Chunk(ctx, one, i)
		if err != nil || !bytes.Equal(b, big[i<<20:min(len(big), (i+1)<<20)]) {
			t.Errorf("chunk %d: %d bytes, %v", i, len(b), err)
		}
	}
	if _, err := src.Chunk(ctx, one, 3); !errors.Is(err, worker.ErrWeights) || !strings.Contains(err.Error(), "no such chunk") {
		t.Errorf("chunk behind the end: %v", err)
	}
	b, err := m.client.Manifest(ctx, "p", manifest.Sum([]byte("not really one")))
	if err != nil || string(b) != "not really one" {
		t.Errorf("manifest %q, %v", b, err)
	}
	if o, err := m.client.Origin(ctx, "p", manifest.Sum(b)); err != nil || o.GetRepo() != "o/r" || len(o.Files) != 1 {
		t.Errorf("origin %v, %v", o, err)
	}
	if o, err := m.client.Origin(ctx, "p", one); err != nil || o != nil {
		t.Errorf("an origin that nobody knows: %v, %v", o, err)
	}
	if _, err := m.client.FetchManifest(ctx, "p", manifest.Sum(b)); !errors.Is(err, manifest.ErrDamaged) {
		t.Errorf("a manifest that is none: %v", err)
	}
	if _, err := m.client.FetchManifest(ctx, "p", one); !errors.Is(err, worker.ErrWeights) {
		t.Errorf("a model that is not there: %v", err)
	}
	if _, err := m.client.Has(ctx, "q", [][32]byte{one}); err == nil || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("an unknown peer: %v", err)
	}
	if m.opened != 1 {
		t.Errorf("%d streams for requests one after another", m.opened)
	}
	// A kept stream that has ended is replaced.
	_ = m.far[0].Reset()
	if _, err := src.Chunk(ctx, two, 0); err != nil {
		t.Error(err)
	}
}

func TestWeightsArePacedWhileRepliesRun(t *testing.T) {
	tensor := manifest.Hash{1}
	provider := &shelf{tensors: map[[32]byte][]byte{tensor: make([]byte, 400_000)}}
	var pace float64
	s := worker.NewWeightsServer(worker.WeightsConfig{Provider: provider, Pace: func(string) (float64, float64) { return 0, pace }})
	m := newWeightsMesh(t, map[string]*worker.WeightsServer{"p": s})
	fetch := func() time.Duration {
		start := time.Now()
		if _, err := m.client.Chunk(t.Context(), "p", tensor, 0, 0, nil); err != nil {
			t.Fatal(err)
		}
		return time.Since(start)
	}
	free := fetch()
	pace = 1e6
	if paced := fetch(); paced < 250*time.Millisecond || free > paced {
		t.Errorf("400 kB took %s at 1 MB/s, %s without a bound", paced, free)
	}
	pace = 0
	start := time.Now()
	if _, err := m.client.Chunk(t.Context(), "p", tensor, 0, 1e6, nil); err != nil {
		t.Fatal(err)
	}
	if paced := time.Since(start); paced < 250*time.Millisecond {
		t.Errorf("400 kB took %s at the 1 MB/s that were asked for", paced)
	}
}

func TestTooManyPeersAreSentElsewhere(t *testing.T) {
	s := worker.NewWeightsServer(worker.WeightsConfig{Provider: &shelf{}, MaxStreams: 1})
	m := newWeightsMesh(t, map[string]*worker.WeightsServer{"p": s})
	near, _ := wire.PipeStream()
	_ = near.Reset()
	if _, err := m.client.Has(t.Context(), "p", [][32]byte{{1}}); err != nil { // its stream is kept
		t.Fatal(err)
	}
	other := newWeightsMesh(t, map[string]*worker.WeightsServer{"p": s})
	if _, err := other.client.Has(t.Context(), "p", [][32]byte{{1}}); !errors.Is(err, worker.ErrWeights) || !strings.Contains(err.Error(), "too many") {
		t.Errorf("error %v", err)
	}
}

// One chunk is sent at a time, and eight who ask at once all get theirs.
func TestRequestsWaitTheirTurn(t *testing.T) {
	tensor := manifest.Hash{1}
	provider := &shelf{tensors: map[[32]byte][]byte{tensor: bytes.Repeat([]byte{7}, 300_000)}}
	m := newWeightsMesh(t, map[string]*worker.WeightsServer{"p": worker.NewWeightsServer(worker.WeightsConfig{Provider: provider, MaxSends: 1})})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			b, err := m.client.Chunk(t.Context(), "p", tensor, 0, 0, nil)
			if err != nil || !bytes.Equal(b, provider.tensors[tensor]) {
				t.Errorf("%d bytes, %v", len(b), err)
			}
		})
	}
	wg.Wait()
}

func TestAPeerThatAnnouncesTooMuchIsNotBelieved(t *testing.T) {
	client := worker.NewWeightsClient(func(context.Context, string) (wire.Stream, error) {
		near, far := wire.PipeStream()
		go func() {
			_, _ = far.Read(make([]byte, 1000))
			_, _ = far.Write([]byte{6, 0x10, 0xff, 0xff, 0xff, 0xff, 0x7f}) // size: 32 GiB
		}()
		return near, nil
	})
	defer client.Close()
	if _, err := client.Chunk(t.Context(), "p", [32]byte{}, 0, 0, nil); !errors.Is(err, worker.ErrWeights) || !strings.Contains(err.Error(), "announces") {
		t.Errorf("chunk: %v", err)
	}
	if _, err := client.Manifest(t.Context(), "p", [32]byte{}); !errors.Is(err, worker.ErrWeights) {
		t.Errorf("manifest: %v", err)
	}
	if _, err := client.Has(t.Context(), "p", make([][32]byte, 2)); !errors.Is(err, worker.ErrWeights) {
		t.Errorf("has: %v", err)
	}
	client.Close()
	if _, err := client.Has(t.Context(), "p", make([][32]byte, 2)); !errors.Is(err, worker.ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

func FuzzRequests(f *testing.F) {
	plan, _ := (&fuzzer{}).plan()
	f.Add(plan)
	f.Add([]byte{0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	server := worker.NewWeightsServer(worker.WeightsConfig{Provider: &shelf{}})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 100_000 {
			return
		}
		z := &fuzzer{}
		z.serve(t, b, func(s wire.Stream) { server.Serve(context.Background(), s, "p") })
		router := worker.NewRouter(worker.RouterConfig{Self: "a"})
		w, err := worker.New(worker.Config{Router: router, Loader: &loader{fail: errors.New("never")}, Offered: func() uint64 { return 1 << 40 }})
		if err != nil {
			t.Fatal(err)
		}
		z.serve(t, b, func(s wire.Stream) { w.ServePlan(s, "head") })
		z.serve(t, b, func(s wire.Stream) { router.Serve(s, "head") })
		w.Close()
		router.Close()
	})
}
