package store

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/model"
)

// completeProfile fills what the user left open (zero fields) from the model's metadata and checks the rest.
func completeProfile(p model.Profile, meta *gguf.Meta) (model.Profile, error) {
	trained := trainedContext(meta)
	if p.Contract == 0 {
		p.Contract = kernels.ContractVersion
	}
	if p.Act == 0 {
		p.Act = kernels.Act8
	}
	if p.Context == 0 {
		p.Context = min(trained, model.DefaultContext)
	}
	if p.Context > trained {
		return p, fmt.Errorf("a context of %d was asked for, but the model was trained for %d; choose at most that", p.Context, trained)
	}
	return p, p.Validate()
}

// trainedContext is the context that the model was trained for, or the default if the file does not say.
func trainedContext(meta *gguf.Meta) int {
	arch, err := meta.String("general.architecture")
	if err != nil {
		return model.DefaultContext
	}
	n, err := meta.Uint(arch + ".context_length")
	if err != nil || n == 0 || n > 1<<24 {
		return model.DefaultContext
	}
	return int(n)
}
