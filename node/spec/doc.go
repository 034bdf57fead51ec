// Package spec is speculation: it proposes tokens that may follow a reply, and
// decides how many of them are worth sending along.
//
// A Source proposes; the ones here are a suffix automaton over the prompt and
// the reply (Automaton) and n-grams that outlive a reply (Grams); a draft model,
// which takes its time, is in package draft (Background). Scores learn
// how often a source is right, by the length of the context that it matched.
// Window weighs that against what a run costs (Costs) and says how wide the
// next run is and how many may be in flight. Speculator joins them for one
// reply; start reading there.
//
// What the package decides changes the time of a reply and never a token: the
// last stage draws every token itself and keeps a draft only while it agrees.
// Nothing here has a clock, a socket or a goroutine, and what is not used costs
// nothing.
package spec
