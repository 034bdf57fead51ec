package kv

import (
	"errors"
	"flag"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// story gives the tokens of three texts: 0 and 1 part at position 24; 2 differs from 0 at position 3 alone, so that its
// later blocks have the same tokens after another beginning.
func story(branch, pos int) int32 {
	switch {
	case branch == 1 && pos >= 24, branch == 2 && pos == 3:
		return int32(1000 + pos)
	}
	return int32(pos)
}

func tell(branch, from, to int) []int32 {
	var out []int32
	for pos := from; pos < to; pos++ {
		out = append(out, story(branch, pos))
	}
	return out
}

// content is what memory holds for a position: all tokens up to it, as a hash. KV of equal content has equal bits.
func content(tokens []int32) (h uint64) {
	for _, t := range tokens {
		h = (h + uint64(t) + 1) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	return h
}

// modelSeq is a sequence as a simple program would keep it.
type modelSeq struct {
	seq       *Seq
	branch    int
	tokens    []int32
	confirmed int
	reserved  int
}

// machine runs a pool beside a model of the memory that it manages.
type machine struct {
	pool   *Pool
	memory map[int32]*[BlockPositions]uint64
	seqs   []*modelSeq
	window int
}

// write stores positions from on, as a step would.
func (m *machine) write(s *modelSeq, from int) {
	for pos := from; pos < len(s.tokens); pos++ {
		b := s.seq.Table()[pos/BlockPositions]
		if m.memory[b] == nil {
			m.memory[b] = new([BlockPositions]uint64)
		}
		m.memory[b][pos%BlockPositions] = content(s.tokens[:pos+1])
	}
}

// check holds all invariants after every action.
func (m *machine) check(t *rapid.T) {
	st := m.pool.Stats()
	if st.Reserved > st.Blocks || st.Used > st.Reserved || st.Free+st.Used+st.Cached != st.Blocks {
		t.Fatalf("accounts do not add up: %+v", st)
	}
	refs := map[int32]int{}
	for _, s := range m.seqs {
		for _, b := range s.seq.Table()[s.seq.gone:] {
			refs[b]++
		}
	}
	for b, n := range refs {
		if got := m.pool.blocks[b].refs; int(got) != n {
			t.Fatalf("block %d has %d references; %d sequences hold it", b, got, n)
		}
	}
	for _, b := range m.pool.free {
		if refs[b] != 0 || m.pool.blocks[b].keyed {
			t.Fatalf("block %d is free and in use", b)
		}
	}
	for key, b := range m.pool.byKey {
		if e := m.pool.blocks[b]; !e.keyed || e.key != key {
			t.Fatalf("block %d is found by a key that it does not have", b)
		}
	}
	for b, e := range m.pool.blocks {
		if found, ok := m.pool.byKey[e.key]; e.keyed && (!ok || found != int32(b)) {
			t.Fatalf("block %d has a key that finds another", b)
		}
	}
	for _, s := range m.seqs {
		m.checkSeq(t, s, refs)
	}
}

func (m *machine) checkSeq(t *rapid.T, s *modelSeq, refs map[int32]int) {
	table := s.seq.Table()
	for i := len(s.tokens) / BlockPositions; i < len(table); i++ { // what the next run writes
		if refs[table[i]] > 1 || m.pool.blocks[table[i]].keyed {
			t.Fatalf("block %d would be written while others can read it", table[i])
		}
	}
	first := 0
	if m.window > 0 {
		first = max(0, len(s.tokens)+1-m.window)
	}
	for pos := first; pos < len(s.tokens); pos++ {
		b := table[pos/BlockPositions]
		if pos/BlockPositions < s.seq.gone || m.memory[b][pos%BlockPositions] != content(s.tokens[:pos+1]) {
			t.Fatalf("position %d of %d is not what was written (block %d)", pos, len(s.tokens), b)
		}
	}
}

func (m *machine) open(t *rapid.T) {
	branch := rapid.IntRange(0, 2).Draw(t, "branch")
	prompt := tell(branch, 0, rapid.SampledFrom([]int{0, 5, 17, 20, 33, 40, 50, 80}).Draw(t, "prompt"))
	positions := max(1, len(prompt)) + rapid.IntRange(0, 40).Draw(t, "more")
	st := m.pool.Stats()
	seq, err := m.pool.Open(Seed(), prompt, positions, m.window)
	if fits := BlocksFor(positions) <= st.Blocks-st.Reserved; fits != (err == nil) {
		t.Fatalf("open of %d positions with %+v: %v", positions, st, err)
	}
	if err != nil {
		return
	}
	if held := seq.Held(); held > 0 && held >= len(prompt) {
		t.Fatalf("%d of %d prompt tokens are held; the last one must be computed", held, len(prompt))
	}
	base := rapid.IntRange(0, seq.Held()/BlockPositions).Draw(t, "base") * BlockPositions
	if err := seq.Rewind(base); err != nil {
		t.Fatal(err)
	}
	m.seqs = append(m.seqs, &modelSeq{seq: seq, branch: branch, tokens: slices.Clone(prompt[:base]), confirmed: base, reserved: positions})
}

func (m *machine) run(t *rapid.T, s *modelSeq) {
	from := len(s.tokens)
	to := from + rapid.SampledFrom([]int{1, 2, 7, 16, 20, 40}).Draw(t, "n")
	err := s.seq.Extend(to)
	if (err == nil) != (to <= s.reserved) {
		t.Fatalf("extend to %d of %d: %v", to, s.reserved, err)
	}
	if err == nil {
		s.tokens = append(s.tokens, tell(s.branch, from, to)...)
		m.write(s, from)
	}
}

func (m *machine) truncate(t *rapid.T, s *modelSeq) {
	keep := rapid.IntRange(0, s.confirmed).Draw(t, "keep")
	if err := s.seq.Rewind(keep); err != nil {
		if !errors.Is(err, ErrShared) && !errors.Is(err, ErrWindow) {
			t.Fatal(err)
		}
		return
	}
	s.tokens, s.confirmed = s.tokens[:keep], keep
	s.branch = rapid.IntRange(0, 2).Draw(t, "branch")
}

// reply is a whole reply at once: a prompt is computed as far as it was not held, and confirmed.
func (m *machine) reply(t *rapid.T) {
	before := len(m.seqs)
	m.open(t)
	if len(m.seqs) == before {
		return
	}
	s := m.seqs[before]
	from := len(s.tokens)
	if err := s.seq.Extend(s.reserved); err != nil {
		t.Fatal(err)
	}
	s.tokens = append(s.tokens, tell(s.branch, from, s.reserved)...)
	m.write(s, from)
	s.confirmed = s.reserved
	s.seq.Confirm(s.tokens, s.confirmed)
}

func TestPoolAgainstAModelOfItsMemory(t *testing.T) {
	for name, value := range map[string]string{"rapid.checks": "300", "rapid.steps": "60"} {
		old := flag.Lookup(name).Value.String()
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = flag.Set(name, old) })
	}
	shared := 0
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{
			pool:   New(rapid.IntRange(4, 24).Draw(t, "blocks")),
			memory: map[int32]*[BlockPositions]uint64{},
			window: rapid.SampledFrom([]int{0, 0, 1, 17, 40}).Draw(t, "window"),
		}
		some := func(f func(*rapid.T, *modelSeq)) func(*rapid.T) {
			return func(t *rapid.T) {
				if len(m.seqs) == 0 {
					t.Skip("no sequence is open")
				}
				f(t, rapid.SampledFrom(m.seqs).Draw(t, "sequence"))
			}
		}
		confirm := some(func(t *rapid.T, s *modelSeq) {
			s.confirmed = rapid.IntRange(s.confirmed, len(s.tokens)).Draw(t, "to")
			s.seq.Confirm(s.tokens, s.confirmed)
		})
		confirmAll := some(func(_ *rapid.T, s *modelSeq) {
			s.confirmed = len(s.tokens)
			s.seq.Confirm(s.tokens, s.confirmed)
		})
		t.Repeat(map[string]func(*rapid.T){
			"open":       func(t *rapid.T) { m.open(t); shared += m.sharing() },
			"reply":      func(t *rapid.T) { m.reply(t); shared += m.sharing() },
			"run":        some(m.run),
			"runOn":      some(m.run),
			"confirm":    confirm,
			"confirmAll": confirmAll,
			"truncate":   some(m.truncate),
			"close": some(func(_ *rapid.T, s *modelSeq) {
				s.seq.Close()
				m.seqs = slices.DeleteFunc(m.seqs, func(x *modelSeq) bool { return x == s })
			}),
			"": m.check,
		})
		for _, s := range m.seqs {
			s.seq.Close()
		}
		if st := m.pool.Stats(); st.Reserved != 0 || st.Used != 0 {
			t.Fatalf("after closing all: %+v", st)
		}
	})
	if shared < 1000 {
		t.Errorf("sequences shared blocks %d times; the test is to be about sharing", shared)
	}
}

// sharing is how many blocks the sequence opened last got from the cache.
func (m *machine) sharing() int {
	if len(m.seqs) == 0 {
		return 0
	}
	return m.seqs[len(m.seqs)-1].seq.Held() / BlockPositions
}
