package cli

import (
	"cmp"
	"slices"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/weft-mesh/weft/node/api"
)

// What the live screen is told.
type (
	// lookedMsg is an answer of the daemon.
	lookedMsg struct {
		overview api.Overview
		at       time.Time
	}
	// awayMsg says that it gave none.
	awayMsg struct {
		err error
		at  time.Time
	}
	// dueMsg asks for the next look.
	dueMsg time.Time
)

// topHistory is how many looks the curve of tokens/s spans.
const topHistory = 40

// keepValues is how long the values of a daemon that does not answer stay on
// the screen.
const keepValues = 3 * time.Second

// topModel is the live screen as a pure state: it changes by messages alone and
// has no clock of its own. look is called by bubbletea, outside of Update.
type topModel struct {
	look   func() (api.Overview, error)
	every  time.Duration
	colour bool

	width, height int
	links         bool // all links instead of replies, models and stages
	scroll        int  // of the first list

	o       api.Overview
	known   bool // o was told
	at      time.Time
	now     time.Time
	away    error // why there is no newer o
	history []float64
}

func newTopModel(look func() (api.Overview, error), every time.Duration, colour bool) *topModel {
	return &topModel{look: look, every: every, colour: colour, width: 80, height: 24}
}

// Init implements tea.Model.
func (m *topModel) Init() tea.Cmd { return m.ask }

// ask is a command that looks once.
func (m *topModel) ask() tea.Msg {
	o, err := m.look()
	if err != nil {
		return awayMsg{err, time.Now()}
	}
	return lookedMsg{o, time.Now()}
}

// Update implements tea.Model. The next look is due after the last one has
// ended, so that there is never more than one.
func (m *topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	next := tea.Tick(m.every, func(t time.Time) tea.Msg { return dueMsg(t) })
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		return m, m.key(msg.String())
	case lookedMsg:
		m.take(msg.overview, msg.at)
		return m, next
	case awayMsg:
		m.now, m.away = msg.at, msg.err
		return m, next
	case dueMsg:
		m.now = time.Time(msg)
		return m, m.ask
	}
	return m, nil
}

// take shows a new answer.
func (m *topModel) take(o api.Overview, at time.Time) {
	slices.SortStableFunc(o.Peers, func(a, b api.Peer) int {
		if a.Self != b.Self {
			return cmp.Compare(btoi(b.Self), btoi(a.Self))
		}
		return cmp.Compare(a.Name, b.Name)
	})
	m.o, m.known, m.at, m.now, m.away = o, true, at, at, nil
	m.history = append(m.history, m.tokensPerS())
	m.history = m.history[max(0, len(m.history)-topHistory):]
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// tokensPerS is what all heads of the mesh give.
func (m *topModel) tokensPerS() float64 {
	if len(m.o.Peers) == 0 {
		return m.o.Status.TokensPerS
	}
	sum := 0.0
	for _, p := range m.o.Peers {
		sum += p.TokensPerS
	}
	return sum
}

func (m *topModel) key(k string) tea.Cmd {
	page := max(1, m.height-8)
	switch k {
	case "q", "esc", "ctrl+c":
		return tea.Quit
	case "l":
		m.links, m.scroll = !m.links, 0
	case "up", "k":
		m.scroll--
	case "down", "j":
		m.scroll++
	case "pgup":
		m.scroll -= page
	case "pgdown", "space":
		m.scroll += page
	case "home", "g":
		m.scroll = 0
	}
	m.scroll = max(0, min(m.scroll, m.scrolled()-1))
	return nil
}

// scrolled is how many rows the list has that the keys move.
func (m *topModel) scrolled() int {
	if !m.links {
		return len(m.o.Peers)
	}
	n := 0
	for _, p := range m.o.Peers {
		n += len(p.Links)
	}
	return n
}

// shown says whether the values are fresh enough to be on the screen.
func (m *topModel) shown() bool {
	return m.known && (m.away == nil || m.now.Sub(m.at) < keepValues)
}

// View implements tea.Model.
func (m *topModel) View() tea.View {
	v := tea.NewView(m.screen())
	v.AltScreen = true
	v.WindowTitle = "weft top"
	return v
}
