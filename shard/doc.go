// Package shard runs pieces of models. A Stage is a contiguous layer range, on one device or laid over several, that serves many sessions at
// once: the first stage of a plan embeds tokens, the last one projects and samples, and hidden states pass between
// neighbours. A whole model on one machine is the plan of one stage; there is no other path.
//
// A stage knows nothing of the network, of heads or of other stages; who calls it moves the runs. It starts no goroutines.
//
// Start reading at Stage (stage.go), then Run and Result (run.go). The architectures are in package model, the accounting
// of KV blocks in kv, the sampler in sample, files in gguf, vocab and store.
package shard
