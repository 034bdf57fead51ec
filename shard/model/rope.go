package model

import (
	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
)

// Rope is a model's rotary embedding. Its Factors are empty here: they are a tensor, which Freqs announces.
type Rope struct {
	arith.RopeParams
	Mode  kernels.RopeMode
	Freqs bool // the file has frequency factors, tensor rope_freqs.weight (llama3 scaling)
}

// rope reads the rotary embedding, with every scaling that the contract's tables know.
func (r *reader) rope(c *Config, mode kernels.RopeMode) {
	c.Rope.Mode = mode
	c.Rope.Freqs = r.has(freqsName)
	c.Rope.Dims = r.intOr("rope.dimension_count", c.HeadDim, 2, max(2, c.HeadDim))
	c.Rope.Base = r.floatOr("rope.freq_base", 10000, 1, 1e30)
	// Without a type a factor means linear scaling, as in the files of before there were types.
	kind, err := r.meta.StringOr(r.key("rope.scaling.type"), "linear")
	if err != nil && r.err == nil {
		r.err = err
	}
	factor := r.floatOr("rope.scaling.factor", r.floatOr("rope.scale_linear", 1, 0, 1e6), 0, 1e6)
	switch {
	case kind == "none", kind == "linear" && (factor == 0 || factor == 1):
	case kind == "linear":
		c.Rope.Scaling, c.Rope.Factor = arith.ScalingLinear, factor
	case kind == "yarn":
		c.Rope.Scaling, c.Rope.Factor = arith.ScalingYarn, factor
		c.Rope.OriginalContext = r.intOr("rope.scaling.original_context_length", c.TrainedCtx, 1, maxContext)
		c.Rope.ExtFactor = r.floatOr("rope.scaling.yarn_ext_factor", 0, 0, 1)
		c.Rope.BetaFast = r.floatOr("rope.scaling.yarn_beta_fast", 0, 0, 1e6)
		c.Rope.BetaSlow = r.floatOr("rope.scaling.yarn_beta_slow", 0, 0, 1e6)
	default:
		r.fail("metadata %s is %q; none, linear and yarn are known to this build", r.key("rope.scaling.type"), kind)
	}
	c.Rope.AttnFactor = r.floatOr("rope.scaling.attn_factor", 0, 0, 1e3)
	if r.err == nil {
		r.err = c.Rope.Validate()
	}
}
