package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node/api"
)

var topBegin = time.Unix(1_700_000_000, 0)

// topOverview is a mesh of n nodes.
func topOverview(n int) api.Overview {
	o := api.Overview{Status: api.Status{
		Name: "desk", Mesh: "desk-mesh (4a367f2d)", Uptime: time.Hour, MemUsed: 1.5e9, MemOffered: 18e9, DiskFree: 120e9,
		Replies: []api.ReplyState{{Model: "tiny", PromptTokens: 12, Tokens: 40, TokensPerS: 41.5, Age: 3 * time.Second}, {Model: "tiny", PromptTokens: 9, Queued: true, Age: time.Second}},
		Stages:  []api.LoadedStage{{Model: "tiny", Last: 15, State: "ready", Bytes: 1e9, KVBlocks: 100, KVUsed: 3, Sessions: 1, StepUsec: 6200}},
	}}
	for i := range n {
		p := api.Peer{
			Name: fmt.Sprintf("node-%02d", i), State: "alive", Device: "cpu", TokensPerS: 1.5, MemFree: 1e9, MemOffered: 2e9, Busy: 0.5,
			RTT: time.Duration(i) * time.Millisecond, Bandwidth: 117e6, Sessions: 1,
		}
		if i == 0 {
			p.Name, p.Self, p.Bandwidth = "desk", true, 0
		}
		for j := range i {
			p.Links = append(p.Links, api.PeerLink{Name: fmt.Sprintf("node-%02d", j), RTT: time.Duration(i+j) * time.Millisecond, Bandwidth: 1e8})
		}
		o.Peers = append(o.Peers, p)
	}
	o.Models = []api.Model{{Name: "tiny", State: "ready", Holders: []string{"desk"}}, {Name: "big", State: "degraded: nas was lost"}, {Name: "idle"}}
	return o
}

// send feeds messages to a model as bubbletea would.
func send(m *topModel, msgs ...tea.Msg) tea.Cmd {
	var cmd tea.Cmd
	for _, msg := range msgs {
		_, cmd = m.Update(msg)
	}
	return cmd
}

func TestTheLiveScreenShowsTheMesh(t *testing.T) {
	m := newTopModel(nil, time.Second, false)
	send(m, tea.WindowSizeMsg{Width: 80, Height: 24}, lookedMsg{topOverview(3), topBegin})
	want := strings.TrimLeft(`
desk-mesh (4a367f2d)  3 nodes  desk, up 1 h 0 min
tokens/s 4.5 █ memory 1.5 GB of 18 GB  disk 120 GB free  3 replies

   NODE     STATE  TOK/S   FREE/OFFERED  BUSY     RTT      LINK  REPLIES
*  desk     alive    1.5  1.0 GB/2.0 GB   50%                          1
   node-01  alive    1.5  1.0 GB/2.0 GB   50%  1.0 ms  117 MB/s        1
   node-02  alive    1.5  1.0 GB/2.0 GB   50%  2.0 ms  117 MB/s        1

REPLY  STATE    TOKENS  TOK/S  PROMPT    FOR
tiny   running      40   41.5      12  3.0 s
tiny   queued        0      0       9  1.0 s

MODEL  STATE                   HELD BY
tiny   ready                   desk
big    degraded: nas was lost
idle   idle

STAGE HERE  STATE  LAYERS  WEIGHTS    STEP  KV BLOCKS  SESSIONS
tiny        ready    0-15   1.0 GB  6.2 ms      3/100         1




q quit  l links  arrows scroll`, "\n")
	if d := cmp.Diff(want, m.screen()); d != "" {
		t.Error(d)
	}
	send(m, tea.KeyPressMsg{Code: 'l', Text: "l"})
	if s := m.screen(); !strings.Contains(s, "FROM") || !strings.Contains(s, "node-01  node-02  3.0 ms   100 MB/s") || strings.Contains(s, "MODEL") {
		t.Errorf("the links:\n%s", s)
	}
}

func TestTheLiveScreenFitsEverySize(t *testing.T) {
	for _, nodes := range []int{1, 3, 30} {
		for width := 1; width < 130; width += 9 {
			for height := 1; height < 40; height += 2 {
				m := newTopModel(nil, time.Second, true)
				send(m, tea.WindowSizeMsg{Width: width, Height: height}, lookedMsg{topOverview(nodes), topBegin})
				for range 2 {
					lines := strings.Split(m.screen(), "\n")
					if len(lines) != height {
						t.Fatalf("%d nodes at %dx%d: %d lines", nodes, width, height, len(lines))
					}
					for _, l := range lines {
						if w := ansi.StringWidth(l); w > width {
							t.Fatalf("%d nodes at %dx%d: %d columns: %q", nodes, width, height, w, l)
						}
					}
					send(m, tea.KeyPressMsg{Code: 'l', Text: "l"})
				}
			}
		}
	}
}

func TestASmallScreenShowsNodesFirstAndCountsTheRest(t *testing.T) {
	m := newTopModel(nil, time.Second, false)
	send(m, tea.WindowSizeMsg{Width: 80, Height: 8}, lookedMsg{topOverview(30), topBegin})
	s := m.screen()
	if !strings.Contains(s, "desk") || !strings.Contains(s, "and 28 more") || strings.Contains(s, "MODEL") {
		t.Errorf("got\n%s", s)
	}
	for range 100 {
		send(m, tea.KeyPressMsg{Code: tea.KeyDown})
	}
	if s = m.screen(); !strings.Contains(s, "node-29") || strings.Contains(s, "more") {
		t.Errorf("scrolled to the end:\n%s", s)
	}
	send(m, tea.KeyPressMsg{Code: tea.KeyHome}, lookedMsg{topOverview(2), topBegin})
	if s = m.screen(); !strings.Contains(s, "node-01") || strings.Contains(s, "node-29") {
		t.Errorf("departed nodes stay:\n%s", s)
	}
}

func TestADaemonThatGoesAwayIsToldAndItsValuesVanish(t *testing.T) {
	m := newTopModel(nil, time.Second, false)
	send(m, lookedMsg{topOverview(3), topBegin})
	gone := errors.New("no weft is running for ~/x: start it with `weft up`")
	cmd := send(m, awayMsg{gone, topBegin.Add(time.Second)})
	if s := m.screen(); cmd == nil || !strings.Contains(s, "start it with `weft up`") || !strings.Contains(s, "last seen 1.0 s ago") || !strings.Contains(s, "node-01") {
		t.Errorf("a second later:\n%s", s)
	}
	send(m, awayMsg{gone, topBegin.Add(10 * time.Second)})
	if s := m.screen(); strings.Contains(s, "node-01") || !strings.Contains(s, "last seen 10 s ago") {
		t.Errorf("ten seconds later:\n%s", s)
	}
	send(m, lookedMsg{topOverview(3), topBegin.Add(11 * time.Second)})
	if s := m.screen(); strings.Contains(s, "weft up") || !strings.Contains(s, "node-01") {
		t.Errorf("after its return:\n%s", s)
	}
	never := newTopModel(nil, time.Second, false)
	send(never, awayMsg{gone, topBegin})
	if s := never.screen(); !strings.Contains(s, "start it with") {
		t.Errorf("got\n%s", s)
	}
}

func TestTheScreenAsksOnceAtATime(t *testing.T) {
	asked := 0
	m := newTopModel(func() (api.Overview, error) { asked++; return topOverview(1), nil }, time.Nanosecond, false)
	if msg := m.Init()(); asked != 1 {
		t.Errorf("the first look: %v", msg)
	}
	if send(m, tea.WindowSizeMsg{Width: 10, Height: 10}, tea.KeyPressMsg{Code: 'j', Text: "j"}) != nil {
		t.Error("a key or a new size asks the daemon")
	}
	due := send(m, lookedMsg{topOverview(1), topBegin})()
	if _, ok := due.(dueMsg); !ok || asked != 1 {
		t.Errorf("after an answer comes %T", due)
	}
	if msg := send(m, due)(); asked != 2 {
		t.Errorf("when it is due: %T", msg)
	}
	for _, k := range []tea.KeyPressMsg{{Code: 'q', Text: "q"}, {Code: 'c', Mod: tea.ModCtrl}, {Code: tea.KeyEscape}} {
		if cmd := send(m, k); cmd == nil || cmd() != (tea.QuitMsg{}) {
			t.Errorf("%v does not quit", k)
		}
	}
}

func TestColoursAreLeftOut(t *testing.T) {
	o := topOverview(2)
	o.Peers[1].State, o.Peers[1].Name = "incompatible: \x1b[31mwhy", "evil\x1b[2J\nname"
	for _, colour := range []bool{true, false} {
		m := newTopModel(nil, time.Second, colour)
		m.take(o, topBegin)
		s := m.screen()
		if got := strings.Contains(s, "\x1b["); got != colour {
			t.Errorf("colours %v: %q", colour, s)
		}
		if strings.Contains(s, "\x1b[2J") || strings.Contains(s, "\x1b[31m") || !strings.Contains(ansi.Strip(s), "evil name") {
			t.Errorf("foreign text steers the screen: %q", s)
		}
	}
}

func TestASnapshotHasEverything(t *testing.T) {
	m := newTopModel(nil, time.Second, false)
	m.take(topOverview(30), topBegin)
	s := m.snapshot()
	for _, want := range []string{"node-29", "degraded", "STAGE HERE", "FROM"} {
		if !strings.Contains(s, want) {
			t.Errorf("%q is missing:\n%s", want, s)
		}
	}
	if strings.Contains(s, "more") || strings.Contains(s, "quit") {
		t.Errorf("got\n%s", s)
	}
}
