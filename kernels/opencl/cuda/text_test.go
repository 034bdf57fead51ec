package cuda

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/kernels/opencl"
	"github.com/weft-mesh/weft/kernels/opencl/cuda/ptx"
)

// eachText reads the texts in full.
func eachText(t *testing.T, check func(capability int, text []byte, m ptx.Module)) {
	t.Helper()
	for _, candidate := range programs {
		p, err := candidate.read()
		if err != nil {
			t.Fatal(err)
		}
		text := p.text[:len(p.text)-1]
		m, err := ptx.Parse(string(text))
		if err != nil {
			t.Fatal(err)
		}
		check(candidate.capability, text, m)
	}
}

func TestTheTextIsOfTheKernelsSource(t *testing.T) {
	source := opencl.Source()
	var names []string
	eachText(t, func(capability int, text []byte, m ptx.Module) {
		if m.Hash != hex.EncodeToString(source.Hash[:]) {
			t.Error("kernels.ptx.gz was compiled from another source: run go generate ./kernels/opencl/cuda")
		}
		if want := fmt.Sprintf("sm_%d", capability); m.Target != want {
			t.Errorf("the text for %s is for %s", want, m.Target)
		}
		if dot := bytes.Contains(text, []byte("dp4a")); dot != (capability >= ptx.DotProduct) && strings.Contains(source.Source, "product") {
			t.Errorf("the text for capability %d has the dot product: %v", capability, dot)
		}
		now := slices.Sorted(maps.Keys(m.Kernels))
		if tensor := bytes.Contains(text, []byte("mma.sync")); tensor != (capability >= ptx.Tensor) {
			t.Errorf("the text for capability %d has products of small matrices: %v", capability, tensor)
		}
		if capability >= ptx.Tensor {
			now = slices.DeleteFunc(now, func(name string) bool { return strings.HasPrefix(name, "mma_") })
		}
		if names != nil && !slices.Equal(names, now) {
			t.Errorf("the texts have other kernels: %v, %v", names, now)
		}
		names = now
	})
}

func TestTheTextKeepsTheContractsArithmetic(t *testing.T) {
	eachText(t, func(capability int, _ []byte, m ptx.Module) {
		if err := ptx.Check(m); err != nil {
			t.Errorf("capability %d: %v", capability, err)
		}
	})
}

func TestTheTextIsWhatTheCompilerWrites(t *testing.T) {
	source := opencl.Source()
	want, err := ptx.Compile(context.Background(), source.Source, source.Hash)
	if errors.Is(err, ptx.ErrNoCompiler) {
		t.Skipf("not run: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	eachText(t, func(capability int, text []byte, _ ptx.Module) {
		if !bytes.Equal(text, ptx.Text(want, capability)) {
			t.Error("kernels.ptx.gz is not what the compiler writes: run go generate ./kernels/opencl/cuda")
		}
	})
}

// TestNVIDIAsAssemblerTakesTheText is for machines with the CUDA toolkit, which the driver's
// own compiler stands in for everywhere else.
func TestNVIDIAsAssemblerTakesTheText(t *testing.T) {
	assembler, err := exec.LookPath("ptxas")
	if err != nil {
		t.Skip("not run: no ptxas")
	}
	eachText(t, func(capability int, text []byte, _ ptx.Module) {
		cmd := exec.Command(assembler, "-arch=sm_80", "-o", filepath.Join(t.TempDir(), "out"), "-")
		cmd.Stdin = bytes.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("capability %d: %v\n%s", capability, err, out)
		}
	})
}
