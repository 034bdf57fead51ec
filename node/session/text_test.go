package session_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weft-mesh/weft/node/session"
)

// pieces decodes id i to the i-th piece.
type pieces struct {
	list []string
	tail string
}

func (p *pieces) Push(id int32) string { return p.list[id] }
func (p *pieces) Flush() string        { return p.tail }

func feed(list []string, tail string, stops []string) (string, bool) {
	tx := session.NewText(&pieces{list, tail}, stops)
	var got strings.Builder
	for i := range list {
		d, stopped := tx.Push(int32(i))
		got.WriteString(d)
		if stopped {
			if d, again := tx.Push(int32(i)); d != "" || !again {
				return "pushed on after a stop: " + d, false
			}
			return got.String() + tx.Flush(), true
		}
	}
	got.WriteString(tx.Flush())
	if got.String() != tx.String() {
		return "String differs: " + tx.String(), false
	}
	return got.String(), false
}

func TestTextEndsBeforeTheEarliestStopStringWhateverThePieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.StringMatching(`[abc]{0,3}`)
		list := rapid.SliceOfN(piece, 0, 12).Draw(t, "pieces")
		tail := piece.Draw(t, "tail")
		stops := rapid.SliceOfN(rapid.StringMatching(`[abc]{1,4}`), 0, 3).Draw(t, "stops")
		all := strings.Join(list, "") + tail
		want, stop := all, -1
		for _, s := range stops {
			// The stop that is complete first ends the text.
			if i := strings.Index(all, s); i >= 0 && (stop < 0 || i < stop) {
				stop = i
			}
		}
		got, _ := feed(list, tail, stops)
		if stop < 0 {
			if got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
			return
		}
		for _, s := range stops {
			if strings.Contains(got, s) {
				t.Fatalf("%q holds the stop string %q", got, s)
			}
		}
		if !strings.HasPrefix(all, got) {
			t.Fatalf("%q is not the beginning of %q", got, all)
		}
	})
}

func TestTextIsHeldBackOnlyWhileItMayBeAStop(t *testing.T) {
	tx := session.NewText(&pieces{list: []string{"hello", " <", "en", "x", "<end>", "more"}}, []string{"<end>", ""})
	for i, want := range []string{"hello", " ", "", "<enx", ""} {
		d, stopped := tx.Push(int32(i))
		if d != want || stopped != (i == 4) {
			t.Fatalf("piece %d: %q, stopped %v; want %q", i, d, stopped, want)
		}
	}
	if tx.Flush() != "" || tx.String() != "hello <enx" {
		t.Fatalf("after the stop: %q", tx.String())
	}
}

func TestStopStringCompletedByTheHeldBackTailIsCut(t *testing.T) {
	got, _ := feed([]string{"ab"}, "c", []string{"bc"})
	if got != "a" {
		t.Fatalf("got %q", got)
	}
}
