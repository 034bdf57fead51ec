package model

import "github.com/weft-mesh/weft/kernels"

// qwen2 is Qwen 1.5 to 2.5: biases on queries, keys and values.
var qwen2 = family{
	arch: "qwen2",
	rope: kernels.RopeHalves,
	read: func(_ *reader, c *Config) { c.QKVBias = true },
}
