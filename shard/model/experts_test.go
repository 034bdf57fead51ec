package model_test

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/shard/gguf"
	"github.com/weft-mesh/weft/shard/model"
)

func TestParseReadsExperts(t *testing.T) {
	with := func(change func(*kernels.ExpertShape)) kernels.ExpertShape { s := experts(true); change(&s); return s }
	for name, c := range map[string]struct {
		set  map[string]any
		want kernels.ExpertShape
	}{
		"as a family has them": {nil, experts(true)},
		"a width of their own": {map[string]any{"expert_feed_forward_length": uint32(32)}, experts(true)},
		"softmax by name":      {map[string]any{"expert_gating_func": uint32(1)}, experts(true)},
		"scaled":               {map[string]any{"expert_weights_scale": float32(2.5)}, with(func(s *kernels.ExpertShape) { s.Scale = 2.5 })},
		"a scale of none":      {map[string]any{"expert_weights_scale": float32(0)}, experts(true)},
		"not renormalised":     {map[string]any{"expert_weights_norm": false}, experts(false)},
		"one of them":          {map[string]any{"expert_used_count": uint32(1)}, with(func(s *kernels.ExpertShape) { s.Used = 1 })},
	} {
		f := newFile("llama")
		f.mixed(4)
		for k, v := range c.set {
			f.set(k, v)
		}
		got, _, err := f.parse(t)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(c.want, got.Experts); diff != "" || !got.HasExperts() {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestParseNamesWhatItRefusesOfExperts(t *testing.T) {
	for _, c := range []struct {
		want  string
		spoil func(*file)
	}{
		{"expert_used_count", func(f *file) { f.drop("expert_used_count") }},
		{"expert_used_count is 0", func(f *file) { f.set("expert_used_count", uint32(0)) }},
		{"5 of 4 experts for each token; 1 to 4", func(f *file) { f.set("expert_used_count", uint32(5)) }},
		{"expert_used_count is 65", func(f *file) { f.set("expert_used_count", uint32(65)) }},
		{"expert_count is 4000000000", func(f *file) { f.set("expert_count", uint32(4000000000)) }},
		{"expert_feed_forward_length is 4000000000", func(f *file) { f.set("expert_feed_forward_length", uint32(4000000000)) }},
		{"experts of 64 and 40 elements; multiples of 16", func(f *file) { f.set("expert_feed_forward_length", uint32(40)) }},
		{"expert_weights_scale is +Inf", func(f *file) { f.set("expert_weights_scale", math.Inf(1)) }},
		{"expert_weights_scale is -1", func(f *file) { f.set("expert_weights_scale", float32(-1)) }},
		{"scaled by 1e-09", func(f *file) { f.set("expert_weights_scale", float32(1e-9)) }},
		{"expert_gating_func is 2; this build computes expert weights by softmax", func(f *file) { f.set("expert_gating_func", uint32(2)) }},
		{"its experts come in 8 groups", func(f *file) { f.set("expert_group_count", uint32(8)) }},
		{"expert_weights_norm", func(f *file) { f.set("expert_weights_norm", "yes") }},
		{"tensor blk.1.ffn_up_exps.weight is missing", func(f *file) { f.remove("blk.1.ffn_up_exps.weight") }},
		{"tensor blk.0.ffn_gate_inp.weight is 5 x 64", func(f *file) { f.matrix("blk.0.ffn_gate_inp.weight", 5, 64) }},
		{"tensor blk.1.ffn_down_exps.weight is 320 x 32", func(f *file) { f.tensor("blk.1.ffn_down_exps.weight", gguf.Q8_0, 32, 64, 5) }},
		{"tensor blk.0.ffn_up_exps.weight has the dimensions [64 128]; 4 matrices", func(f *file) { f.matrix("blk.0.ffn_up_exps.weight", 128, 64) }},
		{"tensor blk.0.ffn_up_exps.weight has the dimensions [64 64 2]", func(f *file) { f.tensor("blk.0.ffn_up_exps.weight", gguf.Q8_0, 64, 64, 2) }},
		{"tensor blk.0.ffn_gate.weight has no place in the graph", func(f *file) { f.matrix("blk.0.ffn_gate.weight", 96, 64) }},
		{"tensor blk.0.ffn_gate_shexp.weight has no place", func(f *file) { f.matrix("blk.0.ffn_gate_shexp.weight", 96, 64) }},
		{"tensor blk.0.exp_probs_b.bias has no place", func(f *file) { f.vector("blk.0.exp_probs_b.bias", 4) }},
		{"files of before April 2024", func(f *file) {
			f.remove("blk.0.ffn_gate_exps.weight")
			f.matrix("blk.0.ffn_gate.0.weight", 32, 64)
		}},
	} {
		f := newFile("llama")
		f.mixed(4)
		c.spoil(f)
		got, _, err := f.parse(t)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v; want one with %q", err, c.want)
		}
		if got != nil {
			t.Errorf("%s: a configuration came with the error", c.want)
		}
	}
}

func TestFamiliesWithoutExpertsRefuseThemAndOthersNeedThem(t *testing.T) {
	f := newFile("qwen3")
	f.mixed(8)
	if _, _, err := f.parse(t); err == nil || !strings.Contains(err.Error(), "it has 8 experts (qwen3.expert_count)") {
		t.Errorf("experts of a dense family: %v", err)
	}
	f = newFile("qwen3moe")
	f.drop("expert_count")
	if _, _, err := f.parse(t); err == nil || !strings.Contains(err.Error(), "qwen3moe.expert_count") {
		t.Errorf("a family of experts without: %v", err)
	}
}

// A token reads a share of the experts, a batch of many all of them.
func TestSizesSayWhatATokenReads(t *testing.T) {
	for _, arch := range []string{"qwen2moe", "qwen3"} {
		c, tensors, err := newFile(arch).parse(t)
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.Sizes(tensors)
		if err != nil {
			t.Fatal(err)
		}
		all, one, two, many := s.Layers[1], s.Read(1, 1), s.Read(1, 2), s.Read(1, 256)
		if arch == "qwen3" {
			if one != all || many != all {
				t.Errorf("%s: of %d bytes a token reads %d, a batch %d", arch, all, one, many)
			}
			continue
		}
		// Q8_0 packed: 34 bytes a block of 32, and 16 rows' scales padded to 64 bytes where they are one block.
		if half := s.Experts[1] / 2; one != all-half || two != all-half/2 || many != all || half < 4*3*32*64/2 {
			t.Errorf("%s: of %d bytes, %d of experts, a token reads %d, two %d, a batch %d", arch, all, s.Experts[1], one, two, many)
		}
		if got, want := c.FeedForwardMacs(), int64(64*4+2*3*64*32+3*64*160); got != want {
			t.Errorf("%s: %d multiply-adds; want %d", arch, got, want)
		}
	}
}

func TestWorkMemoryCountsPlacesOfExperts(t *testing.T) {
	c, _, err := newFile("qwen3moe").parse(t)
	if err != nil {
		t.Fatal(err)
	}
	d, p := *c, model.DefaultProfile(c)
	d.Experts.Used = 4
	if one, two := c.WorkBytes(p, c.All(), 64), d.WorkBytes(p, d.All(), 64); two <= one {
		t.Errorf("%d bytes for two experts a token, %d for four", one, two)
	}
}
