package opencl

import "github.com/weft-mesh/weft/kernels"

// attnPlan is how a batch was cut for attention.
type attnPlan struct{ valid bool }

// Attention stores each row's attention over its sequence's positions.
func (d *Device) Attention(b *kernels.Batch, dst, q kernels.Buffer, kv kernels.KV, layer int, p kernels.AttnParams) {
	panic("opencl: attention is not in this build")
}
