package cli

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/weft-mesh/weft/node/api"
)

// tint is how a line of the live screen is written where colours are wanted.
type tint int

const (
	plainTint tint = iota
	titleTint
	goodTint
	warnTint
	dimTint
)

var tints = [...]string{titleTint: "\x1b[1m", goodTint: "\x1b[32m", warnTint: "\x1b[33m", dimTint: "\x1b[2m"}

type topLine struct {
	text string
	tint tint
}

// topSection is a list under titles.
type topSection struct {
	cols []column
	rows [][]string
	tint []tint // of rows
	skip int    // rows that are scrolled away
}

// screen is what stands on a screen of the model's size.
func (m *topModel) screen() string {
	height := max(m.height, 1)
	lines := m.head()
	room := height - len(lines) - 1
	if m.shown() {
		lines = append(lines, m.body(room)...)
	}
	for len(lines) < height-1 {
		lines = append(lines, topLine{})
	}
	lines = lines[:max(height-1, 0)]
	keys := "q quit  l links  arrows scroll"
	if m.links {
		keys = "q quit  l overview  arrows scroll"
	}
	lines = append(lines, topLine{keys, dimTint})
	return m.paint(lines)
}

// snapshot is everything, however long.
func (m *topModel) snapshot() string {
	lines := m.head()
	for _, s := range m.sections(true) {
		if len(s.rows) > 0 {
			lines = append(lines, topLine{})
			lines = append(lines, m.list(s, len(s.rows))...)
		}
	}
	return m.paint(lines) + "\n"
}

func (m *topModel) paint(lines []topLine) string {
	var b strings.Builder
	for i, l := range lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		text := ansi.Truncate(l.text, max(m.width, 1), "…")
		if m.colour && l.tint != plainTint && text != "" {
			text = tints[l.tint] + text + "\x1b[0m"
		}
		b.WriteString(text)
	}
	return b.String()
}

// head tells of the mesh as a whole, or that the daemon is away.
func (m *topModel) head() []topLine {
	var lines []topLine
	if m.known {
		s := m.o.Status
		lines = append(lines, topLine{clean(fmt.Sprintf("%s  %s  %s, up %s", s.Mesh, plural(len(m.o.Peers), "node"), s.Name, span(s.Uptime))), titleTint})
		if m.shown() {
			lines = append(lines, topLine{fmt.Sprintf("tokens/s %s %s memory %s of %s  disk %s free  %s", figure(m.tokensPerS()), curve(m.history), size(s.MemUsed), size(s.MemOffered), size(s.DiskFree), m.repliesText()), plainTint})
		}
	} else {
		lines = append(lines, topLine{"weft top", titleTint})
	}
	if m.away != nil {
		text := oneLine(m.away.Error())
		if m.known {
			text = fmt.Sprintf("%s (last seen %s ago; waiting for it)", text, span(m.now.Sub(m.at)))
		}
		for l := range strings.SplitSeq(wrap(text, max(m.width, 20), ""), "\n") {
			lines = append(lines, topLine{l, warnTint})
		}
	}
	return lines
}

func (m *topModel) repliesText() string {
	active, queued := 0, 0
	for _, p := range m.o.Peers {
		active, queued = active+p.Sessions, queued+p.Queued
	}
	text := fmt.Sprintf("%d replies", active)
	if active == 1 {
		text = "1 reply"
	}
	if queued > 0 {
		text += fmt.Sprintf(", %d wait", queued)
	}
	return text
}

// curve draws the last values as a line of blocks.
func curve(values []float64) string {
	blocks := []rune("▁▂▃▄▅▆▇█")
	const wide = 12
	values = values[max(0, len(values)-wide):]
	top := 0.0
	for _, v := range values {
		top = max(top, v)
	}
	var b strings.Builder
	for _, v := range values {
		i := 0
		if top > 0 {
			i = int(v / top * float64(len(blocks)-1))
		}
		b.WriteRune(blocks[max(0, min(i, len(blocks)-1))])
	}
	return b.String()
}

// figure writes a rate: "0", "41.5", "1230".
func figure(v float64) string {
	switch {
	case v < 0.05:
		return "0"
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// body shares the room among the sections: the first come first, and each gets
// a title and a row before another gets its second.
func (m *topModel) body(room int) []topLine {
	var list []topSection
	for _, s := range m.sections(false) {
		if len(s.rows) > 0 {
			list = append(list, s)
		}
	}
	const frame = 2 // the empty line and the titles
	give := make([]int, len(list))
	left := room
	for i := range list {
		if left >= frame+1 {
			give[i], left = 1, left-frame-1
		}
	}
	for i := range list {
		if give[i] > 0 {
			more := min(left, len(list[i].rows)-give[i])
			if i < len(list)-1 {
				more = min(more, max(left/2, 1))
			}
			more = max(0, min(more, left))
			give[i], left = give[i]+more, left-more
		}
	}
	for i := range list { // what the later ones did not take
		if give[i] > 0 {
			more := max(0, min(left, len(list[i].rows)-give[i]))
			give[i], left = give[i]+more, left-more
		}
	}
	var out []topLine
	for i, s := range list {
		if give[i] > 0 {
			out = append(out, topLine{})
			out = append(out, m.list(s, give[i])...)
		}
	}
	return out
}

// list writes a section's titles and so many of its rows; what does not fit is
// counted in the last one.
func (m *topModel) list(s topSection, rows int) []topLine {
	skip := max(0, min(s.skip, len(s.rows)-rows))
	shown, tint := s.rows[skip:], s.tint[skip:]
	more := 0
	if len(shown) > rows {
		more = len(shown) - rows
		if rows > 1 {
			rows, more = rows-1, more+1
		}
		shown = shown[:rows]
	}
	var b bytes.Buffer
	cols, cells := narrow(s.cols, s.rows[skip:skip+len(shown)], m.width)
	table(&b, m.width, cols, cells)
	var out []topLine
	for i, l := range strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n") {
		t := titleTint
		if i > 0 {
			t = tint[i-1]
		}
		out = append(out, topLine{l, t})
	}
	if more > 0 && len(out) > 2 {
		out = append(out, topLine{fmt.Sprintf("   and %d more", more), dimTint})
	}
	return out
}

// narrow leaves out columns from the right until the least widths fit.
func narrow(cols []column, rows [][]string, width int) ([]column, [][]string) {
	for len(cols) > 2 {
		least := 2 * (len(cols) - 1)
		for i, c := range cols {
			w := ansi.StringWidth(c.title)
			for _, r := range rows {
				w = max(w, ansi.StringWidth(clean(r[i])))
			}
			if c.least > 0 {
				w = min(w, c.least)
			}
			least += w
		}
		if least <= width {
			break
		}
		cols = cols[:len(cols)-1]
	}
	out := make([][]string, len(rows))
	for i, r := range rows {
		out[i] = slices.Clone(r[:len(cols)])
	}
	return cols, out
}

// sections are the lists in the order in which they get room.
func (m *topModel) sections(all bool) []topSection {
	nodes, links := m.nodeList(), m.linkList()
	switch {
	case all:
		return []topSection{nodes, m.replyList(), m.modelList(), m.stageList(), m.gpuList(), links}
	case m.links:
		links.skip = m.scroll
		return []topSection{links}
	}
	nodes.skip = m.scroll
	return []topSection{nodes, m.replyList(), m.modelList(), m.stageList(), m.gpuList()}
}

func (s *topSection) add(t tint, cells ...string) {
	s.rows, s.tint = append(s.rows, cells), append(s.tint, t)
}

func (m *topModel) nodeList() topSection {
	s := topSection{cols: []column{
		{title: ""},
		{title: "NODE", least: 8},
		{title: "STATE", least: 7},
		{title: "TOK/S", right: true},
		{title: "FREE/OFFERED", right: true},
		{title: "BUSY", right: true},
		{title: "RTT", right: true},
		{title: "LINK", right: true},
		{title: "REPLIES", right: true},
	}}
	for _, p := range m.o.Peers {
		f := peerFigures(p)
		mark, t := "", plainTint
		if p.Self {
			mark = "*"
		}
		state := peerState(p)
		if state != "alive" {
			t = warnTint
		}
		replies := ""
		if p.Sessions+p.Queued > 0 {
			replies = fmt.Sprint(p.Sessions)
		}
		s.add(t, mark, p.Name, state, figure(p.TokensPerS), f.memory, f.busy, f.rtt, f.link, replies)
	}
	return s
}

func (m *topModel) replyList() topSection {
	s := topSection{cols: []column{
		{title: "REPLY", least: 10},
		{title: "STATE", least: 7},
		{title: "TOKENS", right: true},
		{title: "TOK/S", right: true},
		{title: "PROMPT", right: true},
		{title: "FOR", right: true},
	}}
	for _, r := range m.o.Status.Replies {
		state, t := "running", goodTint
		switch {
		case r.Queued:
			state, t = "queued", warnTint
		case r.Tokens == 0:
			state = "prefill"
		}
		s.add(t, r.Model, state, fmt.Sprint(r.Tokens), figure(r.TokensPerS), fmt.Sprint(r.PromptTokens), span(r.Age))
	}
	return s
}

func (m *topModel) modelList() topSection {
	s := topSection{cols: []column{{title: "MODEL", least: 12}, {title: "STATE", least: 12}, {title: "HELD BY", least: 8}}}
	for _, v := range m.o.Models {
		state, t := v.State, plainTint
		switch {
		case state == "ready":
			t = goodTint
		case strings.HasPrefix(state, "degraded"), strings.HasPrefix(state, "failed"):
			t = warnTint
		case state == "":
			state = "idle"
		}
		s.add(t, v.Name, state, strings.Join(v.Holders, " "))
	}
	return s
}

func (m *topModel) stageList() topSection {
	s := topSection{cols: []column{
		{title: "STAGE HERE", least: 10},
		{title: "STATE", least: 7},
		{title: "LAYERS", right: true},
		{title: "WEIGHTS", right: true},
		{title: "STEP", right: true},
		{title: "KV BLOCKS", right: true},
		{title: "SESSIONS", right: true},
	}}
	for _, st := range m.o.Status.Stages {
		step := ""
		if st.StepUsec > 0 {
			step = millis(float64(st.StepUsec) / 1000)
		}
		s.add(plainTint, st.Model, st.State, layers(st.First, st.Last), size(st.Bytes), step, fmt.Sprintf("%d/%d", st.KVUsed, st.KVBlocks), fmt.Sprint(st.Sessions))
	}
	return s
}

// linkList has every link that anybody measured, the slowest first.
func (m *topModel) linkList() topSection {
	s := topSection{cols: []column{{title: "FROM", least: 8}, {title: "TO", least: 8}, {title: "RTT", right: true}, {title: "BANDWIDTH", right: true}}}
	type link struct {
		to string
		api.PeerLink
	}
	var all []link
	for _, p := range m.o.Peers {
		for _, l := range p.Links {
			all = append(all, link{p.Name, l})
		}
	}
	slices.SortStableFunc(all, func(a, b link) int {
		return cmp.Or(cmp.Compare(b.RTT, a.RTT), cmp.Compare(a.Name, b.Name), cmp.Compare(a.to, b.to))
	})
	for _, l := range all {
		rate := ""
		if l.Bandwidth > 0 {
			rate = size(int64(l.Bandwidth)) + "/s"
		}
		s.add(plainTint, l.Name, l.to, span(l.RTT), rate)
	}
	return s
}
