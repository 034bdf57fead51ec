package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/chat"
)

func TestProgressLinesFit(t *testing.T) {
	for _, c := range []struct {
		p    api.Progress
		took time.Duration
		want string
	}{
		{api.Progress{Text: "loading", Node: "nas"}, 0, "nas: loading"},
		{api.Progress{Text: "loading on nas", Node: "nas"}, 5 * time.Second, "loading on nas  5.0 s"},
		{api.Progress{Phase: "probe"}, 0, "probe"},
		{api.Progress{Text: "fetching", Done: 1_500_000_000, Total: 3e9, Unit: "bytes", Rate: 1.5e8}, 0, "fetching  50%  1.5 GB of 3.0 GB  150 MB/s  10 s left"},
		{api.Progress{Text: "reading the prompt", Done: 5, Total: 20, Unit: "tokens"}, 0, "reading the prompt  25%  5 of 20 tokens"},
		{api.Progress{Text: "reading", Done: 5}, 0, "reading  5"},
		{api.Progress{Text: "bad", Done: 9, Total: 3, Unit: "bytes"}, 0, "bad  9 B"},
		{api.Progress{Text: "evil\x1b[2J\ntext"}, 0, "evil text"},
		{api.Progress{Text: strings.Repeat("long ", 40), Done: 1, Total: 2, Unit: "bytes"}, 0, strings.Repeat("long ", 13)[:61] + "…  50%  1 B of 2 B"},
	} {
		got := progressLine(c.p, c.took, 79)
		if d := cmp.Diff(c.want, got); d != "" {
			t.Error(d)
		}
		for width := 10; width < 100; width++ {
			if w := ansi.StringWidth(progressLine(c.p, c.took, width)); w > width {
				t.Fatalf("%d columns where %d are", w, width)
			}
		}
	}
}

func TestProgressIsQuietForShortWaitsAndCleansUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		p := newProgress(&terminal{w: &b, tty: true})
		p.update(api.Progress{Text: "loading"})
		time.Sleep(300 * time.Millisecond)
		p.stop()
		if b.Len() > 0 {
			t.Errorf("a short wait shows %q", b.String())
		}
		p = newProgress(&terminal{w: &b, tty: true})
		p.update(api.Progress{Text: "loading"})
		time.Sleep(time.Second)
		p.clear()
		n := b.Len()
		if !strings.Contains(b.String(), "\rloading") || !strings.HasSuffix(b.String(), "\r\x1b[K") {
			t.Errorf("got %q", b.String())
		}
		time.Sleep(time.Second)
		p.stop()
		p.stop()
		if b.Len() != n {
			t.Errorf("after the text began: %q", b.String()[n:])
		}
	})
}

func TestProgressInAFileIsALineNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		p := newProgress(&terminal{w: &b})
		for i := range 250 { // 25 seconds
			p.update(api.Progress{Text: "fetching", Done: int64(i), Total: 1000})
			time.Sleep(100 * time.Millisecond)
		}
		p.update(api.Progress{Text: "probing"})
		time.Sleep(time.Second)
		p.stop()
		if n := strings.Count(b.String(), "\n"); n != 4 {
			t.Errorf("got %d lines:\n%s", n, b.String())
		}
	})
}

func TestFiguresForPeople(t *testing.T) {
	for n, want := range map[int64]string{-1: "?", 0: "0 B", 999: "999 B", 1000: "1.0 kB", 9_940_000: "9.9 MB", 999_400_000: "999 MB", 999_600_000: "1.0 GB", 18e9: "18 GB", 5e15: "5000 TB"} {
		if got := size(n); got != want {
			t.Errorf("size of %d is %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		-1: "?", 730 * time.Microsecond: "0.7 ms", 12340 * time.Microsecond: "12.3 ms", 481 * time.Millisecond: "481 ms", 1500 * time.Millisecond: "1.5 s",
		42 * time.Second: "42 s", 75 * time.Second: "1 min 15 s", 75 * time.Minute: "1 h 15 min", 50 * time.Hour: "2 days",
	} {
		if got := span(d); got != want {
			t.Errorf("%v is %q, want %q", int64(d), got, want)
		}
	}
	for n, want := range map[int64]string{0: "", 135e6: "135M", 7_600_000_000: "7.6B", 671_000_000_000: "671B"} {
		if got := count(n); got != want {
			t.Errorf("count of %d is %q, want %q", n, got, want)
		}
	}
	if got := shortHash("abc"); got != "abc" {
		t.Error(got)
	}
}

func TestForeignTextCannotSteerTheScreen(t *testing.T) {
	if got, want := clean("a\x1b[31mb\x07\u202ec\xff\nd\te"), "abc d e"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := safe("a\x1b]0;title\x07b\r\n\tc é"), "a]0;titleb\n\tc é"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHomeFollowsTheSystem(t *testing.T) {
	env := func(kv ...string) func(string) string {
		return func(k string) string {
			for i := 0; i < len(kv); i += 2 {
				if kv[i] == k {
					return kv[i+1]
				}
			}
			return ""
		}
	}
	for _, c := range []struct {
		system string
		env    func(string) string
		want   string
	}{
		{"linux", env("HOME", "/h"), "/h/.local/share/weft"},
		{"linux", env("HOME", "/h", "XDG_DATA_HOME", "/data"), "/data/weft"},
		{"linux", env("HOME", "/h", "XDG_DATA_HOME", "relative"), "/h/.local/share/weft"},
		{"darwin", env("HOME", "/h"), "/h/Library/Application Support/weft"},
		{"windows", env("LocalAppData", "/local"), "/local/weft"},
		{"windows", env(), ""},
		{"linux", env(), ""},
		{"darwin", env(), ""},
	} {
		got, err := dataHome(c.system, c.env)
		if filepath.ToSlash(got) != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v", c.system, got, err)
		}
	}
	t.Setenv("WEFT_HOME", "")
	t.Setenv("HOME", "/h")
	t.Setenv("XDG_DATA_HOME", "")
	if h, err := home(); err != nil || h == "" {
		t.Errorf("%q, %v", h, err)
	}
	if got := shortHome("/h/x"); got != filepath.Join("~", "x") {
		t.Error(got)
	}
	if got := shortHome("/other"); got != "/other" {
		t.Error(got)
	}
}

// waiting is a node whose replies end with their context.
type waiting struct {
	api.Node
	begun chan []chat.Message
}

func (w *waiting) Generate(ctx context.Context, r api.GenerateRequest, emit func(api.Event) error) (api.Reply, error) {
	if err := emit(api.Event{Text: "so far\x1b"}); err != nil {
		return api.Reply{}, err
	}
	w.begun <- r.Messages
	<-ctx.Done()
	return api.Reply{}, ctx.Err()
}

func TestCtrlCInAChatStopsTheReplyAndThenTheChat(t *testing.T) {
	var out, notes bytes.Buffer
	c := &command{out: &terminal{w: &out, tty: true}, err: &terminal{w: &notes}}
	w := &waiting{begun: make(chan []chat.Message)}
	v := &conversation{c: c, f: &runFlags{}, n: w, signals: make(chan os.Signal, 1), lines: make(chan string)}
	ended := make(chan error)
	go func() { ended <- v.talk(t.Context()) }()
	v.lines <- "hello"
	<-w.begun
	v.signals <- syscall.SIGINT
	v.lines <- "again"
	if asked := <-w.begun; len(asked) != 3 || asked[1].Content.String() != "so far\x1b" {
		t.Errorf("the second question comes with %v", asked)
	}
	v.signals <- syscall.SIGINT
	v.signals <- syscall.SIGINT
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if d := cmp.Diff("so far\nso far\n", out.String()); d != "" {
		t.Error(d)
	}
	if !strings.Contains(notes.String(), "(stopped)") {
		t.Errorf("got %q", notes.String())
	}
}

func TestTablesShrinkToTheScreen(t *testing.T) {
	cols := []column{{title: "A", least: 3}, {title: "B", right: true}, {title: "C", least: 3}}
	for width := 20; width < 60; width++ {
		var b bytes.Buffer
		table(&b, width, cols, [][]string{{strings.Repeat("a", 30), "1234", "日本語日本語"}, {"x", "1", ""}})
		for l := range strings.Lines(b.String()) {
			if w := ansi.StringWidth(strings.TrimSuffix(l, "\n")); w > width {
				t.Fatalf("%d columns where %d are: %q", w, width, l)
			}
		}
	}
}

func TestANoticeInTheMiddleOfAReplyLeavesItsLine(t *testing.T) {
	for _, tty := range []bool{true, false} {
		var out, errs bytes.Buffer
		show := newProgress(&terminal{w: &errs, tty: tty})
		s := &stream{c: &command{out: &terminal{w: &out, tty: tty}, err: &terminal{w: &errs, tty: tty}}, show: show}
		lost := api.Progress{Phase: "failover", Text: "node nas was lost"}
		for _, e := range []api.Event{{Text: "half a "}, {Progress: &lost}, {Text: "line"}} {
			if err := s.event(e); err != nil {
				t.Fatal(err)
			}
		}
		s.end()
		show.stop()
		want := "weft: node nas was lost\n"
		if tty {
			want = "\n" + want
		}
		if out.String() != "half a line\n" || errs.String() != want {
			t.Errorf("on a terminal %v: %q and %q", tty, out.String(), errs.String())
		}
	}
}
