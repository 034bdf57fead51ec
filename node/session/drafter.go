package session

// Drafter proposes tokens ahead of the committed ones; spec.Speculator is one.
// What it gives changes the time of a reply and never a byte of it.
type Drafter interface {
	// Begin takes in what is known before the first token is drawn.
	Begin(tokens []int32)
	// Draft gives the drafted tokens of one run, room at most, to follow the
	// committed ones and those ahead; runs are in flight. With none in flight
	// the run is due whatever it gives, with some there is one only if it gives
	// any.
	Draft(ahead []int32, runs, room int) []int32
	// Sent tells of a decode run with so many drafted tokens: Draft's, unless
	// they were cut.
	Sent(drafted int)
	// Commit gives newly committed tokens, and what was ahead of them.
	Commit(tokens, ahead []int32)
	// Drop says that what was ahead is gone.
	Drop()
	// Wake receives when Draft may give more than it did. Nil: it never does.
	Wake() <-chan struct{}
}

// Drafts is the plainest Drafter: a function.
type Drafts struct {
	// Give gives at most room tokens to follow the given ones: the prompt, the
	// committed tokens and those ahead. It must not keep them.
	Give func(tokens []int32, room int) []int32
	Runs int // in flight at most; 0: 1

	tokens []int32
}

// Begin implements Drafter.
func (d *Drafts) Begin(tokens []int32) { d.tokens = append(d.tokens[:0], tokens...) }

// Draft implements Drafter.
func (d *Drafts) Draft(ahead []int32, runs, room int) []int32 {
	if runs >= max(d.Runs, 1) {
		return nil
	}
	return d.Give(append(d.tokens[:len(d.tokens):len(d.tokens)], ahead...), room)
}

// Sent implements Drafter.
func (d *Drafts) Sent(int) {}

// Commit implements Drafter.
func (d *Drafts) Commit(tokens, _ []int32) { d.tokens = append(d.tokens, tokens...) }

// Drop implements Drafter.
func (d *Drafts) Drop() {}

// Wake implements Drafter.
func (d *Drafts) Wake() <-chan struct{} { return nil }
