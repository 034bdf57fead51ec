package shard_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/kernels/arith"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/vocab"
)

// perplexity scores text as the reference's tool does: chunks of 512 tokens, of each the second half.
func perplexity(t *testing.T, w *weights, tokens []int32, chunks int) float64 {
	const size = 512
	d, err := cpuDevice()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	g, err := model.Load(context.Background(), model.LoadOptions{
		Config: w.cfg, Profile: f32Profile(w.cfg, size), Range: w.cfg.All(), Source: w, Device: d, MaxRows: size, HeadRows: 64,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	kv, err := d.NewKV(w.cfg.KVLayout(f32Profile(w.cfg, size), w.cfg.All()), size/kernels.BlockPositions)
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	var b kernels.Batch
	b.Seqs = [][]int32{nil}
	for i := range size {
		b.Rows = append(b.Rows, kernels.Row{Pos: int32(i)})
		if i%kernels.BlockPositions == 0 {
			b.Seqs[0] = append(b.Seqs[0], int32(i/kernels.BlockPositions))
		}
	}
	logits := make([]float32, g.HeadRows()*w.cfg.Vocab)
	sum, n := 0.0, 0
	for c := range chunks {
		ids := tokens[c*size : (c+1)*size]
		g.Embed(&b, ids)
		g.Layers(&b, kv)
		for first := size / 2; first < size-1; first += g.HeadRows() {
			var rows []int32
			for i := first; i < min(size-1, first+g.HeadRows()); i++ {
				rows = append(rows, int32(i))
			}
			if err := g.Project(&b, rows, nil, logits[:len(rows)*w.cfg.Vocab]); err != nil || len(b.Faults) > 0 {
				t.Fatal(err, b.Faults)
			}
			for i, r := range rows {
				sum -= logProb(logits[i*w.cfg.Vocab:(i+1)*w.cfg.Vocab], ids[r+1])
				n++
			}
		}
	}
	return math.Exp(sum / float64(n))
}

func logProb(logits []float32, id int32) float64 {
	best := float64(slices.Max(logits))
	sum := 0.0
	for _, l := range logits {
		sum += math.Exp(float64(l) - best)
	}
	return float64(logits[id]) - best - arith.Log64(sum)
}

func TestSmolLM2PerplexityIsTheReferenceEngines(t *testing.T) {
	comparePerplexity(t, realModel(t), "smollm2 Q4_1 (as shipped)")
}

func TestQwenPerplexityIsTheReferenceEngines(t *testing.T) {
	comparePerplexity(t, qwenModel(t), qwenVariant)
}

// comparePerplexity holds a model to the reference engine's running values on both texts.
func comparePerplexity(t *testing.T, path, variant string) {
	w := open(t, path)
	fastKernels(t)
	v, err := vocab.Load(w.file.Meta)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(shared, "reference", "perplexity.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Results []struct {
			Model, Text, KV string
			Running         []float64
		}
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, r := range file.Results {
		if r.Model != variant || r.KV != "f32, -fa off" {
			continue
		}
		seen++
		text, err := os.ReadFile(filepath.Join(shared, "reference", r.Text))
		if err != nil {
			t.Fatal(err)
		}
		chunks := len(r.Running)
		switch {
		case testing.Short():
			chunks = 1
		case !long():
			chunks = 2
		}
		tokens := v.Encode(string(text), vocab.EncodeOptions{})
		got, want := perplexity(t, w, tokens, chunks), r.Running[chunks-1]
		t.Logf("%s: %d chunks, perplexity %.4f; reference engine %.4f (%+.2f%%)", r.Text, chunks, got, want, 100*(got/want-1))
		if math.Abs(got/want-1) > 0.01 {
			t.Errorf("%s: perplexity %.4f differs from the reference engine's %.4f by more than 1%%", r.Text, got, want)
		}
	}
	if seen != 2 {
		t.Fatalf("%d recorded values found; want prose and code", seen)
	}
}
