package node_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/session"
)

// A reply is the same bytes however it is computed. The tests below name the
// ways, cover every pair of them, and compare with a node that runs alone, on
// one thread, with the prompt in one piece.

const deepLayers = 10

// cuts are ways to split deepLayers layers over the nodes of a sameMesh, which
// differ in threads and kernel tier.
var cuts = [][]node.Piece{
	{{Node: "n2", Layers: 10}},
	{{Node: "n3", Layers: 10}},
	{{Node: "n2", Layers: 5}, {Node: "n1", Layers: 5}},
	{{Node: "n3", Layers: 1}, {Node: "n4", Layers: 9}},
	{{Node: "n4", Layers: 4}, {Node: "n1", Layers: 5}, {Node: "n2", Layers: 1}},
	{{Node: "n1", Layers: 8}, {Node: "n5", Layers: 1}, {Node: "n4", Layers: 1}},
	{{Node: "n5", Layers: 2}, {Node: "n4", Layers: 2}, {Node: "n3", Layers: 1}, {Node: "n2", Layers: 3}, {Node: "n1", Layers: 2}},
	{{Node: "n1", Layers: 1}, {Node: "n2", Layers: 1}, {Node: "n3", Layers: 1}, {Node: "n4", Layers: 3}, {Node: "n5", Layers: 4}},
}

// sameMesh starts five nodes that differ in what may not matter, and a head
// without weights.
func sameMesh(t *testing.T) (all []api.Running, head api.Running) {
	t.Helper()
	tiers := cpu.Tiers()
	var configs []api.Config
	for i := range 5 {
		configs = append(configs, api.Config{Name: fmt.Sprint("n", i+1), Threads: 1 + i%2, Tier: tiers[i%len(tiers)], Memory: 2 << 30})
	}
	all = together(t, append(configs, api.Config{Name: "head", Memory: -1})...)
	return all, all[5]
}

// entry is a model under one numeric profile.
type entry struct {
	file string
	kv   string
	act  int
}

func (e entry) String() string { return fmt.Sprintf("%s-%s-%d", e.file, e.kv, e.act) }

// ask is how a reply is sampled: part of what is asked, so each has replies of
// its own.
type ask struct {
	name string
	set  func(*api.GenerateRequest)
}

var asks = []ask{
	{"greedy", func(*api.GenerateRequest) {}},
	{"penalised with min_p", func(r *api.GenerateRequest) {
		r.Temperature, r.MinP, r.TopP, r.Seed = ptr(1.5), ptr(0.02), ptr(1.0), ptr(uint64(9))
		r.RepeatPenalty, r.FrequencyPenalty, r.PresencePenalty = 1.2, 0.4, 0.3
		r.LogitBias = map[int]float64{40: 2, 41: -100}
	}},
	{"seeded", func(r *api.GenerateRequest) { r.Temperature, r.TopP, r.Seed = ptr(1.3), ptr(0.95), ptr(uint64(7)) }},
	{"top_k with log-probabilities", func(r *api.GenerateRequest) {
		r.Temperature, r.TopK, r.Seed, r.Logprobs, r.Choice = ptr(0.9), ptr(12), ptr(uint64(8)), 4, 1
	}},
	{"ended by a string", func(r *api.GenerateRequest) {
		// The string is in the reply: see stopped.
		r.Temperature, r.Seed, r.Stop = ptr(1.0), ptr(uint64(10)), []string{"\x00never"}
	}},
}

const (
	promptTokens = 40
	replyTokens  = 10
)

// long says that the forms of tests that take minutes are wanted.
func long() bool { return os.Getenv("WEFT_TEST_LONG") != "" }

func (a ask) request(model string, prompt []int32) api.GenerateRequest {
	r := greedy(model, prompt, replyTokens)
	a.set(&r)
	return r
}

// bytesOf is what must be equal of two replies.
type bytesOf struct {
	Tokens   []int32
	Text     string
	Finish   string
	Hash     string
	Logprobs []api.Token
}

func bytesIn(r api.Reply) bytesOf {
	return bytesOf{r.Tokens, r.Text, r.FinishReason, r.StateHash, r.Logprobs}
}

// way is how a reply is computed: nothing of it may change a bit.
type way struct {
	cut    []node.Piece
	chunk  int
	prefix string // cold, warm: its beginning is in the prefix caches
	drafts string // none, right, wrong, mixed; with "ahead" before it, runs are in flight
	others int    // replies at the same time
}

func (w way) String() string {
	s := ""
	for _, p := range w.cut {
		s += fmt.Sprintf("%s:%d ", p.Node, p.Layers)
	}
	return fmt.Sprintf("%schunks of %d, %s prefix, %s drafts, %d others", s, w.chunk, w.prefix, w.drafts, w.others)
}

// pairwise picks combinations of factors such that every pair of values of two
// factors is in one of them: each next one is the best of some random ones.
func pairwise(sizes []int, seed uint64) [][]int {
	rng := rand.New(rand.NewPCG(seed, 0))
	type pair struct{ a, va, b, vb int }
	open := map[pair]bool{}
	for a := range sizes {
		for b := a + 1; b < len(sizes); b++ {
			for va := range sizes[a] {
				for vb := range sizes[b] {
					open[pair{a, va, b, vb}] = true
				}
			}
		}
	}
	var out [][]int
	for len(open) > 0 {
		var best []int
		most := 0
		for range 60 {
			pick := make([]int, len(sizes))
			for i, n := range sizes {
				pick[i] = rng.IntN(n)
			}
			gain := 0
			for p := range open {
				if pick[p.a] == p.va && pick[p.b] == p.vb {
					gain++
				}
			}
			if gain > most {
				best, most = pick, gain
			}
		}
		if best == nil {
			continue
		}
		for p := range open {
			if best[p.a] == p.va && best[p.b] == p.vb {
				delete(open, p)
			}
		}
		out = append(out, best)
	}
	return out
}

func TestPairwiseCoversEveryPair(t *testing.T) {
	sizes := []int{4, 3, 2, 3}
	picks := pairwise(sizes, 1)
	if len(picks) > 24 {
		t.Errorf("%d combinations are too many", len(picks))
	}
	for a := range sizes {
		for b := a + 1; b < len(sizes); b++ {
			for i := range sizes[a] * sizes[b] {
				va, vb := i/sizes[b], i%sizes[b]
				if !slices.ContainsFunc(picks, func(p []int) bool { return p[a] == va && p[b] == vb }) {
					t.Errorf("value %d of factor %d never meets value %d of factor %d", va, a, vb, b)
				}
			}
		}
	}
}

// book holds the plain replies: what one node gives in the plainest way.
type book struct {
	t     *testing.T
	solo  api.Running
	paths map[entry]string
	plain map[string]api.Reply
}

func newBook(t *testing.T, entries []entry) *book {
	b := &book{t: t, paths: map[entry]string{}, plain: map[string]api.Reply{}}
	b.solo = start(t, api.Config{Name: "solo", Solo: true})
	for _, e := range entries {
		b.paths[e] = deep(t, e.file, deepLayers)
		b.enter(b.solo, e)
	}
	return b
}

// enter adds a model to a node.
func (b *book) enter(r api.Running, e entry) {
	b.t.Helper()
	add(b.t, r, api.AddRequest{Path: b.paths[e], Name: e.String(), Context: 256, KV: e.kv, ActBits: e.act})
}

// beside is the number of the first prompt of those that run beside another.
const beside = 10

// promptOf is a prompt by number; those beside another are short.
func promptOf(n int) []int32 {
	if n >= beside {
		return sequence(n, promptTokens/3)
	}
	return sequence(n, promptTokens)
}

// reply gives the plain reply.
func (b *book) reply(e entry, a ask, prompt int) api.Reply {
	b.t.Helper()
	key := fmt.Sprint(e, a.name, prompt)
	if r, ok := b.plain[key]; ok {
		return r
	}
	q := a.request(e.String(), promptOf(prompt))
	q.Stop = nil
	r := b.solve(q)
	if a.name == "ended by a string" {
		q.Stop = []string{stringIn(b.t, r)}
		r = b.solve(q)
		if r.FinishReason != "stop" || len(r.Tokens) >= replyTokens {
			b.t.Fatalf("%q does not end the reply: %+v", q.Stop, r)
		}
	}
	b.plain[key] = r
	return r
}

func (b *book) solve(q api.GenerateRequest) api.Reply {
	b.t.Helper()
	q.NoPrefix, q.Speculate = true, "off"
	ctx := node.Tune(b.t.Context(), func(s *session.Spec) { s.Chunk = 256 })
	r, err := generateIn(b.t, ctx, b.solo, q)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// stringIn is a part of the middle of a reply's text.
func stringIn(t *testing.T, r api.Reply) string {
	t.Helper()
	text := []rune(r.Text)
	if len(text) < 5 {
		t.Fatalf("the reply %q is too short", r.Text)
	}
	return string(text[len(text)/2 : len(text)/2+2])
}

// request is a's request as the plain reply answers it.
func (b *book) request(e entry, a ask, prompt int) api.GenerateRequest {
	q := a.request(e.String(), promptOf(prompt))
	if q.Stop != nil {
		full := q
		full.Stop = nil
		q.Stop = []string{stringIn(b.t, b.solve(full))}
	}
	return q
}

// compute asks head in one way and compares with the plain reply.
func (b *book) compute(head api.Running, e entry, a ask, w way) {
	t := b.t
	t.Helper()
	const prompt = 3
	want := b.reply(e, a, prompt)
	q := b.request(e, a, prompt)
	q.NoPrefix = w.prefix == "cold"
	if w.prefix == "warm" {
		// Another conversation with the same beginning, in the same way.
		before := greedy(e.String(), append(slices.Clone(promptOf(prompt)[:33]), 5, 6, 7), 2)
		if _, err := generate(t, head, before); err != nil {
			t.Fatalf("%v %v: %v", e, w, err)
		}
	}
	var wg sync.WaitGroup
	for i := range w.others {
		other := asks[(i+1)%3]
		wantOther, r := b.reply(e, other, beside+i), b.request(e, other, beside+i)
		wg.Go(func() {
			got, err := generate(t, head, r)
			if err != nil {
				t.Errorf("%v %v: beside the reply: %v", e, w, err)
				return
			}
			if diff := cmp.Diff(bytesIn(wantOther), bytesIn(got)); diff != "" {
				t.Errorf("%v %v, a reply beside it (-alone +here):\n%s", e, w, diff)
			}
		})
	}
	kind, ahead := strings.CutPrefix(w.drafts, "ahead ")
	drafter := &drafter{kind: kind, reply: want.Tokens, prompt: len(q.Tokens)}
	if ahead {
		drafter.runs = 4
	}
	ctx := node.Tune(t.Context(), func(s *session.Spec) {
		s.Chunk = w.chunk
		s.Drafter = nil
		if w.drafts != "none" {
			s.Drafter = drafter.drafter()
		}
	})
	got, err := generateIn(t, ctx, head, q)
	wg.Wait()
	if err != nil {
		t.Fatalf("%v, %s, %v: %v", e, a.name, w, err)
	}
	if diff := cmp.Diff(bytesIn(want), bytesIn(got)); diff != "" {
		t.Fatalf("%v, %s, %v (-alone +here):\n%s", e, a.name, w, diff)
	}
	if len(got.Plan.Stages) != len(w.cut) {
		t.Fatalf("%v: %d stages", w, len(got.Plan.Stages))
	}
	if warm := got.Cached > 0; warm != (w.prefix == "warm") {
		t.Errorf("%v: %d tokens came from the prefix caches", w, got.Cached)
	}
	if w.drafts != "none" && drafter.asked == 0 {
		t.Errorf("%v: no draft was asked for", w)
	}
	if kind == "right" && !ahead && drafter.asked > len(want.Tokens)/2 {
		t.Errorf("%v: right drafts took %d runs for %d tokens", w, drafter.asked, len(want.Tokens))
	}
}

// drafter drafts from the tokens that a reply is known to have.
type drafter struct {
	kind   string
	reply  []int32
	prompt int
	asked  int
	runs   int // in flight at most; 0: 1
}

func (d *drafter) drafter() session.Drafter { return &session.Drafts{Give: d.draft, Runs: d.runs} }

func (d *drafter) draft(tokens []int32, room int) []int32 {
	d.asked++
	at := len(tokens) - d.prompt
	if at >= len(d.reply) {
		return nil
	}
	out := slices.Clone(d.reply[at:min(len(d.reply), at+min(room, 4))])
	for i := range out {
		if d.kind == "wrong" || d.kind == "mixed" && (at+i)%5 == 2 {
			out[i] = (out[i] + 1) % 300
		}
	}
	return out
}

func TestRepliesAreTheSameBytesHoweverTheyAreComputed(t *testing.T) {
	entries := []entry{
		{"llama-Q4_0", "f16", 16},
		{"qwen2-Q4_K_M", "f32", 8},
		{"qwen3-Q4_K_M", "f16", 8},
		{"qwen3moe-Q4_K_M", "f16", 8},
	}
	if long() {
		entries = append(entries, entry{"qwen3-Q4_K_M", "f32", 16}, entry{"llama-Q2_K", "f32", 8}, entry{"mixtral-Q4_K_M", "f32", 16}, entry{"qwen2moe-Q8_0", "f16", 8})
	}
	all, head := sameMesh(t)
	book := newBook(t, entries)
	for _, e := range entries {
		book.enter(all[0], e)
		seeModel(t, head, e.String())
	}
	chunks, prefixes, drafts, others := []int{256, 3, 17}, []string{"cold", "warm"}, []string{"none", "right", "wrong", "mixed", "ahead right", "ahead mixed"}, []int{0, 3}
	picks := pairwise([]int{len(entries), len(cuts), len(asks), len(chunks), len(prefixes), len(drafts), len(others)}, 1)
	// The picks of one plan follow each other.
	slices.SortStableFunc(picks, func(a, b []int) int { return a[1] - b[1] })
	begin, last := time.Now(), -1
	for i, p := range picks {
		if testing.Short() && i%3 != 0 {
			continue
		}
		if p[1] != last {
			last = p[1]
			nothingLeft(t, all...)
			node.Cut(head, 5*256, cuts[last])
		}
		w := way{cuts[p[1]], chunks[p[3]], prefixes[p[4]], drafts[p[5]], others[p[6]]}
		book.compute(head, entries[p[0]], asks[p[2]], w)
	}
	t.Logf("%d ways in %v", len(picks), time.Since(begin))
	nothingLeft(t, all...)
	node.Retire(head)
	for i, r := range all {
		if b, plans := node.Reserved(r); b != 0 || plans != 0 {
			t.Errorf("node %d still has %d bytes of %d plans", i, b, plans)
		}
	}
}
