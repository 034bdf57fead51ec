// Package draft runs a draft model: a small model, whole on the head, whose
// guesses the stages of a larger one verify.
//
// An Engine steps one shard.Stage for several replies as one batch; a Source is
// a reply's view of it and a spec.Background source. The engine's loop goes on
// while the reply's runs are verified, and Source's calls do not wait for it, but
// for Await. Start reading at Engine.step.
//
// The package never decides what is sent (package spec does) and never draws a
// token of a reply: the last stage does.
package draft
