package kv

import (
	"errors"
	"fmt"
	"testing"
)

func count(n int, from int32) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = from + int32(i)
	}
	return out
}

func open(t *testing.T, p *Pool, prompt []int32, positions int) *Seq {
	t.Helper()
	s, err := p.Open(Seed([]byte("t")), prompt, positions, 0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// filled opens a sequence, computes tokens and confirms them.
func filled(t *testing.T, p *Pool, tokens []int32, positions int) *Seq {
	t.Helper()
	s := open(t, p, nil, positions)
	if err := s.Extend(len(tokens)); err != nil {
		t.Fatal(err)
	}
	s.Confirm(tokens, len(tokens))
	return s
}

func TestReservationsCannotOvercommit(t *testing.T) {
	p := New(4)
	a := open(t, p, nil, 40) // 3 blocks
	if _, err := p.Open(Seed(), nil, 17, 0); !errors.Is(err, ErrNoRoom) {
		t.Fatalf("second reservation: %v; want ErrNoRoom", err)
	}
	b := open(t, p, nil, 16)
	if err := errors.Join(a.Extend(40), b.Extend(16)); err != nil {
		t.Fatal(err)
	}
	if err := a.Extend(41); !errors.Is(err, ErrReserved) {
		t.Fatalf("growth beyond the reservation: %v; want ErrReserved", err)
	}
	a.Close()
	b.Close()
	if got, want := p.Stats(), (Stats{Blocks: 4, Free: 4}); got != want {
		t.Fatalf("after closing: %+v; want %+v", got, want)
	}
}

func TestPrefixOfWholeBlocksIsFoundWithoutTheLastToken(t *testing.T) {
	p := New(20)
	tokens := count(50, 0)
	filled(t, p, tokens, 50).Close()
	for _, c := range []struct {
		prompt []int32
		held   int
	}{
		{tokens, 48},
		{tokens[:49], 48},
		{tokens[:48], 32}, // the last token must be computed for its logits
		{tokens[:33], 32},
		{tokens[:16], 0},
		{append(count(20, 0), 99), 16},
		{count(50, 1), 0},
		{nil, 0},
	} {
		s := open(t, p, c.prompt, 60)
		if s.Held() != c.held || len(s.Table())*BlockPositions != c.held {
			t.Errorf("prompt of %d tokens: held %d in %d blocks; want %d", len(c.prompt), s.Held(), len(s.Table()), c.held)
		}
		s.Close()
	}
}

func TestPrefixIsNotFoundUnderAnotherSeed(t *testing.T) {
	p := New(8)
	filled(t, p, count(32, 0), 40).Close()
	s, err := p.Open(Seed([]byte("other")), count(40, 0), 40, 0)
	if err != nil || s.Held() != 0 {
		t.Fatalf("held %d, %v; want 0", s.Held(), err)
	}
	if Seed([]byte("ab"), []byte("c")) == Seed([]byte("a"), []byte("bc")) {
		t.Fatal("different parts give one seed")
	}
}

func TestLeastRecentlyUsedPrefixGoesFirst(t *testing.T) {
	p := New(4)
	filled(t, p, count(32, 0), 32).Close()    // two blocks
	filled(t, p, count(32, 1000), 32).Close() // two more
	open(t, p, count(33, 0), 33).Close()      // use of the first
	s := open(t, p, nil, 16)
	if err := s.Extend(16); err != nil {
		t.Fatal(err)
	}
	if got := open(t, p, count(33, 0), 33).Held(); got != 32 {
		t.Errorf("prefix used last: held %d; want 32", got)
	}
	// Of a chain its end goes first.
	p2 := New(3)
	filled(t, p2, count(48, 0), 48).Close()
	s2 := open(t, p2, nil, 16)
	if err := s2.Extend(16); err != nil {
		t.Fatal(err)
	}
	s2.Close()
	if got := open(t, p2, count(48, 0), 48).Held(); got != 32 {
		t.Errorf("chain after one eviction: held %d; want 32", got)
	}
}

func TestRewindIntoASharedBlockIsRefused(t *testing.T) {
	p := New(10)
	tokens := count(48, 0)
	a := filled(t, p, tokens, 64)
	b := open(t, p, tokens, 64) // shares two blocks
	if err := a.Rewind(20); !errors.Is(err, ErrShared) {
		t.Fatalf("rewind to 20: %v; want ErrShared", err)
	}
	if a.Held() != 48 {
		t.Fatal("a refused rewind has changed the sequence")
	}
	if err := a.Rewind(40); err != nil { // the third block is its own
		t.Fatal(err)
	}
	if err := a.Rewind(16); err != nil {
		t.Fatal(err)
	}
	shared := b.Table()[1]
	if err := a.Extend(32); err != nil {
		t.Fatal(err)
	}
	if a.Table()[1] == shared {
		t.Fatal("the sequence would write into a block that another one reads")
	}
}

func TestRewoundBlockIsNoLongerFound(t *testing.T) {
	p := New(10)
	tokens := count(32, 0)
	a := filled(t, p, tokens, 64)
	if err := a.Rewind(20); err != nil {
		t.Fatal(err)
	}
	if got := open(t, p, append(tokens, 7), 64).Held(); got != 16 {
		t.Fatalf("held %d; want 16: the second block is being written", got)
	}
}

func TestBlocksBehindTheWindowReturnWithTheirReservation(t *testing.T) {
	p := New(5)
	const window = 20
	s, err := p.Open(Seed(), nil, 80, window)
	if err != nil {
		t.Fatal(err)
	}
	tokens := count(80, 0)
	for n := 1; n <= 80; n++ {
		if err := s.Extend(n); err != nil {
			t.Fatal(err)
		}
		s.Confirm(tokens, n)
		for pos := max(0, n-window+1); pos < n; pos++ {
			if pos/BlockPositions < s.gone {
				t.Fatalf("position %d is gone though position %d sees it", pos, n)
			}
		}
	}
	if got := p.Stats(); got.Reserved != 2 || got.Used != 2 {
		t.Fatalf("at the end %+v; want 2 blocks reserved and used", got)
	}
	if err := s.Rewind(60); !errors.Is(err, ErrWindow) {
		t.Fatalf("rewind behind the window: %v; want ErrWindow", err)
	}
	if err := s.Rewind(70); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if got := p.Stats(); got.Reserved != 0 || got.Used != 0 || got.Cached+got.Free != 5 {
		t.Fatalf("after closing: %+v", got)
	}
}

func TestForgetDropsOnlyWhatNobodyUses(t *testing.T) {
	p := New(6)
	a := filled(t, p, count(32, 0), 32)
	filled(t, p, count(32, 500), 32).Close()
	p.Forget()
	if got, want := p.Stats(), (Stats{Blocks: 6, Free: 4, Used: 2, Reserved: 2}); got != want {
		t.Fatalf("%+v; want %+v", got, want)
	}
	a.Close()
}

func ExamplePool() {
	p := New(8)
	tokens := count(40, 0)
	first, _ := p.Open(Seed([]byte("model")), tokens, 64, 0)
	_ = first.Extend(40)
	first.Confirm(tokens, 40)
	first.Close()
	second, _ := p.Open(Seed([]byte("model")), tokens, 64, 0)
	fmt.Println(second.Held(), p.Stats().Reserved)
	// Output: 32 4
}
