package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/weft-mesh/weft/node/api"
)

// Times of the progress display.
const (
	quietOnScreen = 400 * time.Millisecond // shorter waits show nothing
	quietInFile   = time.Second
	redraw        = 150 * time.Millisecond
	betweenLines  = 10 * time.Second // of one phase, where lines stay
)

// progress shows what a command waits for: one line that is written over on a
// screen, lines now and then elsewhere. Nothing is shown for short waits.
type progress struct {
	t     *terminal
	begin time.Time
	quit  chan struct{}
	ended chan struct{}
	once  sync.Once

	mu     sync.Mutex // guards what follows
	last   api.Progress
	since  time.Time // of last's phase and text
	any    bool
	fresh  bool      // not printed yet, where lines stay
	paint  time.Time // when the last line was printed, where lines stay
	drawn  bool      // a line stands on the screen
	paused bool
}

// newProgress starts a display that its caller stops.
func newProgress(t *terminal) *progress {
	p := &progress{t: t, begin: time.Now(), quit: make(chan struct{}), ended: make(chan struct{})}
	go p.loop()
	return p
}

func (p *progress) loop() {
	defer close(p.ended)
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		select {
		case <-p.quit:
			return
		case now := <-tick.C:
			p.draw(now)
		}
	}
}

// update takes the newest state.
func (p *progress) update(v api.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.any || v.Phase != p.last.Phase || v.Text != p.last.Text || v.Node != p.last.Node {
		p.since, p.fresh = time.Now(), true
	}
	p.last, p.any, p.paused = v, true, false
	if v.Notice != "" {
		p.wipe()
		fmt.Fprintf(p.t, "\n%s\n\n", cleanLines(v.Notice))
	}
}

// clear takes the line off the screen until the next update: a reply's text
// follows.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = true
	p.wipe()
}

func (p *progress) wipe() {
	if p.drawn {
		_, _ = io.WriteString(p.t, "\r\x1b[K")
		p.drawn = false
	}
}

// stop ends the display and waits for it. Later calls do nothing.
func (p *progress) stop() {
	p.once.Do(func() {
		close(p.quit)
		<-p.ended
		p.clear()
	})
}

func (p *progress) draw(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.any || p.paused {
		return
	}
	if p.t.tty {
		if now.Sub(p.begin) < quietOnScreen {
			return
		}
		_, _ = io.WriteString(p.t, "\r"+progressLine(p.last, now.Sub(p.since), p.t.width()-1)+"\x1b[K")
		p.drawn = true
		return
	}
	if now.Sub(p.begin) < quietInFile || now.Sub(p.since) < quietInFile/4 || (!p.fresh && now.Sub(p.paint) < betweenLines) {
		return
	}
	_, _ = io.WriteString(p.t, progressLine(p.last, now.Sub(p.since), 80)+"\n")
	p.fresh, p.paint = false, now
}

// progressLine is at most width columns: text, and as much of the figures as
// fits behind it.
func progressLine(v api.Progress, took time.Duration, width int) string {
	text := clean(v.Text)
	if text == "" {
		text = clean(v.Phase)
	}
	if v.Node != "" && !strings.Contains(v.Text, v.Node) {
		text = clean(v.Node) + ": " + text
	}
	figures := progressFigures(v, took)
	room := width - ansi.StringWidth(figures)
	if figures != "" && room < 20 {
		figures, room = "", width
	}
	return ansi.Truncate(text, room, "…") + figures
}

func progressFigures(v api.Progress, took time.Duration) string {
	var parts []string
	amount := func(n int64) string {
		if v.Unit == "bytes" {
			return size(n)
		}
		return fmt.Sprint(n)
	}
	rate := v.Rate
	switch {
	case v.Total > 0 && v.Done >= 0 && v.Done <= v.Total:
		parts = append(parts, fmt.Sprintf("%d%%", 100*v.Done/v.Total), amount(v.Done)+" of "+amount(v.Total))
	case v.Done > 0:
		parts = append(parts, amount(v.Done))
	}
	if v.Unit == "tokens" && len(parts) > 0 {
		parts[len(parts)-1] += " tokens"
	}
	if rate > 0 {
		parts = append(parts, amount(int64(rate))+"/s")
		if left := float64(v.Total-v.Done) / rate; v.Total > 0 && left >= 1 && left < 1e6 {
			parts = append(parts, span(time.Duration(left*float64(time.Second)))+" left")
		}
	} else if took >= 2*time.Second {
		parts = append(parts, span(took))
	}
	if len(parts) == 0 {
		return ""
	}
	return "  " + strings.Join(parts, "  ")
}
