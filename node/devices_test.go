package node_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/kernels/cpu"
	"github.com/weft-mesh/weft/kernels/opencl/driver"
	"github.com/weft-mesh/weft/node"
	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/devices"
	"github.com/weft-mesh/weft/node/devices/devicestest"
)

// gpus are cards of a test: with so much memory each, on other kernels than the processor; the first is the
// fastest.
func gpus(memory ...int64) *devicestest.Backend {
	b := &devicestest.Backend{}
	tiers := cpu.Tiers()
	for i, m := range memory {
		b.Cards = append(b.Cards, &devicestest.Card{
			Info: driver.Info{Name: fmt.Sprint("Card ", i), Vendor: "Vendor", DriverName: "opencl, Platform"}, Memory: m, Tier: tiers[min(1, len(tiers)-1)],
			Slow: time.Duration(i) * 2 * time.Millisecond,
		})
	}
	return b
}

// cardFiles spare the tests checks and measurements of cards: what the first node
// with as many found out serves the others.
var cardFiles struct {
	sync.Mutex
	kept map[string][]byte
}

// startCards starts a node on a machine with cards and waits until it knows them.
func startCards(t *testing.T, c api.Config, patience time.Duration, b *devicestest.Backend) api.Running {
	t.Helper()
	r := startWith(t, c, patience, b)
	node.DevicesKnown(r)
	keepCards(r)
	return r
}

// startSlowly is startCards that does not wait.
func startSlowly(t *testing.T, c api.Config, b *devicestest.Backend) api.Running {
	t.Helper()
	return startWith(t, c, 0, b)
}

func startWith(t *testing.T, c api.Config, patience time.Duration, b *devicestest.Backend) api.Running {
	t.Helper()
	c.Home, c.HTTP, c.Threads, c.Version = t.TempDir(), "off", 1, "1"
	if c.Devices == "" { // whatever their speed is: the processor would compute as well
		c.Devices = "platform"
	}
	if !c.Solo {
		c.Listen = []string{"127.0.0.1:0"}
	}
	cardFiles.Lock()
	for name, b := range cardFiles.kept {
		if err := os.WriteFile(filepath.Join(c.Home, name), b, 0o600); err != nil {
			t.Error(err)
		}
	}
	cardFiles.Unlock()
	r, err := node.StartWith(t.Context(), c, func(p api.Progress) { t.Logf("%s: %s", c.Name, p.Text) }, patience, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// keepCards keeps what a node has found out about its cards.
func keepCards(r api.Running) {
	home := node.Home(r)
	cardFiles.Lock()
	defer cardFiles.Unlock()
	if cardFiles.kept == nil {
		cardFiles.kept = map[string][]byte{}
	}
	for _, pattern := range []string{"speed*.json", "devices.json"} {
		names, _ := filepath.Glob(filepath.Join(home, pattern))
		for _, name := range names {
			if b, err := os.ReadFile(name); err == nil {
				cardFiles.kept[filepath.Base(name)] = b
			}
		}
	}
}

// margin is memory of a card that stages are not given.
const margin = 256 << 20

// addSix adds a model of six layers.
func addSix(t *testing.T, r api.Running) string {
	t.Helper()
	add(t, r, api.AddRequest{Path: deep(t, "llama-Q4_0", 6), Name: "m", Context: 256})
	return "m"
}

// roomFor is the memory of a card that takes so many of the model's layers.
func roomFor(t *testing.T, layers int) int64 {
	t.Helper()
	r := start(t, api.Config{Name: "sizes", Solo: true, Devices: "cpu"})
	bytes, err := node.CardMemory(r, addSix(t, r), layers)
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// plain is the reply of a machine without cards.
func plain(t *testing.T, q api.GenerateRequest) bytesOf {
	t.Helper()
	r := start(t, api.Config{Name: "plain", Solo: true, Devices: "cpu"})
	addSix(t, r)
	rep, err := generate(t, r, q)
	if err != nil {
		t.Fatal(err)
	}
	return bytesIn(rep)
}

func TestARepliesBytesAreTheSameOnCardsAndBesideThem(t *testing.T) {
	q := greedy("m", sequence(4, 20), 24)
	want := plain(t, q)
	startCards(t, api.Config{Name: "first", Solo: true}, 0, gpus(1<<30, 1<<30)) // measures them
	two, four := roomFor(t, 2), roomFor(t, 4)
	for name, tc := range map[string]struct {
		cards  *devicestest.Backend
		vram   int64
		places string
	}{
		"all on a card":              {gpus(1 << 30), 0, "0:0-5"},
		"the last layers on a card":  {gpus(1 << 30), two, "-1:0-3 0:4-5"},
		"on two cards":               {gpus(1<<30, 1<<30), four, "1:0-1 0:2-5"},
		"on two cards and beside":    {gpus(1<<30, 1<<30), two, "-1:0-1 1:2-3 0:4-5"},
		"no layer fits a card":       {gpus(1 << 30), 1 << 20, ""},
		"a card's memory is taken":   {gpus(margin / 2), 0, ""},
		"less is there than is said": {gpus(two + two/4), 0, "some"},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(name, "less") {
				tc.cards.Cards[0].Says = 1 << 30
			}
			r := startCards(t, api.Config{Name: "n", Solo: true, VRAM: tc.vram}, 0, tc.cards)
			addSix(t, r)
			rep, err := generate(t, r, q)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, bytesIn(rep)); diff != "" {
				t.Errorf("(-processor +cards):\n%s", diff)
			}
			got := node.Placed(r)
			if tc.places == "some" && strings.HasPrefix(got, "-1:0-") && strings.Contains(got, "0:") {
				got = tc.places
			}
			// Which of two equal cards measured faster is chance.
			if other := strings.NewReplacer(" 0:", " 1:", " 1:", " 0:").Replace(" " + tc.places); got != tc.places && got != strings.TrimSpace(other) {
				t.Errorf("layers lie on %q, want %q", got, tc.places)
			}
			nothingLeft(t, r)
			node.Retire(r)
			eventually(t, 5*time.Second, func() error {
				for i, c := range tc.cards.Cards {
					if c.Used() != 0 {
						return fmt.Errorf("card %d keeps %d bytes", i, c.Used())
					}
				}
				return nil
			})
		})
	}
}

// failing makes a card fail at a wait some waits from now on.
func failing(c *devicestest.Card, after int64, how func() error) {
	from := c.Waits.Load() + after
	c.OnWait(func(n int64) error {
		if n >= from {
			return how()
		}
		return nil
	})
}

func TestAReplyGoesOnWhenACardIsLost(t *testing.T) {
	q := greedy("m", sequence(4, 20), 100)
	want := plain(t, q)
	release := make(chan struct{})
	for name, how := range map[string]func() error{
		"it falls off the bus": func() error { return fmt.Errorf("unplugged: %w", driver.ErrLost) },
		"it hangs":             func() error { <-release; return errors.New("much later") },
	} {
		t.Run(name, func(t *testing.T) {
			b := gpus(1 << 30)
			r := startCards(t, api.Config{Name: "n", VRAM: roomFor(t, 2)}, 500*time.Millisecond, b)
			addSix(t, r)
			if _, err := generate(t, r, greedy("m", sequence(4, 20), 2)); err != nil {
				t.Fatal(err)
			}
			if got := node.Placed(r); got != "-1:0-3 0:4-5" {
				t.Fatalf("layers lie on %q", got)
			}
			failing(b.Cards[0], 9, how)
			rep, err := generate(t, r, q)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, bytesIn(rep)); diff != "" {
				t.Errorf("(-processor +lost card):\n%s", diff)
			}
			if rep.Failovers != 1 || node.Placed(r) != "" {
				t.Errorf("%d failovers, layers on %q", rep.Failovers, node.Placed(r))
			}
			s, err := r.Node().Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(s.GPUs) != 1 || s.GPUs[0].Used || !strings.Contains(s.GPUs[0].Reason, "failed while it computed") {
				t.Errorf("status says %+v", s.GPUs)
			}
			if name == "it hangs" {
				close(release)
			}
		})
	}
}

func TestANodeSaysWhatItComputesOn(t *testing.T) {
	b := gpus(1<<30, 1<<30)
	b.Cards[1].Wrong, b.Cards[1].Info.Name = true, "Liar"
	r := startCards(t, api.Config{Name: "n", VRAM: roomFor(t, 2)}, 0, b)
	m := addSix(t, r)
	p, err := r.Node().Plan(t.Context(), api.PlanRequest{Model: m}, func(api.Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	want := []api.StagePart{{Device: "processor", First: 0, Last: 3}, {Device: "Card 0", First: 4, Last: 5}}
	if len(p.Stages) != 1 {
		t.Fatalf("%+v", p)
	}
	if diff := cmp.Diff(want, p.Stages[0].Parts); diff != "" {
		t.Errorf("proposed (-want +got):\n%s", diff)
	}
	if _, err := generate(t, r, greedy(m, sequence(4, 20), 2)); err != nil {
		t.Fatal(err)
	}
	s, err := r.Node().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Stages) != 1 {
		t.Fatalf("%+v", s.Stages)
	}
	if diff := cmp.Diff(want, s.Stages[0].Parts); diff != "" {
		t.Errorf("loaded (-want +got):\n%s", diff)
	}
	if len(s.GPUs) != 2 || !s.GPUs[0].Used || s.GPUs[0].DecodeBps <= 0 || s.GPUs[0].Held <= 0 || s.GPUs[1].Used || !strings.Contains(s.GPUs[1].Reason, "contract") {
		t.Errorf("status: %+v", s.GPUs)
	}
	metrics, err := r.Node().WriteMetrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`weft_gpu_used{gpu="Card 0",id="opencl:0"} 1`, `weft_gpu_used{gpu="Liar",id="opencl:1"} 0`, `weft_gpu_stage_bytes{gpu="Card 0",id="opencl:0"}`} {
		if !strings.Contains(string(metrics), part) {
			t.Errorf("metrics lack %s", part)
		}
	}
	eventually(t, 10*time.Second, func() error {
		ps, err := r.Node().Peers(t.Context())
		if err != nil || len(ps) != 1 || len(ps[0].GPUs) != 2 || !ps[0].GPUs[0].Used || ps[0].GPUs[0].DecodeBps <= 0 || ps[0].GPUs[1].Used {
			return fmt.Errorf("peers: %+v %v", ps, err)
		}
		return nil
	})
}

// apart is a node with cards that hold two of a model's six layers, and a head that
// computes nothing.
func apart(t *testing.T, b *devicestest.Backend) (worker, head api.Running, model string) {
	t.Helper()
	worker = startCards(t, api.Config{Name: "worker", VRAM: roomFor(t, 2)}, 0, b)
	model = addSix(t, worker)
	head = start(t, api.Config{Name: "head", Memory: -1, Join: invite(t, worker, api.InviteRequest{})})
	see(t, 2, worker, head)
	seeModel(t, head, model)
	return worker, head, model
}

func TestAHeadPlansWithTheCardsOfAnotherNode(t *testing.T) {
	b := gpus(1 << 30)
	worker, head, m := apart(t, b)
	q := greedy(m, sequence(4, 20), 16)
	want := plain(t, q)
	eventually(t, 15*time.Second, func() error {
		p, err := head.Node().Plan(t.Context(), api.PlanRequest{Model: m}, func(api.Progress) {})
		if err != nil || len(p.Stages) != 1 || len(p.Stages[0].Parts) != 2 {
			return fmt.Errorf("%+v %v", p, err)
		}
		return nil
	})
	rep, err := generate(t, head, q)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, bytesIn(rep)); diff != "" {
		t.Errorf("(-processor +cards):\n%s", diff)
	}
	if got := node.Placed(worker); got != "-1:0-3 0:4-5" {
		t.Errorf("layers lie on %q", got)
	}
	failing(b.Cards[0], 5, func() error { return driver.ErrLost })
	if rep, err = generate(t, head, q); err != nil || rep.Failovers != 1 {
		t.Fatalf("%v, %d failovers", err, rep.Failovers)
	}
	if diff := cmp.Diff(want, bytesIn(rep)); diff != "" {
		t.Errorf("(-processor +lost card):\n%s", diff)
	}
}

func TestAnIdleModelGivesItsCardToAnother(t *testing.T) {
	b := gpus(1 << 30)
	r := startCards(t, api.Config{Name: "n", Solo: true, VRAM: roomFor(t, 6)}, 0, b)
	addSix(t, r)
	add(t, r, api.AddRequest{Path: tinyModels + "qwen3-Q4_K_M.gguf", Name: "q", Context: 256})
	for _, m := range []string{"m", "q", "m"} {
		if _, err := generate(t, r, greedy(m, sequence(4, 20), 4)); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(node.Placed(r), "0:") {
			t.Errorf("with %s asked for, layers lie on %q", m, node.Placed(r))
		}
		time.Sleep(1100 * time.Millisecond) // until it counts as idle
	}
}

func TestAMachineThatWantsADeviceItHasNotSaysSo(t *testing.T) {
	_, err := node.StartWith(t.Context(), api.Config{Home: t.TempDir(), Solo: true, HTTP: "off", Devices: "voodoo"}, func(api.Progress) {}, 0, gpus(1<<30))
	if kindOf(err) != api.KindInvalid || !strings.Contains(err.Error(), "Card 0") {
		t.Errorf("%v", err)
	}
	_, err = node.StartWith(t.Context(), api.Config{Home: t.TempDir(), Solo: true, HTTP: "off", Devices: "gpu,auto"}, func(api.Progress) {}, 0)
	if kindOf(err) != api.KindInvalid {
		t.Errorf("%v", err)
	}
	var none devices.Backend = &devicestest.Backend{Err: driver.ErrAbsent}
	r, err := node.StartWith(t.Context(), api.Config{Home: t.TempDir(), Solo: true, HTTP: "off"}, func(api.Progress) {}, 0, none)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestAPlanThatIsMadeAtTheStartWaitsForTheCards(t *testing.T) {
	b := gpus(1 << 30)
	opening := make(chan struct{})
	b.Cards[0].OnOpen(func() { <-opening })
	r := startSlowly(t, api.Config{Name: "n", Devices: "auto"}, b)
	m := addSix(t, r)
	go func() {
		time.Sleep(300 * time.Millisecond)
		close(opening)
	}()
	if _, err := generate(t, r, greedy(m, sequence(4, 20), 2)); err != nil {
		t.Fatal(err)
	}
	node.DevicesKnown(r)
	s, err := r.Node().Status(t.Context())
	if err != nil || len(s.GPUs) != 1 || !s.GPUs[0].Used {
		t.Errorf("%+v %v", s.GPUs, err)
	}
}

func TestLayersReturnToACardThatIsWellAgain(t *testing.T) {
	b := gpus(1 << 30)
	r := startCards(t, api.Config{Name: "n", Solo: true, VRAM: roomFor(t, 2)}, 0, b)
	m := addSix(t, r)
	if _, err := generate(t, r, greedy(m, sequence(4, 20), 2)); err != nil {
		t.Fatal(err)
	}
	if node.Relaid(r) {
		t.Error("a plan that has its card could be laid better")
	}
	failing(b.Cards[0], 5, func() error { return driver.ErrLost })
	if _, err := generate(t, r, greedy(m, sequence(4, 20), 20)); err != nil || node.Placed(r) != "" {
		t.Fatalf("%v, layers on %q", err, node.Placed(r))
	}
	b.Cards[0].OnWait(nil)
	eventually(t, 20*time.Second, func() error {
		if !node.Relaid(r) {
			return errors.New("nothing says that the card could be used again")
		}
		return nil
	})
}

// A node whose card came back says so to the head of its plan, and the head shows where
// layers lie, not where they would.
func TestLayersReturnToACardOfAnotherNode(t *testing.T) {
	b := gpus(1 << 30)
	worker, head, m := apart(t, b)
	q := greedy(m, sequence(4, 20), 8)
	if _, err := generate(t, head, q); err != nil {
		t.Fatal(err)
	}
	shown := func(want ...api.StagePart) {
		t.Helper()
		eventually(t, 20*time.Second, func() error {
			p, err := head.Node().Plan(t.Context(), api.PlanRequest{Model: m}, func(api.Progress) {})
			if err == nil && len(p.Stages) == 1 {
				if diff := cmp.Diff(want, p.Stages[0].Parts); diff == "" {
					return nil
				}
			}
			return fmt.Errorf("%+v %v", p.Stages, err)
		})
	}
	shown(api.StagePart{Device: "processor", First: 0, Last: 3}, api.StagePart{Device: "Card 0", First: 4, Last: 5})
	if node.Relaid(head) {
		t.Error("a plan that has its card could be laid better")
	}
	failing(b.Cards[0], 3, func() error { return driver.ErrLost })
	if _, err := generate(t, head, q); err != nil || node.Placed(worker) != "" {
		t.Fatalf("%v, layers on %q", err, node.Placed(worker))
	}
	shown()
	b.Cards[0].OnWait(nil)
	eventually(t, 30*time.Second, func() error {
		if !node.Relaid(head) {
			return errors.New("nothing tells the head that the card could be used again")
		}
		return nil
	})
	shown() // not what would be
	node.GiveBackOld(worker)
	if node.Plans(worker) != 1 {
		t.Error("a plan that a head is connected to is given back")
	}
	if err := head.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, func() error {
		node.GiveBackOld(worker)
		if n := node.Plans(worker); n > 0 {
			return fmt.Errorf("%d plans that nobody heads are kept beside the card", n)
		}
		return nil
	})
}

// Two nodes of one machine that use the same card each see what the other has left of it.
func TestTwoNodesShareACard(t *testing.T) {
	startCards(t, api.Config{Name: "first", Solo: true}, 0, gpus(1<<30)) // measures it
	q := greedy("m", sequence(4, 20), 24)
	want := plain(t, q)
	b := gpus(margin + roomFor(t, 4))
	for _, name := range []string{"one", "other"} {
		r := startCards(t, api.Config{Name: name, Solo: true}, 0, b)
		addSix(t, r)
		rep, err := generate(t, r, q)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, bytesIn(rep)); diff != "" {
			t.Errorf("%s (-processor +shared card):\n%s", name, diff)
		}
		if got := node.Placed(r); strings.Contains(got, "0:") != (name == "one") {
			t.Errorf("layers of %s lie on %q", name, got)
		}
	}
	if used := b.Cards[0].Used(); used == 0 || used > b.Cards[0].Memory {
		t.Errorf("%d of %d bytes are used", used, b.Cards[0].Memory)
	}
}
