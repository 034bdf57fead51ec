package model_test

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/model"
)

// file is a model file in the making: a small one of the given architecture, for tests to spoil.
type file struct {
	vals    map[string]any
	names   []string
	dims    map[string][]uint64
	types   map[string]gguf.Type
	arch    string
	layers  int
	untied  bool
	biases  bool
	qkNorms bool
	shared  bool // an expert that every token takes
}

func newFile(arch string) *file {
	f := &file{
		arch: arch, layers: 2, biases: arch == "qwen2" || arch == "qwen2moe", qkNorms: arch == "qwen3" || arch == "qwen3moe",
		untied: arch == "llama", shared: arch == "qwen2moe",
		vals: map[string]any{}, dims: map[string][]uint64{}, types: map[string]gguf.Type{},
	}
	f.vals["general.architecture"] = arch
	for k, v := range map[string]any{
		"block_count": uint32(f.layers), "embedding_length": uint32(64), "feed_forward_length": uint32(96),
		"context_length": uint32(2048), "attention.head_count": uint32(4), "attention.head_count_kv": uint32(2),
		"attention.layer_norm_rms_epsilon": float32(1e-5), "rope.freq_base": float32(50000),
	} {
		f.set(k, v)
	}
	f.matrix("token_embd.weight", 100, 64)
	for l := range f.layers {
		p := fmt.Sprintf("blk.%d.", l)
		f.vector(p+"attn_norm.weight", 64)
		f.matrix(p+"attn_q.weight", 64, 64)
		f.matrix(p+"attn_k.weight", 32, 64)
		f.matrix(p+"attn_v.weight", 32, 64)
		if f.biases {
			f.vector(p+"attn_q.bias", 64)
			f.vector(p+"attn_k.bias", 32)
			f.vector(p+"attn_v.bias", 32)
		}
		if f.qkNorms {
			f.vector(p+"attn_q_norm.weight", 16)
			f.vector(p+"attn_k_norm.weight", 16)
		}
		f.matrix(p+"attn_output.weight", 64, 64)
		f.vector(p+"ffn_norm.weight", 64)
		f.matrix(p+"ffn_gate.weight", 96, 64)
		f.matrix(p+"ffn_up.weight", 96, 64)
		f.matrix(p+"ffn_down.weight", 64, 96)
	}
	f.vector("output_norm.weight", 64)
	if f.untied {
		f.matrix("output.weight", 100, 64)
	}
	if strings.HasSuffix(arch, "moe") {
		f.mixed(4)
	}
	return f
}

// mixed makes the feed-forward blocks so many experts of 32 elements.
func (f *file) mixed(experts uint64) {
	f.set("expert_count", uint32(experts))
	f.set("expert_used_count", uint32(2))
	for l := range f.layers {
		p := fmt.Sprintf("blk.%d.", l)
		for _, name := range []string{"gate", "up", "down"} {
			f.remove(p + "ffn_" + name + ".weight")
		}
		f.tensor(p+"ffn_gate_inp.weight", gguf.Q8_0, 64, experts)
		f.tensor(p+"ffn_gate_exps.weight", gguf.Q8_0, 64, 32, experts)
		f.tensor(p+"ffn_up_exps.weight", gguf.Q8_0, 64, 32, experts)
		f.tensor(p+"ffn_down_exps.weight", gguf.Q8_0, 32, 64, experts)
		if f.shared {
			f.set("expert_shared_feed_forward_length", uint32(160))
			f.matrix(p+"ffn_gate_shexp.weight", 160, 64)
			f.matrix(p+"ffn_up_shexp.weight", 160, 64)
			f.matrix(p+"ffn_down_shexp.weight", 64, 160)
			f.vector(p+"ffn_gate_inp_shexp.weight", 64)
		}
	}
}

// experts is what Parse should read of mixed.
func experts(even bool) kernels.ExpertShape {
	return kernels.ExpertShape{Count: 4, Used: 2, Embd: 64, FFN: 32, Renormalise: even, Scale: 1}
}

func (f *file) set(key string, v any) { f.vals[f.arch+"."+key] = v }

func (f *file) drop(key string) { delete(f.vals, f.arch+"."+key) }

func (f *file) tensor(name string, t gguf.Type, dims ...uint64) {
	if f.dims[name] == nil {
		f.names = append(f.names, name)
	}
	f.dims[name], f.types[name] = dims, t
}

func (f *file) matrix(name string, rows, cols uint64) { f.tensor(name, gguf.Q8_0, cols, rows) }

func (f *file) vector(name string, n uint64) { f.tensor(name, gguf.F32, n) }

func (f *file) remove(name string) {
	f.names = slices.DeleteFunc(f.names, func(n string) bool { return n == name })
	delete(f.dims, name)
}

func (f *file) bytes(t testing.TB) []byte {
	t.Helper()
	var b gguf.Builder
	for _, k := range slices.Sorted(keysOf(f.vals)) {
		b.Set(k, f.vals[k])
	}
	for _, n := range f.names {
		b.Add(n, f.types[n], f.dims[n]...)
	}
	var out bytes.Buffer
	err := b.Write(&out, func(t gguf.Tensor, w io.Writer) error {
		_, err := w.Write(make([]byte, t.Size))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func keysOf(m map[string]any) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (f *file) parse(t testing.TB) (*model.Config, []gguf.Tensor, error) {
	t.Helper()
	b := f.bytes(t)
	g, err := gguf.Parse(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	c, err := model.Parse(g.Meta, g.Tensors)
	return c, g.Tensors, err
}

func TestParseReadsEachFamily(t *testing.T) {
	want := model.Config{
		Layers: 2, Embd: 64, Heads: 4, KVHeads: 2, HeadDim: 16, FFN: 96, Vocab: 100, TrainedCtx: 2048, Eps: 1e-5, AttnScale: 0.25,
		Rope: model.Rope{RopeParams: arith.RopeParams{Dims: 16, Base: 50000}},
	}
	for _, c := range []struct {
		arch   string
		change func(*model.Config)
	}{
		{"llama", func(*model.Config) {}},
		{"qwen2", func(c *model.Config) { c.Rope.Mode, c.QKVBias, c.Tied = kernels.RopeHalves, true, true }},
		{"qwen3", func(c *model.Config) { c.Rope.Mode, c.QKNorm, c.Tied = kernels.RopeHalves, true, true }},
		{"qwen2moe", func(c *model.Config) {
			c.Rope.Mode, c.QKVBias, c.Tied, c.Experts, c.SharedFFN = kernels.RopeHalves, true, true, experts(false), 160
		}},
		{"qwen3moe", func(c *model.Config) {
			c.Rope.Mode, c.QKNorm, c.Tied, c.Experts = kernels.RopeHalves, true, true, experts(true)
		}},
	} {
		want := want
		want.Arch = c.arch
		c.change(&want)
		got, _, err := newFile(c.arch).parse(t)
		if err != nil {
			t.Errorf("%s: %v", c.arch, err)
			continue
		}
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.arch, diff)
		}
	}
}

func TestParseReadsScalingsAndWindow(t *testing.T) {
	rope := func(set map[string]any) arith.RopeParams {
		f := newFile("llama")
		for k, v := range set {
			f.set(k, v)
		}
		c, _, err := f.parse(t)
		if err != nil {
			t.Fatal(err)
		}
		return c.Rope.RopeParams
	}
	plain := arith.RopeParams{Dims: 16, Base: 50000}
	with := func(change func(*arith.RopeParams)) arith.RopeParams { p := plain; change(&p); return p }
	for name, c := range map[string]struct {
		set  map[string]any
		want arith.RopeParams
	}{
		"none":                    {map[string]any{"rope.scaling.type": "none", "rope.scaling.factor": float32(4)}, plain},
		"factor without type":     {map[string]any{"rope.scaling.factor": float32(4)}, with(func(p *arith.RopeParams) { p.Scaling, p.Factor = arith.ScalingLinear, 4 })},
		"the key of older files":  {map[string]any{"rope.scale_linear": float32(2)}, with(func(p *arith.RopeParams) { p.Scaling, p.Factor = arith.ScalingLinear, 2 })},
		"a part of the dimension": {map[string]any{"rope.dimension_count": uint32(8)}, with(func(p *arith.RopeParams) { p.Dims = 8 })},
		"yarn": {
			map[string]any{"rope.scaling.type": "yarn", "rope.scaling.factor": float32(4), "rope.scaling.original_context_length": uint32(512), "rope.scaling.yarn_beta_fast": float32(16)},
			with(func(p *arith.RopeParams) {
				p.Scaling, p.Factor, p.OriginalContext, p.BetaFast = arith.ScalingYarn, 4, 512, 16
			}),
		},
	} {
		if diff := cmp.Diff(c.want, rope(c.set)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	f := newFile("llama")
	f.set("attention.sliding_window", uint32(512))
	f.set("attention.head_count_kv", []uint32{2, 2})
	f.vector("rope_freqs.weight", 8)
	f.vector("blk.1.attn_rot_embd.weight", 8)
	c, _, err := f.parse(t)
	if err != nil || c.Window != 512 || !c.Rope.Freqs {
		t.Errorf("window %d, frequency factors %v, %v; want 512 and true", c.Window, c.Rope.Freqs, err)
	}
}

func TestParseNamesWhatItRefuses(t *testing.T) {
	for _, tc := range []struct {
		want  string
		spoil func(*file)
	}{
		{`"mamba" is not known to this build; known are llama, qwen2, qwen2moe, qwen3, qwen3moe`, func(f *file) { f.vals["general.architecture"] = "mamba" }},

		{"general.architecture", func(f *file) { delete(f.vals, "general.architecture") }},
		{"llama.block_count is 0", func(f *file) { f.set("block_count", uint32(0)) }},
		{"llama.block_count is 4000000000", func(f *file) { f.set("block_count", uint32(4000000000)) }},
		{"llama.block_count: expected", func(f *file) { f.set("block_count", "two") }},
		{"llama.embedding_length", func(f *file) { f.drop("embedding_length") }},
		{"llama.feed_forward_length is missing", func(f *file) { f.drop("feed_forward_length") }},
		{"llama.feed_forward_length is 0", func(f *file) { f.set("feed_forward_length", uint32(0)) }},
		{"llama.context_length", func(f *file) { f.set("context_length", uint64(1<<40)) }},
		{"llama.attention.head_count is missing", func(f *file) { f.drop("attention.head_count") }},
		{"4 query heads are no multiple of 3 KV heads", func(f *file) { f.set("attention.head_count_kv", uint32(3)) }},
		{"head_count_kv differs between layers", func(f *file) { f.set("attention.head_count_kv", []uint32{2, 1}) }},
		{"expected 2 elements", func(f *file) { f.set("attention.head_count_kv", []uint32{2, 2, 2}) }},
		{"keys of 16 elements and values of 32", func(f *file) { f.set("attention.value_length", uint32(32)) }},
		{"heads of 15 elements", func(f *file) { f.set("attention.key_length", uint32(15)) }},
		{"llama.attention.key_length is 100000", func(f *file) { f.set("attention.key_length", uint32(100000)) }},
		{"rms_epsilon is missing", func(f *file) { f.drop("attention.layer_norm_rms_epsilon") }},
		{"llama.attention.layer_norm_rms_epsilon is 0", func(f *file) { f.set("attention.layer_norm_rms_epsilon", float32(0)) }},
		{"llama.attention.layer_norm_rms_epsilon is 1e-13", func(f *file) { f.set("attention.layer_norm_rms_epsilon", 1e-13) }},
		{"llama.attention.layer_norm_rms_epsilon is NaN", func(f *file) { f.set("attention.layer_norm_rms_epsilon", math.NaN()) }},
		{"llama.attention.scale is +Inf", func(f *file) { f.set("attention.scale", math.Inf(1)) }},
		{"llama.rope.dimension_count is 32", func(f *file) { f.set("rope.dimension_count", uint32(32)) }},
		{"llama.rope.freq_base is 0", func(f *file) { f.set("rope.freq_base", float32(0)) }},
		{`llama.rope.scaling.type is "longrope"; none, linear and yarn`, func(f *file) { f.set("rope.scaling.type", "longrope") }},
		{"llama.rope.scaling.type: expected", func(f *file) { f.set("rope.scaling.type", uint32(1)) }},
		{"llama.attention.sliding_window", func(f *file) { f.set("attention.sliding_window", int32(-1)) }},
		{"general.name", func(f *file) { f.vals["general.name"] = uint32(1) }},
		{"tensor token_embd.weight is missing", func(f *file) { f.remove("token_embd.weight") }},
		{"tensor token_embd.weight has 1 dim", func(f *file) { f.vector("token_embd.weight", 64) }},
		{"tensor blk.1.attn_k.weight is missing", func(f *file) { f.remove("blk.1.attn_k.weight") }},
		{"tensor blk.1.attn_k.weight is 64 x 64; the model's metadata asks for 32 x 64", func(f *file) { f.matrix("blk.1.attn_k.weight", 64, 64) }},
		{"tensor blk.0.attn_norm.weight is a vector of type Q8_0", func(f *file) { f.tensor("blk.0.attn_norm.weight", gguf.Q8_0, 64) }},
		{"tensor blk.0.attn_q.weight_scale has no place in the graph of llama", func(f *file) { f.vector("blk.0.attn_q.weight_scale", 1) }},
		{"tensor blk.0.attn_rot_embd.weight.old has no place", func(f *file) { f.vector("blk.0.attn_rot_embd.weight.old", 1) }},
		{"tensor blk.0.attn_k.bias is missing", func(f *file) { f.vector("blk.0.attn_q.bias", 64) }},
		{"tensor rope_freqs.weight is 1 x 4; the model's metadata asks for 1 x 8", func(f *file) { f.vector("rope_freqs.weight", 4) }},
		{"tensor output_norm.weight is missing; the file is incomplete or of a variant", func(f *file) { f.remove("output_norm.weight") }},
		{"tensor blk.2.attn_norm.weight has no place in the graph", func(f *file) { f.vector("blk.2.attn_norm.weight", 64) }},
	} {
		f := newFile("llama")
		tc.spoil(f)
		c, _, err := f.parse(t)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v; tc.want one with %q", err, tc.want)
		}
		if c != nil {
			t.Errorf("%s: a configuration came with the error", tc.want)
		}
	}
}

func TestRangesNeedExactlyTheirTensors(t *testing.T) {
	for _, arch := range model.Architectures() {
		f := newFile(arch)
		c, tensors, err := f.parse(t)
		if err != nil {
			t.Fatal(err)
		}
		names := func(r model.Range) []string {
			var out []string
			for _, s := range c.Tensors(r) {
				out = append(out, s.Name)
			}
			slices.Sort(out)
			return out
		}
		if diff := cmp.Diff(slices.Sorted(slices.Values(f.names)), names(c.All())); diff != "" {
			t.Errorf("%s, whole model (-file +needed):\n%s", arch, diff)
		}
		first, last := names(model.Range{First: 0, End: 1}), names(model.Range{First: 1, End: 2})
		both := 0
		for _, n := range first {
			if slices.Contains(last, n) {
				both++
				if n != "token_embd.weight" || !c.Tied {
					t.Errorf("%s: both ranges need %s", arch, n)
				}
			}
		}
		if len(first)+len(last)-both != len(f.names) || (both == 1) != c.Tied {
			t.Errorf("%s: ranges of %d and %d tensors for a model of %d", arch, len(first), len(last), len(f.names))
		}
		checkSizes(t, c, tensors)
	}
}

// checkSizes compares the sizes of ranges with sums over their tensors.
func checkSizes(t *testing.T, c *model.Config, tensors []gguf.Tensor) {
	t.Helper()
	sizes, err := c.Sizes(tensors)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []model.Range{{First: 0, End: 1}, {First: 1, End: 2}, {First: 0, End: 2}} {
		want := int64(0)
		for _, s := range c.Tensors(r) {
			if s.Vector {
				want += 4 * int64(s.Cols)
				continue
			}
			// A packed Q8_0 block of 16 rows and 32 columns has 512 bytes of quants and 32 of scales, those a group padded to 64.
			groups, blocks := int64(s.Rows+15)/16, int64(s.Cols/32)
			want += groups * (512*blocks + (32*blocks+63)/64*64)
		}
		if got := sizes.Weights(r); got != want {
			t.Errorf("%s: layers %v take %d bytes; want %d", c.Arch, r, got, want)
		}
	}
	if _, err := c.Sizes(tensors[1:]); err == nil {
		t.Error("sizes without the embedding gave no error")
	}
	p := model.DefaultProfile(c)
	// 2 layers, 2 heads of 16, keys and values of 2 bytes, in blocks of 16 positions.
	if got, want := c.KVBytes(p, c.All(), 17), int64(2*2*16*2*2*32); got != want {
		t.Errorf("KV of 17 positions takes %d bytes; want %d", got, want)
	}
	if whole, part := c.WorkBytes(p, c.All(), 64), c.WorkBytes(p, model.Range{First: 0, End: 1}, 64); whole <= part || part <= 0 {
		t.Errorf("work memory: %d for all, %d without projection", whole, part)
	}
}

func TestRangesAreChecked(t *testing.T) {
	c, _, err := newFile("llama").parse(t)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []model.Range{{}, {First: -1, End: 1}, {First: 1, End: 1}, {First: 1, End: 3}} {
		if c.CheckRange(r) == nil {
			t.Errorf("%v passed", r)
		}
	}
	if err := c.CheckRange(c.All()); err != nil {
		t.Error(err)
	}
}

func TestProfilesRoundTripThroughTheirNames(t *testing.T) {
	c, _, err := newFile("llama").parse(t)
	if err != nil {
		t.Fatal(err)
	}
	p := model.DefaultProfile(c)
	if p.String() != fmt.Sprintf("c%d-a8-f16-2048", kernels.ContractVersion) {
		t.Errorf("default is %s", p)
	}
	p.Act, p.KV = kernels.Act16, kernels.KVF32
	if got, err := model.ParseProfile(p.String()); err != nil || got != p {
		t.Errorf("%s parsed to %v, %v", p, got, err)
	}
	for _, s := range []string{
		"", "c1", "c1-a8-f16-0", "c1-a7-f16-100", "c1-a8-f64-100", "c2-a8-f16-100", "c1-a8-f16-100x", "c01-a8-f16-100",
		"c1-a8-f16-99999999999", "c1-a264-f16-5",
	} {
		if p, err := model.ParseProfile(s); err == nil {
			t.Errorf("%q parsed to %v", s, p)
		}
	}
	p.KV = 7
	if p.Validate() == nil {
		t.Error("KV type 7 passed")
	}
}

func FuzzParse(f *testing.F) {
	const size = 1 << 20
	for _, arch := range model.Architectures() {
		b := newFile(arch).bytes(f)
		g, err := gguf.Parse(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(g.HeaderBytes())
	}
	f.Fuzz(func(t *testing.T, header []byte) {
		g, err := gguf.ParseHeader(header, max(size, int64(len(header))))
		if err != nil {
			return
		}
		c, err := model.Parse(g.Meta, g.Tensors)
		if err != nil {
			return
		}
		if _, err := c.Sizes(g.Tensors); err != nil {
			return
		}
		if err := c.CheckRange(c.All()); err != nil {
			t.Error(err)
		}
	})
}
