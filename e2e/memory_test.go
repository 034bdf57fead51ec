//go:build unix

package e2e_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/shard/gguf"
)

// Bounds of a stage's resident memory.
const (
	maxBase    = 80e6 // what a node takes beside weights and KV
	weightRoom = 1.1  // of the bytes of its own packed tensors
	// growth is what a stage may add to an idle node beside weights and KV:
	// activations and buffers. A second copy of the weights would not fit.
	growth = 40e6
)

// resident is a process's resident memory in bytes.
func (d *daemon) resident(t *testing.T) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		t.Skip("not run: resident memory cannot be read here")
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kb, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb * 1024
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// stageMemory asks for a reply of two stages and holds what both of them take
// against the promise. offer lets a node hold about half.
func stageMemory(t *testing.T, path, offer string, ctx, tokens int) {
	all, head := halves(t, offer)
	idleBytes := map[string]float64{}
	for _, d := range all {
		idleBytes[d.name] = d.resident(t)
	}
	// b gets its layers over the network, a packs them from the file.
	mustRun(t, all[0].home, "add", path, "--name", "m", "--ctx", strconv.Itoa(ctx))
	head.seesModel(t, "m")
	rep, err := head.ask(t, "m", tokens, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(rep.Plan.Stages) != 2 {
		t.Fatalf("plan %+v", rep.Plan)
	}
	block := kvBlock(t, path)
	for _, d := range all {
		s, err := d.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		weights, kv := 0.0, 0.0
		for _, st := range s.Stages {
			weights += float64(st.Bytes)
			// A stage reserves whole blocks of the plan's KV; those used are resident.
			kv += float64(st.KVUsed) * block * float64(st.Last-st.First+1)
		}
		rss := d.resident(t)
		base := rss - weightRoom*weights - kv
		t.Logf("%-5s resident %.1f MB, idle before %.1f MB: weights %.1f MB, KV used %.1f MB, base %.1f MB",
			d.name, rss/1e6, idleBytes[d.name]/1e6, weights/1e6, kv/1e6, base/1e6)
		if base > maxBase {
			t.Errorf("%s takes %.1f MB beside its weights and KV", d.name, base/1e6)
		}
		if more := rss - idleBytes[d.name] - weightRoom*weights - kv; more > growth {
			t.Errorf("%s took %.1f MB more than its weights and KV", d.name, more/1e6)
		}
		if (weights > 0) != (d != head) {
			t.Errorf("%s holds %.1f MB of weights", d.name, weights/1e6)
		}
	}
}

// kvBlock is one layer's bytes in a block of 16 positions, keys and values in f16.
func kvBlock(t *testing.T, path string) float64 {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	value := func(key string) float64 {
		v, err := f.Meta.Uint("llama." + key)
		if err != nil {
			t.Fatal(err)
		}
		return float64(v)
	}
	return 16 * 2 * 2 * value("attention.head_count_kv") * value("embedding_length") / value("attention.head_count")
}

func TestAStageTakesNoMoreMemoryThanItsShare(t *testing.T) {
	stageMemory(t, deep(t, 300), "80MB", 256, 20)
}

func TestAStageOfTheRealModelTakesNoMoreMemoryThanItsShare(t *testing.T) {
	stageMemory(t, real(t), "90MB", 512, 20)
}

func TestAWholeModelHasItsTiedEmbeddingOnce(t *testing.T) {
	path := real(t)
	d := up(t, "solo", home(t), "--memory", "1GB")
	mustRun(t, d.home, "add", path, "--name", "m", "--ctx", "512")
	if _, err := d.ask(t, "m", 10, nil); err != nil {
		t.Fatal(err)
	}
	s, err := d.Status(t.Context())
	if err != nil || len(s.Stages) != 1 {
		t.Fatalf("%+v %v", s.Stages, err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	weights, rss := float64(s.Stages[0].Bytes), d.resident(t)
	t.Logf("resident %.1f MB, weights %.1f MB, file %.1f MB", rss/1e6, weights/1e6, float64(st.Size())/1e6)
	if weights > 1.05*float64(st.Size()) {
		t.Errorf("%.1f MB of packed weights are more than the file's %.1f MB", weights/1e6, float64(st.Size())/1e6)
	}
	if base := rss - weightRoom*weights; base > maxBase {
		t.Errorf("%.1f MB beside the weights", base/1e6)
	}
}
