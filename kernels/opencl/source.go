package opencl

import (
	"crypto/sha256"
	"embed"
	"strings"
	"sync"

	"github.com/weft-mesh/weft/kernels/opencl/driver"
)

//go:embed cl/*.cl
var sources embed.FS

// sourceFiles are the parts of the program in the order in which they are joined.
var sourceFiles = []string{
	"common.cl", "math.cl", "elementwise.cl", "norm.cl", "rotate.cl", "kv.cl", "attention.cl",
	"weights.cl", "acts.cl", "products.cl", "floats.cl", "tensor.cl", "experts.cl", "embed.cl", "reduce.cl",
}

// Source is the program that a driver.Device must be opened with.
var Source = sync.OnceValue(func() driver.Program {
	var b strings.Builder
	for _, name := range sourceFiles {
		text, err := sources.ReadFile("cl/" + name)
		if err != nil {
			panic("opencl: " + err.Error()) // the build embeds them
		}
		b.Write(text)
	}
	return driver.Program{Source: b.String(), Hash: sha256.Sum256([]byte(b.String()))}
})
