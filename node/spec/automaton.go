package spec

import "time"

// MaxIndexed is how many tokens an automaton holds at most. One takes about 90
// bytes.
const MaxIndexed = 1 << 18

// Automaton is a source that finds the longest end of a reply that occurred in
// it before, the prompt included, and proposes what followed there. It is the
// suffix automaton of the sequence (Blumer et al. 1985): a token is taken in at
// amortised constant cost, and the longest repeated end is at hand at any time.
//
// Beyond its bound it forgets the older half of the sequence.
type Automaton struct {
	max    int
	tokens []int32
	states []state
	edges  edges
	last   int32 // the state of the whole sequence
	out    []int32
}

// state is a set of strings that end at the same places of the sequence.
type state struct {
	length int32 // of its longest string
	link   int32 // the state of its longest end that ends at more places; -1 at the root
	end    int32 // index of the last token of an occurrence: the latest one known
	token  int32 // its first edge; noEdge: it has none
	to     int32
	more   int32 // its further edges: 1 beside an index into edges.list; 0: none
}

const noEdge = -1

// NewAutomaton makes an empty automaton of at most limit tokens, MaxIndexed if
// limit is 0.
func NewAutomaton(limit int) *Automaton {
	if limit <= 0 {
		limit = MaxIndexed
	}
	a := &Automaton{max: max(limit, 2)}
	a.reset(0)
	return a
}

func (a *Automaton) reset(room int) {
	a.tokens = a.tokens[:0]
	if cap(a.states) < 2*room {
		a.states = make([]state, 0, 2*room+1)
		a.tokens = make([]int32, 0, room)
	}
	a.states = append(a.states[:0], state{link: -1, token: noEdge})
	a.edges.reset(room / 2)
	a.last = 0
}

// Name implements Source.
func (a *Automaton) Name() string { return "suffix" }

// Cost implements Source.
func (a *Automaton) Cost() time.Duration { return time.Microsecond }

// Begin implements Source.
func (a *Automaton) Begin(tokens []int32) {
	tokens = tokens[max(0, len(tokens)-a.max):]
	a.reset(len(tokens))
	a.Accept(tokens)
}

// Accept implements Source.
func (a *Automaton) Accept(tokens []int32) {
	for _, t := range tokens {
		if len(a.tokens) >= a.max {
			a.halve()
		}
		a.extend(t)
	}
}

// halve keeps the newer half of the sequence: what that costs was saved up by
// the tokens of the other half.
func (a *Automaton) halve() {
	keep := append([]int32(nil), a.tokens[len(a.tokens)-a.max/2:]...)
	a.reset(len(keep))
	for _, t := range keep {
		a.extend(t)
	}
}

// extend adds one token.
func (a *Automaton) extend(t int32) {
	if v := a.states[a.last].link; v > 0 {
		a.states[v].end = int32(len(a.tokens) - 1) // now that something follows there
	}
	cur := a.add(state{length: a.states[a.last].length + 1, end: int32(len(a.tokens)), token: noEdge})
	a.tokens = append(a.tokens, t)
	p := a.last
	for ; p >= 0; p = a.states[p].link {
		if at := a.edge(p, t); at != nil {
			a.states[cur].link = a.divide(p, t, *at)
			break
		}
		a.connect(p, t, cur)
	}
	a.last = cur
}

func (a *Automaton) add(s state) int32 {
	a.states = append(a.states, s)
	return int32(len(a.states) - 1)
}

// divide gives the state of p's longest string with t behind it: q, or what is
// split off q when q holds longer strings too.
func (a *Automaton) divide(p, t, q int32) int32 {
	if a.states[p].length+1 == a.states[q].length {
		return q
	}
	s := a.states[q]
	s.length, s.more = a.states[p].length+1, 0
	clone := a.add(s)
	for m := a.states[q].more; m != 0; m = a.edges.list[m-1].more {
		e := a.edges.list[m-1]
		a.connect(clone, e.token, e.to)
	}
	for ; p >= 0; p = a.states[p].link {
		at := a.edge(p, t)
		if at == nil || *at != q {
			break
		}
		*at = clone
	}
	a.states[q].link = clone
	return clone
}

// edge is where token t leads from state s, nil if nowhere. The pointer is valid
// until a state or an edge is added.
func (a *Automaton) edge(s, t int32) *int32 {
	st := &a.states[s]
	switch {
	case st.token == t:
		return &st.to
	case st.more == 0:
		return nil
	}
	return a.edges.find(s, t)
}

func (a *Automaton) connect(s, t, to int32) {
	st := &a.states[s]
	if st.token == noEdge {
		st.token, st.to = t, to
		return
	}
	st.more = a.edges.add(edge{from: s, token: t, to: to, more: st.more})
}

// Draft implements Source. What it proposes followed an earlier occurrence of
// the longest end of the sequence and ahead that occurred before; an occurrence
// that reaches into the end goes on in what was proposed.
func (a *Automaton) Draft(ahead []int32, n int) Draft {
	s, match := a.match(ahead)
	if match == 0 || n <= 0 {
		return Draft{}
	}
	a.out = a.out[:0]
	// The sequence that is continued is tokens, ahead, out.
	for at := int(a.states[s].end) + 1; len(a.out) < n; at++ {
		switch k := at - len(a.tokens); {
		case k < 0:
			a.out = append(a.out, a.tokens[at])
		case k < len(ahead):
			a.out = append(a.out, ahead[k])
		default:
			a.out = append(a.out, a.out[k-len(ahead)])
		}
	}
	return Draft{Tokens: a.out, Match: match}
}

// match finds the longest end of the sequence and ahead that occurred in the
// sequence before: its state and its length. That nothing but what is ahead
// follows an occurrence can be, at the sequence's very end.
func (a *Automaton) match(ahead []int32) (s int32, length int) {
	s = max(0, a.states[a.last].link)
	length = int(a.states[s].length)
	for _, t := range ahead {
		at := a.edge(s, t)
		for at == nil && s != 0 {
			s = a.states[s].link
			length = int(a.states[s].length)
			at = a.edge(s, t)
		}
		if at != nil {
			s = *at
			length++
		}
	}
	return s, length
}

// Bytes is the memory that the automaton has.
func (a *Automaton) Bytes() int {
	return 4*cap(a.tokens) + 24*cap(a.states) + 16*cap(a.edges.list) + 4*cap(a.edges.slots)
}
