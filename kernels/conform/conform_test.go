package conform

import (
	"math"
	"slices"
	"testing"

	"github.com/weft-mesh/weft/kernels"
)

// wrong is the oracle with one operation spoiled.
type wrong struct {
	kernels.Device
	op string
}

// nudge moves one element of the first row by a unit in its last place.
func (w wrong) nudge(op string, x kernels.Buffer) {
	if b := x.(*buffer); op == w.op {
		v := &b.data[b.cols/2]
		*v = math.Float32frombits(math.Float32bits(*v) ^ 1)
	}
}

func (w wrong) MatMul(b *kernels.Batch, dst kernels.Buffer, m kernels.Matrix, x kernels.Acts) {
	w.Device.MatMul(b, dst, m, x)
	w.nudge("product", dst)
}

func (w wrong) Norm(b *kernels.Batch, dst, x kernels.Buffer, v kernels.Vector, eps float32) {
	if w.op == "eps" {
		eps *= 1.001
	}
	w.Device.Norm(b, dst, x, v, eps)
	w.nudge("norm", dst)
}

func (w wrong) Embed(b *kernels.Batch, dst kernels.Buffer, m kernels.Matrix, ids []int32) {
	w.Device.Embed(b, dst, m, ids)
	w.nudge("embed", dst)
}

func (w wrong) Rotate(b *kernels.Batch, x kernels.Buffer, dim int, t kernels.Rope, mode kernels.RopeMode) {
	if w.op == "mode" {
		mode = kernels.RopePairs
	}
	w.Device.Rotate(b, x, dim, t, mode)
	w.nudge("rotate", x)
}

func (w wrong) SiLUMul(b *kernels.Batch, dst, g, u kernels.Buffer) {
	w.Device.SiLUMul(b, dst, g, u)
	w.nudge("silu", dst)
}

func (w wrong) Add(b *kernels.Batch, x, y kernels.Buffer) {
	w.Device.Add(b, x, y)
	w.nudge("add", x)
}

func (w wrong) AddVector(b *kernels.Batch, x kernels.Buffer, v kernels.Vector) {
	w.Device.AddVector(b, x, v)
	w.nudge("bias", x)
}

func (w wrong) Write(dst kernels.Buffer, row int, src []float32) {
	w.Device.Write(dst, row, src)
	if b := dst.(*buffer); w.op == "no floor" {
		copy(b.data[row*b.cols:], src)
	}
}

func (w wrong) MixExperts(b *kernels.Batch, dst kernels.Buffer, e kernels.Experts, l kernels.Buffer, x kernels.Acts, weights kernels.ExpertWeights) {
	room := *e.(*experts)
	switch w.op {
	case "renormalised":
		room.shape.Renormalise = true
	case "expert scale":
		room.shape.Scale = 1
	case "gate for up":
		weights.Gate, weights.Up = weights.Up, weights.Gate
	case "expert width":
		room.bits = kernels.Act8
	}
	w.Device.MixExperts(b, dst, &room, l, x, weights)
	if w.op == "no router fault" {
		b.Faults = slices.DeleteFunc(b.Faults, func(f kernels.Fault) bool { return f.Op == "router" })
	}
	w.nudge("experts", dst)
}

func (w wrong) AddGated(b *kernels.Batch, x, y, gate kernels.Buffer) {
	w.Device.AddGated(b, x, y, gate)
	w.nudge("gated", x)
}

func (w wrong) Gather(dst, src kernels.Buffer, rows []int32) {
	w.Device.Gather(dst, src, rows)
	w.nudge("gather", dst)
}

func (w wrong) Attention(b *kernels.Batch, dst, q kernels.Buffer, kv kernels.KV, layer int, p kernels.AttnParams) {
	switch w.op {
	case "window":
		p.Window = 0
	case "soft cap":
		p.Softcap = 0
	}
	w.Device.Attention(b, dst, q, kv, layer, p)
	w.nudge("attention", dst)
}

func (w wrong) StoreKV(b *kernels.Batch, kv kernels.KV, layer int, k, v kernels.Buffer) {
	if w.op == "layer" {
		layer = 0
	}
	if w.op == "keys for values" {
		k, v = v, k
	}
	w.Device.StoreKV(b, kv, layer, k, v)
	if w.op == "no kv fault" {
		b.Faults = nil
	}
}

func (w wrong) CheckFinite(b *kernels.Batch, x kernels.Buffer) {
	if w.op != "no logits fault" {
		w.Device.CheckFinite(b, x)
	}
}

func (w wrong) Prepare(b *kernels.Batch, dst kernels.Acts, x kernels.Buffer) {
	w.Device.Prepare(b, dst, x)
	if a := dst.(*acts); w.op == "width" {
		a.bits = kernels.Act8
	}
}

func TestASpoiledOperationIsCaught(t *testing.T) {
	where := map[string]string{
		"product": "Products", "width": "Products", "norm": "Norm", "eps": "Norm", "embed": "Embedding",
		"rotate": "Rotation", "mode": "Rotation", "silu": "Elementwise", "add": "Elementwise", "bias": "Elementwise",
		"no floor": "Moves", "gather": "Moves", "attention": "AttentionShapes", "layer": "AttentionShapes",
		"keys for values": "AttentionShapes", "soft cap": "AttentionShapes", "window": "AttentionBatches",
		"no kv fault": "Faults", "no logits fault": "Faults",
		"highest": "Reductions", "ties": "Reductions", "places": "Reductions", "weights": "Reductions",
		"experts": "Experts", "renormalised": "Experts", "expert scale": "Experts", "gate for up": "Experts", "expert width": "Experts",
		"no router fault": "Experts", "gated": "Experts",
	}
	for op, name := range where {
		seen := 0
		for _, c := range Cases() {
			if c.Name == name {
				c.Run([]kernels.Device{wrong{Naive(), op}}, Short, func(Difference) { seen++ })
			}
		}
		if seen == 0 {
			t.Errorf("spoiling %q goes unnoticed by %s", op, name)
		}
	}
}

func TestADeviceThatPanicsOrErrsIsReported(t *testing.T) {
	var seen []Difference
	s := &suite{devices: []kernels.Device{wrong{Device: Naive()}}, report: func(d Difference) { seen = append(seen, d) }, goOn: func() bool { return true }}
	s.same("panics", rows(1), func(t *trace) {
		if _, ok := t.d.(wrong); ok {
			panic("spoiled")
		}
	})
	s.same("errs", rows(1), func(t *trace) {
		if _, ok := t.d.(wrong); ok {
			must(t.d.NewBuffer(0, 0))
		}
	})
	if len(seen) != 2 {
		t.Errorf("reports: %v", seen)
	}
}

func (w wrong) Reduce(x kernels.Buffer, r *kernels.Reduction) error {
	err := w.Device.Reduce(x, r)
	switch {
	case w.op == "highest" && len(r.Top) > 2:
		r.Top[0], r.Top[1] = r.Top[1], r.Top[0]
	case w.op == "ties" && len(r.Top) > 0:
		_, cols := x.Shape()
		for i := range r.Top {
			for k := cols - 1; k > int(r.Top[i].Col); k-- {
				if row := x.(*buffer).row(i / r.Width); row[k] == r.Top[i].Value {
					r.Top[i].Col = int32(k)
				}
			}
		}
	case w.op == "places" && len(r.Values) > 0:
		r.Values[0]++
	case w.op == "weights" && len(r.Sums) > 0:
		r.Sums[len(r.Sums)-1]++
	}
	return err
}
