package conform

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/quant"
)

func TestAQuickCheckMeetsEverySpoiledOperation(t *testing.T) {
	for _, op := range []string{
		"product", "width", "norm", "eps", "embed", "rotate", "mode", "silu", "add", "bias", "no floor", "gather",
		"attention", "layer", "keys for values", "soft cap", "window", "no kv fault", "no logits fault",
		"highest", "ties", "places", "weights",
		"experts", "renormalised", "expert scale", "gate for up", "expert width", "no router fault", "gated",
	} {
		err := Check(t.Context(), wrong{Naive(), op}, Quick, nil)
		var d *Difference
		if !errors.As(err, &d) || d.Case == "" || d.Scenario == "" || d.Device == "" {
			t.Errorf("spoiling %q: %v", op, err)
		}
	}
}

// wrongType is the oracle with the products of one weight type and width of
// activations spoiled.
type wrongType struct {
	kernels.Device
	typ  quant.Type
	bits kernels.ActBits
	// experts: those of experts instead.
	experts bool
	bad     map[kernels.Matrix]bool
}

func (w wrongType) NewMatrix(p *quant.Packed) (kernels.Matrix, error) {
	m, err := w.Device.NewMatrix(p)
	if err == nil {
		w.bad[m] = p.Type == w.typ
	}
	return m, err
}

func (w wrongType) MatMul(b *kernels.Batch, dst kernels.Buffer, m kernels.Matrix, x kernels.Acts) {
	w.Device.MatMul(b, dst, m, x)
	if a := x.(*acts); !w.experts && w.bad[m] && a.bits == w.bits {
		v := &dst.(*buffer).data[0]
		*v = math.Float32frombits(math.Float32bits(*v) ^ 1)
	}
}

func (w wrongType) MixExperts(b *kernels.Batch, dst kernels.Buffer, e kernels.Experts, l kernels.Buffer, x kernels.Acts, weights kernels.ExpertWeights) {
	w.Device.MixExperts(b, dst, e, l, x, weights)
	if room := e.(*experts); w.experts && w.bad[weights.Down] && room.bits == w.bits {
		v := &dst.(*buffer).data[0]
		*v = math.Float32frombits(math.Float32bits(*v) ^ 1)
	}
}

func TestAQuickCheckMeetsEveryWeightTypeAndWidthOfActivations(t *testing.T) {
	for _, typ := range quant.Types() {
		for _, bits := range []kernels.ActBits{kernels.Act8, kernels.Act16} {
			err := Check(t.Context(), wrongType{Naive(), typ, bits, false, map[kernels.Matrix]bool{}}, Quick, nil)
			if err == nil || !strings.Contains(err.Error(), typ.String()) || !strings.Contains(err.Error(), "want") {
				t.Errorf("%s at %d bits: %v", typ, bits, err)
			}
			var first *Difference
			mixtures(&suite{
				name: "Experts", devices: []kernels.Device{wrongType{Naive(), typ, bits, true, map[kernels.Matrix]bool{}}}, depth: Quick, short: true,
				report: func(d Difference) { first = &d }, goOn: func() bool { return first == nil },
			})
			if first == nil || !strings.Contains(first.Error(), typ.String()) || !strings.Contains(first.Error(), "want") {
				t.Errorf("experts of %s at %d bits: %v", typ, bits, first)
			}
		}
	}
}

func TestACheckEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	err := Check(ctx, Naive(), Full, func(string) {
		if asked++; asked == 2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || asked != 2 {
		t.Errorf("%v after %d cases", err, asked)
	}
}

func TestTheOraclePassesAQuickCheck(t *testing.T) {
	if err := Check(t.Context(), Naive(), Quick, nil); err != nil {
		t.Error(err)
	}
}
