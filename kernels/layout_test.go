package kernels_test

import (
	"testing"

	"github.com/weft-mesh/weft/kernels"
)

func TestBlockBytesCountsKeysAndValuesOfSixteenPositions(t *testing.T) {
	// 30 layers with 3 heads of 64: 2 tensors * 16 positions * 5760 elements.
	l := kernels.KVLayout{Type: kernels.KVF16, Layers: 30, Heads: 3, HeadDim: 64}
	if got := l.BlockBytes(); got != 368640 {
		t.Errorf("half precision: %d bytes, want 368640", got)
	}
	l.Type = kernels.KVF32
	if got := l.BlockBytes(); got != 737280 {
		t.Errorf("single precision: %d bytes, want 737280", got)
	}
}
