package model

import "github.com/weft-mesh/weft/kernels"

// llama is Llama 1 to 3, Mistral (with a sliding window), Mixtral (with experts, the weights of those that a token takes adding
// up to 1), SmolLM and everything else that converts to this architecture.
// Its converter permutes queries and keys so that neighbours rotate together.
var llama = family{
	arch:    "llama",
	rope:    kernels.RopePairs,
	experts: true,
	read: func(r *reader, c *Config) {
		c.Window = r.intOr("attention.sliding_window", 0, 0, maxContext)
		c.QKVBias = r.has(layerName(0, "attn_q.bias"))
		if r.intOr("expert_count", 0, 0, kernels.MaxExperts) > 0 {
			r.experts(c, true)
		}
	},
}
