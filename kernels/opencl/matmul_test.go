package opencl

import "testing"

// TestProductsChooseTheirKernels: where the borders are, and that groups cover the outputs.
func TestProductsChooseTheirKernels(t *testing.T) {
	for _, c := range []struct {
		rows, cols, n, units int
		shape, log           int
		groups               [3]int
	}{
		{4096, 4096, 1, 132, kernelOne, 4, [3]int{256, 1, 1}},
		{4096, 4096, 1, 0, kernelOne, 4, [3]int{256, 1, 1}},
		{40, 896, 1, 0, kernelOne, 2, [3]int{1, 1, 1}},
		{17, 32, 1, 0, kernelOne, 0, [3]int{1, 1, 1}},
		{4096, 4096, 4, 132, kernelFew, 4, [3]int{256, 1, 1}},
		{4096, 4096, 5, 132, kernelTensorFew, 3, [3]int{256, 1, 1}},
		{4096, 512, 17, 132, kernelTensorFew, 1, [3]int{64, 2, 1}},
		{4096, 4096, 64, 132, kernelTensorFew, 3, [3]int{256, 4, 1}},
		{14336, 4096, 64, 132, kernelTensor, 0, [3]int{112, 1, 1}},
		{4096, 4096, 512, 132, kernelTensor, 0, [3]int{32, 8, 1}},
		{33, 4096, 33, 132, kernelTensor, 0, [3]int{1, 1, 1}},
		{4096, 4096, 16, 0, kernelFew, 4, [3]int{256, 2, 1}},
		{4097, 4096, 33, 0, kernelTile, 0, [3]int{33, 2, 1}},
	} {
		g, shape, log := productGrid(c.rows, c.cols, c.n, c.units)
		if shape != c.shape || log != c.log || g.groups != c.groups || g.local != [3]int{productItems, 1, 1} {
			t.Errorf("%+v: kernel %d, log %d, %+v", c, shape, log, g)
		}
	}
}
