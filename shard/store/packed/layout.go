package packed

import "github.com/weft-mesh/weft/kernels/quant"

// planeBytes are the sizes of the planes of quants and scales. Both are multiples of 64, so both begin aligned.
func planeBytes(t quant.Type, rows, cols int) (quants, scales int64, err error) {
	return quant.PackedSize(t, rows, cols)
}

// slabBytes is about how many GGUF bytes are packed or unpacked at a time: enough to keep calls rare, little enough that
// a slab in both forms stays in a core's second-level cache.
const slabBytes = 512 << 10

// slabGroups is how many groups of rows make a slab.
func (s Spec) slabGroups() int {
	row, err := s.Type.RowBytes(s.Cols)
	if err != nil {
		return 1
	}
	return int(max(1, slabBytes/(row*quant.GroupRows)))
}

// groups is the number of groups of rows.
func (s Spec) groups() int { return (s.Rows + quant.GroupRows - 1) / quant.GroupRows }
