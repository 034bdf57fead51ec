package model

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weft-mesh/weft/kernels"
)

// family is an architecture: what sets it apart from the plain block, which is pre-norm attention with rotary embedding
// and a gated feed-forward block with SiLU.
type family struct {
	arch    string
	rope    kernels.RopeMode // how its files order the elements of queries and keys
	experts bool             // its feed-forward blocks may be experts, which read then reads
	read    func(r *reader, c *Config)
}

// families are the known architectures.
var families = []family{llama, qwen2, qwen2moe, qwen3, qwen3moe}

// Architectures lists the known architectures by their names in files, sorted.
func Architectures() []string {
	names := make([]string, 0, len(families))
	for _, f := range families {
		names = append(names, f.arch)
	}
	slices.Sort(names)
	return names
}

func familyOf(arch string) (family, error) {
	for _, f := range families {
		if f.arch == arch {
			return f, nil
		}
	}
	return family{}, fmt.Errorf("architecture %q is not known to this build; known are %s", arch, strings.Join(Architectures(), ", "))
}
