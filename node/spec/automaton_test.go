package spec_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weft-mesh/weft/node/spec"
)

// longest finds the longest end of seq+ahead that occurs in seq and has
// something behind it there or, at its very end, ahead; and where: the indices
// behind the occurrences.
func longest(seq, ahead []int32) (length int, at []int) {
	all := slices.Concat(seq, ahead)
	for n := len(all) - 1; n > 0; n-- {
		end := all[len(all)-n:]
		for i := n; i <= len(seq); i++ {
			if i < len(all) && slices.Equal(seq[i-n:i], end) {
				at = append(at, i)
			}
		}
		if len(at) > 0 {
			return n, at
		}
	}
	return 0, nil
}

// continued is what follows an occurrence, which may reach into what it gives.
func continued(seq, ahead []int32, from, n int) []int32 {
	all := slices.Concat(seq, ahead)
	for i := range n {
		all = append(all, all[from+i])
	}
	return all[len(all)-n:]
}

func TestTheAutomatonFindsTheLongestRepeatedEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		letters := rapid.Int32Range(0, rapid.SampledFrom([]int32{1, 2, 5, 40}).Draw(t, "letters"))
		seq := rapid.SliceOfN(letters, 1, 80).Draw(t, "sequence")
		ahead := rapid.SliceOfN(letters, 0, 12).Draw(t, "ahead")
		a := spec.NewAutomaton(0)
		cut := rapid.IntRange(0, len(seq)).Draw(t, "begun with")
		a.Begin(seq[:cut])
		a.Accept(seq[cut:])
		n := rapid.IntRange(1, 30).Draw(t, "wanted")
		d := a.Draft(ahead, n)
		length, at := longest(seq, ahead)
		if d.Match != length {
			t.Fatalf("matched %d tokens, the longest repeated end has %d", d.Match, length)
		}
		if length == 0 {
			if len(d.Tokens) != 0 {
				t.Fatalf("drafted %v from nothing", d.Tokens)
			}
			return
		}
		if len(d.Tokens) != n {
			t.Fatalf("%d tokens drafted, %d were asked for", len(d.Tokens), n)
		}
		for _, i := range at {
			if slices.Equal(d.Tokens, continued(seq, ahead, i, n)) {
				return
			}
		}
		t.Fatalf("drafted %v, which follows no occurrence of the last %d tokens of %v + %v", d.Tokens, length, seq, ahead)
	})
}

func TestTheAutomatonDraftsTheLatestContinuation(t *testing.T) {
	a := spec.NewAutomaton(0)
	a.Begin([]int32{1, 2, 3, 1, 2, 4, 1, 2, 5, 1, 2})
	if d := a.Draft(nil, 1); len(d.Tokens) != 1 || d.Tokens[0] != 5 {
		t.Errorf("drafted %v after 1 2; 5 followed it last", d.Tokens)
	}
}

func TestTheAutomatonForgetsTheOlderHalf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(2, 20).Draw(t, "limit")
		seq := rapid.SliceOfN(rapid.Int32Range(0, 3), 1, 120).Draw(t, "sequence")
		a := spec.NewAutomaton(limit)
		a.Begin(nil)
		var kept []int32
		for _, x := range seq {
			if len(kept) >= limit {
				kept = slices.Clone(kept[len(kept)-limit/2:])
			}
			kept = append(kept, x)
			a.Accept([]int32{x})
		}
		if want, _ := longest(kept, nil); a.Draft(nil, 3).Match != want {
			t.Fatalf("matched %d tokens of %v, %d were expected", a.Draft(nil, 3).Match, kept, want)
		}
	})
}

// words reads so many bytes of weft's source and numbers its words with the space
// before them, its indents and its signs: about as many tokens as a vocabulary
// makes of it.
func words(tb testing.TB, bytes int) []int32 {
	tb.Helper()
	var text strings.Builder
	_ = filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || text.Len() >= bytes {
			return fs.SkipAll
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, ".pb.go") {
			b, _ := os.ReadFile(path)
			text.Write(b)
		}
		return nil
	})
	if text.Len() < bytes {
		tb.Skipf("not run: the sources of weft have only %d bytes", text.Len())
	}
	ids := map[string]int32{}
	var out []int32
	for _, word := range regexp.MustCompile(` ?\pL+|\d+|\n?[ \t]+|\n| ?[^\s\pL\d]{1,2}`).FindAllString(text.String()[:bytes], -1) {
		id, ok := ids[word]
		if !ok {
			id = int32(len(ids))
			ids[word] = id
		}
		out = append(out, id)
	}
	return out
}

func TestTheAutomatonsMemoryIsBounded(t *testing.T) {
	a := spec.NewAutomaton(1 << 12)
	a.Begin(nil)
	for i := range int32(1 << 14) {
		a.Accept([]int32{i * i % 97, i % 13})
	}
	if n := a.Bytes(); n > 120<<12 {
		t.Errorf("%d bytes for %d tokens", n, 1<<12)
	}
}

func BenchmarkAutomatonIndexesAMegabyte(b *testing.B) {
	tokens := words(b, 1<<20)
	var a *spec.Automaton
	for b.Loop() {
		a = spec.NewAutomaton(1 << 20)
		a.Begin(tokens)
	}
	b.ReportMetric(float64(len(tokens)), "tokens")
	b.ReportMetric(float64(a.Bytes())/float64(len(tokens)), "bytes/token")
}
