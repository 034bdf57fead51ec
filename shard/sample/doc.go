// Package sample draws tokens from logits: biases and penalties, temperature, top-k, top-p, min-p, and a draw whose random
// number depends on seed, choice and position alone. The same logits, history, parameters and position give the same token
// on every machine.
//
// It never sees text, sessions or devices, and keeps nothing between draws: who rebuilds the history rebuilds the sampler.
//
// A row of logits that lies on a card need not be read: what a draw needs of it is asked for step by step (Ask, Weighings), and
// DrawReduced draws the same token from the answers.
//
// Start reading at Params, then Sampler.Draw.
package sample
