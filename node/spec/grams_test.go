package spec_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weft-mesh/weft/node/spec"
)

func phrase(seed int32, n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = seed*1000 + int32(i*i%501) + int32(i)
	}
	return out
}

func TestGramsOutliveAReply(t *testing.T) {
	l := spec.NewLibrary(0)
	p := phrase(1, 200)
	g := l.Open("ann", "m")
	g.Begin(p[:50])
	g.Accept(p[50:])
	g = l.Open("ann", "m")
	g.Begin(p[:10])
	// An n-gram may have lost its place to another.
	good := func(d spec.Draft, want []int32) {
		t.Helper()
		if n := len(d.Tokens); n < 5 || d.Match < 3 || !slices.Equal(d.Tokens, want[:n]) {
			t.Errorf("drafted %v matching %d, %v was expected", d.Tokens, d.Match, want)
		}
	}
	good(g.Draft(nil, 20), p[10:30])
	good(g.Draft(p[10:15], 20), p[15:35])
}

func TestGramsFollowWhatProvesRight(t *testing.T) {
	l := spec.NewLibrary(0)
	teach := func(last int32) {
		g := l.Open("ann", "m")
		g.Begin([]int32{1, 2, 3, last})
	}
	for range 3 {
		teach(7)
	}
	teach(8)
	g := l.Open("ann", "m")
	g.Begin([]int32{1, 2, 3})
	if d := g.Draft(nil, 1); len(d.Tokens) != 1 || d.Tokens[0] != 7 {
		t.Errorf("drafted %v; 7 was right three times of four", d.Tokens)
	}
}

func TestNothingOfOneTenantIsDraftedForAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := spec.NewLibrary(0)
		secret := rapid.SliceOfN(rapid.Int32Range(0, 50), 9, 300).Draw(t, "secret")
		l.Open("ann", "m").Begin(secret)
		from := rapid.IntRange(0, len(secret)-9).Draw(t, "from")
		for _, who := range []struct{ tenant, model string }{{"bob", "m"}, {"", "m"}, {"ann", "n"}, {"ann\x00", "m"}} {
			g := l.Open(who.tenant, who.model)
			g.Begin(secret[from : from+8])
			own := map[int32]bool{}
			for _, x := range secret[from : from+8] {
				own[x] = true
			}
			for _, x := range g.Draft(nil, 20).Tokens {
				if !own[x] {
					t.Fatalf("%v drafts %d, which only ann's text has", who, x)
				}
			}
		}
	})
}

func TestTheLibraryIsBounded(t *testing.T) {
	l := spec.NewLibrary(3)
	for i, who := range []string{"a", "b", "c", "d", "e"} {
		g := l.Open(who, "m")
		for k := range int32(100) {
			g.Begin(phrase(int32(i)*100+k, 900))
		}
	}
	if n := l.Bytes(); n > 3<<20 {
		t.Errorf("%d bytes; a MiB for each of 3 shelves was expected at most", n)
	}
	g := l.Open("a", "m")
	g.Begin(phrase(99, 10))
	if d := g.Draft(nil, 5); len(d.Tokens) != 0 {
		t.Errorf("drafted %v from a shelf that had to go", d.Tokens)
	}
	l.Forget("m")
	if n := l.Bytes(); n != 0 {
		t.Errorf("%d bytes are left of a model that was removed", n)
	}
}
