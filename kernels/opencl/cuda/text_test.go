package cuda

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/kernels/opencl"
	"github.com/weft-mesh/weft/kernels/opencl/cuda/ptx"
)

func TestTheTextsAreOfTheKernelsSource(t *testing.T) {
	source := opencl.Source()
	for _, target := range ptx.Targets {
		p, err := programs[target.Capability]()
		if err != nil {
			t.Fatal(err)
		}
		if p.module.Hash != hex.EncodeToString(source.Hash[:]) {
			t.Errorf("%s was compiled from another source: run go generate ./kernels/opencl/cuda", target.File())
		}
		if want := strings.TrimSuffix(target.File(), ".ptx"); p.module.Target != want {
			t.Errorf("%s is for %s", target.File(), p.module.Target)
		}
		if dot := strings.Contains(string(p.text), "dp4a"); dot && target.Capability < 61 {
			t.Errorf("%s has an instruction that the card has not", target.File())
		}
	}
}

func TestTheTextsKeepTheContractsArithmetic(t *testing.T) {
	for _, target := range ptx.Targets {
		m, err := ptx.Parse(string(text(t, target)))
		if err != nil {
			t.Fatal(err)
		}
		if err := ptx.Check(m); err != nil {
			t.Errorf("%s: %v", target.File(), err)
		}
	}
}

func TestTheTextsAreWhatTheCompilerWrites(t *testing.T) {
	source := opencl.Source()
	for _, target := range ptx.Targets {
		got, err := ptx.Compile(context.Background(), source.Source, source.Hash, target)
		if errors.Is(err, ptx.ErrNoCompiler) {
			t.Skipf("not run: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, text(t, target)) {
			t.Errorf("%s is not what the compiler writes: run go generate ./kernels/opencl/cuda", target.File())
		}
	}
}

// TestNVIDIAsAssemblerTakesTheTexts is for machines with the CUDA toolkit, which the driver's
// own compiler stands in for everywhere else.
func TestNVIDIAsAssemblerTakesTheTexts(t *testing.T) {
	assembler, err := exec.LookPath("ptxas")
	if err != nil {
		t.Skip("not run: no ptxas")
	}
	for _, target := range ptx.Targets {
		cmd := exec.Command(assembler, "-arch=sm_80", "-o", filepath.Join(t.TempDir(), "out"), "-")
		cmd.Stdin = bytes.NewReader(text(t, target))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", target.File(), err, out)
		}
	}
}

// text is a target's text as it was compiled.
func text(t *testing.T, target ptx.Target) []byte {
	t.Helper()
	p, err := programs[target.Capability]()
	if err != nil {
		t.Fatal(err)
	}
	return p.text[:len(p.text)-1]
}
