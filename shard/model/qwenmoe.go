package model

import "github.com/weft-mesh/weft/kernels"

// qwen2moe is Qwen 1.5 and 2 with experts: the weights of those that a token takes are what softmax over all gives them, and
// one more expert, which every token takes, has a gate of its own.
var qwen2moe = family{
	arch:    "qwen2moe",
	rope:    kernels.RopeHalves,
	experts: true,
	read: func(r *reader, c *Config) {
		c.QKVBias = r.has(layerName(0, "attn_q.bias"))
		r.experts(c, false)
		r.sharedExpert(c)
	},
}

// qwen3moe is Qwen 3 with experts: as the dense one, and the weights of the experts that a token takes add up to 1.
var qwen3moe = family{
	arch:    "qwen3moe",
	rope:    kernels.RopeHalves,
	experts: true,
	read: func(r *reader, c *Config) {
		c.QKNorm = true
		r.experts(c, true)
	},
}
