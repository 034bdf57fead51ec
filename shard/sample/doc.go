// Package sample draws tokens from logits: biases and penalties, temperature, top-k, top-p, min-p, and a draw whose random
// number depends on seed, choice and position alone. The same logits, history, parameters and position give the same token
// on every machine.
//
// It never sees text, sessions or devices, and keeps nothing between draws: who rebuilds the history rebuilds the sampler.
//
// Start reading at Params, then Sampler.Draw.
package sample
