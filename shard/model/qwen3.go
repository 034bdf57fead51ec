package model

import "github.com/weft-mesh/weft/kernels"

// qwen3 is the dense Qwen 3: no biases, and a norm on each head of queries and keys before they are rotated.
var qwen3 = family{
	arch: "qwen3",
	rope: kernels.RopeHalves,
	read: func(_ *reader, c *Config) { c.QKNorm = true },
}
