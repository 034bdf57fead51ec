package model

import "github.com/weft-mesh/weft/kernels/quant"

// Source gives a model's tensors by their names in the file. Load asks for exactly those of its range, each once.
type Source interface {
	// Matrix gives packed weights. They must stay valid and unchanged until the graph that was loaded with them is closed.
	Matrix(name string) (*quant.Packed, error)
	// Vector gives the floats of a one-dimensional tensor, whatever float type it has in the file. Load copies them.
	Vector(name string) ([]float32, error)
}
