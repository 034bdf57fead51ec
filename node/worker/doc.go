// Package worker serves this node's stages to any head, and holds the head's end
// of a chain of stages. It reserves and loads stages when a plan is proposed,
// takes runs from a plan's predecessor, merges those of many sessions and heads
// into steps, and sends what comes out onward; it also serves weights to peers.
//
// It never plans, never decides which tokens to try, never tokenises and holds
// no text. It opens no connection: streams are given to it and asked for through
// RouterConfig.OpenStream, stages come from a Loader.
//
// Start reading at Router, which joins the streams of chains; Chain is the
// head's end of one, relay a stage's. Worker holds the stages: served is a
// loaded one with its step loop, book the accounts of plans and memory.
package worker
