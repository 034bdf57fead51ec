// Package devices opens the graphics processors of this machine that weft may
// compute on: it finds what the drivers know, tells two views of one card apart,
// holds each card to the arithmetic contract before it is used, measures it, and
// watches it while it computes. What is refused stays listed with the reason.
//
// It plans nothing and loads no model. A card that is lost stays lost until Reopen
// finds it again; who computed on it is told by an error and goes on without.
//
// Start reading at Set, then at Open (open.go), the check (verdict.go) and the
// watch over a card that computes (guard.go).
package devices
