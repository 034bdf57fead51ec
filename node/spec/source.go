package spec

import "time"

// Draft is what a source proposes.
type Draft struct {
	// Tokens may follow the sequence, in order. They are valid until the source
	// is asked again.
	Tokens []int32
	// Match is how many tokens before the first one the source has seen
	// together: the longer, the likelier is the draft. 0: the source does not
	// match, and its likelihood goes by position alone.
	Match int
}

// Source proposes tokens. A source serves one reply and one goroutine.
type Source interface {
	// Name is the source's name in reports.
	Name() string
	// Begin forgets everything of a reply and takes a sequence in, which the
	// source does not keep.
	Begin(tokens []int32)
	// Accept adds committed tokens to the sequence.
	Accept(tokens []int32)
	// Draft proposes at most n tokens to follow the sequence and the tokens
	// ahead of it, which are drafted and not yet committed. None is a good
	// answer.
	Draft(ahead []int32, n int) Draft
	// Cost is about how long a drafted token takes on the head; less than 0: the
	// source cannot draft now.
	Cost() time.Duration
}

// Background is a source that drafts in its own time, beside the reply. Its
// Draft gives what is at hand and does not wait.
type Background interface {
	Source
	// Aim says that n tokens behind those ahead are wanted next; it does not wait.
	Aim(ahead []int32, n int)
	// Await is Aim, and waits until they are at hand or will not come soon.
	Await(ahead []int32, n int)
	// Wake receives when what Aim asked for is at hand.
	Wake() <-chan struct{}
}
