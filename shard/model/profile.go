package model

import (
	"fmt"

	"github.com/weft-mesh/weft/kernels"
)

// Profile is the numeric profile of a model entry. It is the same in the whole mesh: all that decides a reply's bits, apart
// from the file, the seed and the sampling settings.
type Profile struct {
	Contract int             // kernels.ContractVersion of who made the entry
	Act      kernels.ActBits // width of quantised activations
	KV       kernels.KVType  // number type of keys and values
	Context  int             // declared context: positions of a session at most, and of the RoPE tables
}

// DefaultContext is the most positions a profile gets without being asked.
const DefaultContext = 8192

// DefaultProfile is the profile of a model that was added without settings.
func DefaultProfile(c *Config) Profile {
	return Profile{
		Contract: kernels.ContractVersion,
		Act:      kernels.Act8,
		KV:       kernels.KVF16,
		Context:  min(c.TrainedCtx, DefaultContext),
	}
}

// Validate refuses what this build cannot compute.
func (p Profile) Validate() error {
	switch {
	case p.Contract != kernels.ContractVersion:
		return fmt.Errorf("profile has arithmetic contract %d, this build computes %d; update the older node", p.Contract, kernels.ContractVersion)
	case p.Act != kernels.Act8 && p.Act != kernels.Act16:
		return fmt.Errorf("profile has activations of %d bits; 8 or 16 were expected", p.Act)
	case p.KV != kernels.KVF16 && p.KV != kernels.KVF32:
		return fmt.Errorf("profile has KV type %d; f16 or f32 was expected", p.KV)
	case p.Context < 1 || p.Context > maxContext:
		return fmt.Errorf("profile has a context of %d positions; 1 to %d was expected", p.Context, maxContext)
	}
	return nil
}

// String is the profile's canonical form, e.g. "c1-a8-f16-8192". Equal profiles have equal strings.
func (p Profile) String() string {
	kv := "f16"
	if p.KV == kernels.KVF32 {
		kv = "f32"
	}
	return fmt.Sprintf("c%d-a%d-%s-%d", p.Contract, p.Act, kv, p.Context)
}

// ParseProfile reads String's form. The profile is validated.
func ParseProfile(s string) (Profile, error) {
	var p Profile
	var kv string
	if _, err := fmt.Sscanf(s, "c%d-a%d-%3s-%d", &p.Contract, &p.Act, &kv, &p.Context); err != nil {
		return Profile{}, fmt.Errorf("profile %q: %w; a form like c1-a8-f16-8192 was expected", s, err)
	}
	switch kv {
	case "f16":
		p.KV = kernels.KVF16
	case "f32":
		p.KV = kernels.KVF32
	default:
		return Profile{}, fmt.Errorf("profile %q: KV type %q is unknown; f16 or f32 was expected", s, kv)
	}
	if p.String() != s {
		return Profile{}, fmt.Errorf("profile %q: a form like c1-a8-f16-8192 was expected", s)
	}
	return p, p.Validate()
}
