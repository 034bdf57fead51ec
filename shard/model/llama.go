package model

import "github.com/weft-mesh/weft/kernels"

// llama is Llama 1 to 3, Mistral (with a sliding window), SmolLM and everything else that converts to this architecture.
// Its converter permutes queries and keys so that neighbours rotate together.
var llama = family{
	arch: "llama",
	rope: kernels.RopePairs,
	read: func(r *reader, c *Config) {
		c.Window = r.intOr("attention.sliding_window", 0, 0, maxContext)
		c.QKVBias = r.has(layerName(0, "attn_q.bias"))
	},
}
