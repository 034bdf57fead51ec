package node_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/shard/gguf"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		code = leaks()
	}
	os.Exit(code)
}

// leaks waits until all goroutines have ended; memberlist's last probes take up
// to a second for it.
func leaks() int {
	var err error
	for deadline := time.Now().Add(4 * time.Second); time.Now().Before(deadline); {
		if err = goleak.Find(); err == nil {
			return 0
		}
	}
	fmt.Fprintln(os.Stderr, "goroutines are left:", err)
	return 1
}

// tinyModels are the small models of package shard.
const tinyModels = "../shard/testdata/tiny/"

// start starts a node that the test ends.
func start(t *testing.T, c api.Config) api.Running {
	t.Helper()
	r, err := tryStart(t, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close %s: %v", c.Name, err)
		}
	})
	return r
}

func tryStart(t *testing.T, c api.Config) (api.Running, error) {
	t.Helper()
	if c.Home == "" {
		c.Home = t.TempDir()
	}
	if c.HTTP == "" {
		c.HTTP = "off"
	}
	if c.Threads == 0 {
		c.Threads = 1
	}
	if os.Getenv("WEFT_TEST_LOG") != "" {
		c.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("on", c.Name)
	}
	if !c.Solo {
		if c.Listen == nil {
			c.Listen = []string{"127.0.0.1:0"}
		}
		defer knowSpeed(t, c)()
	}
	return node.Start(t.Context(), c, func(p api.Progress) { t.Logf("%s: %s", c.Name, p.Text) })
}

// speeds spares the tests measurements of the machine: what the first node
// measured serves all that are like it.
var speeds struct {
	sync.Mutex
	files map[string][]byte
}

func knowSpeed(t *testing.T, c api.Config) (keep func()) {
	t.Helper()
	key, path := fmt.Sprint(c.Threads, c.Tier), filepath.Join(c.Home, "speed.json")
	speeds.Lock()
	defer speeds.Unlock()
	if b := speeds.files[key]; b != nil {
		if err := os.MkdirAll(c.Home, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return func() {}
	}
	return func() {
		if b, err := os.ReadFile(path); err == nil {
			speeds.Lock()
			defer speeds.Unlock()
			if speeds.files == nil {
				speeds.files = map[string][]byte{}
			}
			speeds.files[key] = b
		}
	}
}

// together starts a mesh of nodes and waits until each sees all; the first
// founds it.
func together(t *testing.T, configs ...api.Config) []api.Running {
	t.Helper()
	nodes := []api.Running{start(t, configs[0])}
	if len(configs) > 1 {
		token := invite(t, nodes[0], api.InviteRequest{Uses: len(configs) - 1})
		for _, c := range configs[1:] {
			c.Join = token
			nodes = append(nodes, start(t, c))
		}
	}
	see(t, len(nodes), nodes...)
	return nodes
}

func invite(t *testing.T, r api.Running, q api.InviteRequest) string {
	t.Helper()
	inv, err := r.Node().Invite(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return inv.Token
}

// see waits until each node knows the records of n nodes, itself included.
func see(t *testing.T, n int, nodes ...api.Running) {
	t.Helper()
	for i, r := range nodes {
		eventually(t, 15*time.Second, func() error {
			ps, err := r.Node().Peers(t.Context())
			if err != nil {
				return err
			}
			known := slices.DeleteFunc(ps, func(p api.Peer) bool { return p.Name == "" || p.MemTotal == 0 })
			if len(known) != n {
				return fmt.Errorf("node %d knows %d nodes, not %d", i, len(known), n)
			}
			return nil
		})
	}
}

// seeModel waits until a node knows the model.
func seeModel(t *testing.T, r api.Running, name string) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		ms, err := r.Node().Models(t.Context())
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(ms, func(m api.Model) bool { return m.Name == name }) {
			return fmt.Errorf("model %s is not known", name)
		}
		return nil
	})
}

// eventually tries f until it gives nil or the time is over.
func eventually(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// nothingLeft waits until no node holds anything of a reply.
func nothingLeft(t *testing.T, nodes ...api.Running) {
	t.Helper()
	for i, r := range nodes {
		eventually(t, 5*time.Second, func() error {
			if s, k := node.Leaks(r); s != 0 || k != 0 {
				return fmt.Errorf("node %d holds %d sessions and %d KV blocks", i, s, k)
			}
			return nil
		})
	}
}

func add(t *testing.T, r api.Running, q api.AddRequest) api.Model {
	t.Helper()
	m, err := r.Node().AddModel(t.Context(), q, func(api.Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func generate(t *testing.T, r api.Running, q api.GenerateRequest) (api.Reply, error) {
	t.Helper()
	return generateIn(t, t.Context(), r, q)
}

func generateIn(t *testing.T, ctx context.Context, r api.Running, q api.GenerateRequest) (api.Reply, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	begin := time.Now()
	return r.Node().Generate(ctx, q, func(e api.Event) error {
		if e.Progress != nil && e.Progress.Phase != "prefill" {
			t.Logf("%v: %s", time.Since(begin).Round(time.Millisecond), e.Progress.Text)
		}
		return nil
	})
}

// sequence is a prompt of n tokens that no other seed gives.
func sequence(seed, n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(32 + (i*i*7+i*(seed+1)+seed*13)%200)
	}
	return out
}

func ptr[T any](v T) *T { return &v }

// greedy is a request for n tokens without chance.
func greedy(model string, prompt []int32, n int) api.GenerateRequest {
	return api.GenerateRequest{Model: model, Tokens: prompt, MaxTokens: n, Temperature: ptr(0.0), IgnoreEOS: true, StateHash: true}
}

// deep is a model file of more layers, which repeat those of a tiny model:
// enough of them for many cuts.
func deep(t *testing.T, file string, layers int) string {
	t.Helper()
	return deepWith(t, file, layers, func(*gguf.Builder) {})
}

// deepWith is deep, with metadata that edit changes.
func deepWith(t *testing.T, file string, layers int, edit func(*gguf.Builder)) string {
	t.Helper()
	f, err := gguf.Open(tinyModels + file + ".gguf")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b gguf.Builder
	b.SetAll(f.Meta)
	arch, err := f.Meta.String("general.architecture")
	if err != nil {
		t.Fatal(err)
	}
	has, err := f.Meta.Uint(arch + ".block_count")
	if err != nil {
		t.Fatal(err)
	}
	b.Set(arch+".block_count", uint32(layers))
	edit(&b)
	from := map[string]gguf.Tensor{}
	enter := func(name string, t gguf.Tensor) {
		from[name] = t
		b.Add(name, t.Type, t.Dims...)
	}
	for _, tensor := range f.Tensors {
		l, rest, ok := layerOf(tensor.Name)
		if !ok {
			enter(tensor.Name, tensor)
			continue
		}
		for ; l < layers; l += int(has) {
			enter(fmt.Sprintf("blk.%d.%s", l, rest), tensor)
		}
	}
	path := filepath.Join(t.TempDir(), file+".gguf")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	err = b.Write(out, func(t gguf.Tensor, w io.Writer) error {
		data, err := f.Data(from[t.Name])
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func layerOf(tensor string) (layer int, rest string, ok bool) {
	if _, err := fmt.Sscanf(tensor, "blk.%d.", &layer); err != nil {
		return 0, "", false
	}
	_, rest, _ = strings.Cut(strings.TrimPrefix(tensor, "blk."), ".")
	return layer, rest, true
}
