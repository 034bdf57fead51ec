// Package ptx is NVIDIA's portable assembly of the device's kernels: it has Debian's clang
// write it ahead of time from the OpenCL C source, reads from it which kernels there are
// and what arguments they take, and checks that its arithmetic is the contract's: rounding
// to nearest even, no contraction, no flushed denormals, none of the hardware's own
// division, square root or estimates.
//
// It runs no GPU and loads no library. Start at Targets, then at Compile and Parse.
package ptx

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// Target is one text: what it needs of a card, and how it is compiled.
type Target struct {
	Capability int    // least compute capability, ten times the major number plus the minor
	Features   string // PTX version, the oldest that has the instructions
	Define     string // macro that the source is compiled with, or ""
}

// Targets are the texts, the best first: capability 6.1 brings the dot product of four
// bytes, 5.0 is the oldest that current drivers know.
var Targets = []Target{
	{Capability: 61, Features: "+ptx50", Define: "WEFT_DP4A"},
	{Capability: 50, Features: "+ptx42"},
}

// File is the name of a target's text.
func (t Target) File() string { return fmt.Sprintf("sm_%d.ptx", t.Capability) }

// The compiler, as Debian's packages clang-16 and libclc-16 bring it. Another version
// writes another text.
const (
	Compiler = "clang-16"
	library  = "/usr/lib/clc/nvptx64--nvidiacl.bc"
)

// ErrNoCompiler: the machine has no compiler, or not its library.
var ErrNoCompiler = errors.New("clang-16 or libclc-16 is not installed")

// hashLine begins the line that tells the source's SHA-256.
const hashLine = "// source sha256: "

// Compile has the compiler write the text of a program for a target. The same source gives
// the same bytes. The text begins with the source's hash.
func Compile(ctx context.Context, source string, hash [32]byte, t Target) ([]byte, error) {
	cc, err := exec.LookPath(Compiler)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoCompiler, err)
	}
	if _, err := os.Stat(library); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoCompiler, err)
	}
	args := []string{
		"-target", "nvptx64-nvidia-nvcl", "-march=sm_" + strconv.Itoa(t.Capability), "-Xclang", "-target-feature", "-Xclang", t.Features,
		"-x", "cl", "-cl-std=CL1.2", "-O3", "-ffp-contract=off", "-Werror", "-Wno-linker-warnings", "-Wno-unused-command-line-argument",
		"-Xclang", "-finclude-default-header", "-Xclang", "-mlink-builtin-bitcode", "-Xclang", library,
		"-mllvm", "-nvptx-fma-level=0", "-mllvm", "-inline-threshold=100000",
	}
	if t.Define != "" {
		args = append(args, "-D", t.Define)
	}
	cmd := exec.CommandContext(ctx, cc, append(args, "-S", "-o", "-", "-")...)
	cmd.Stdin = strings.NewReader(source)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("compile the kernels for sm_%d: %w\n%s", t.Capability, err, words.String())
	}
	return tidy(out.String(), hash), nil
}

// tidy drops comments, the functions that were made part of the kernels that call them, and
// OpenCL's texture mode, which the CUDA driver does not know.
func tidy(text string, hash [32]byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s%s\n", hashLine, hex.EncodeToString(hash[:]))
	inFunction := false
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "//")
		line = strings.TrimRight(line, " \t\n")
		switch {
		case line == "":
		case strings.HasPrefix(line, ".func"):
			inFunction = true
		case inFunction:
			inFunction = line != "}"
		case strings.HasPrefix(line, ".target"):
			fmt.Fprintln(&b, strings.Replace(line, ", texmode_independent", "", 1))
		case strings.HasPrefix(line, ".entry"):
			fmt.Fprintln(&b, ".visible "+line)
		default:
			fmt.Fprintln(&b, line)
		}
	}
	return b.Bytes()
}

// Kind is the type of a kernel's parameter.
type Kind uint8

// The types that kernels take.
const (
	Pointer Kind = iota // 8 bytes: an address in global memory
	Word                // 4 bytes: an int or a uint
	Float               // 4 bytes: a float
)

// Module is what a text says of itself.
type Module struct {
	Hash    string // SHA-256 of the source, in hexadecimal digits
	Target  string // "sm_50"
	Kernels map[string]Kernel
}

// Kernel is an entry of a text.
type Kernel struct {
	Params []Kind
	Body   []string // its instructions, one a line
}

// Parse reads a text.
func Parse(text string) (Module, error) {
	m := Module{Kernels: map[string]Kernel{}}
	var name string
	var k Kernel
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		entry, isEntry := strings.CutPrefix(line, ".visible .entry ")
		switch {
		case strings.HasPrefix(line, hashLine):
			m.Hash = line[len(hashLine):]
		case strings.HasPrefix(line, ".target "):
			m.Target = strings.TrimSpace(line[len(".target "):])
		case isEntry:
			name, _, _ = strings.Cut(entry, "(")
			k = Kernel{}
		case name == "":
		case line == "}":
			m.Kernels[name], name = k, ""
		case strings.HasPrefix(line, ".param ") && !strings.HasSuffix(line, ";"):
			kind, err := paramKind(line)
			if err != nil {
				return Module{}, fmt.Errorf("kernel %s: %w", name, err)
			}
			k.Params = append(k.Params, kind)
		case strings.HasSuffix(line, ";") && !strings.HasPrefix(line, "."):
			k.Body = append(k.Body, line)
		case strings.HasPrefix(line, ".local "):
			k.Body = append(k.Body, line)
		}
	}
	if m.Hash == "" || m.Target == "" || len(m.Kernels) == 0 || name != "" {
		return Module{}, errors.New("text has no source hash, no target, no kernel, or ends within one")
	}
	return m, nil
}

func paramKind(line string) (Kind, error) {
	switch f := strings.Fields(line); {
	case len(f) > 4 && f[1] == ".u64" && f[2] == ".ptr" && f[3] == ".global":
		return Pointer, nil
	case len(f) > 2 && f[1] == ".u32":
		return Word, nil
	case len(f) > 2 && f[1] == ".f32":
		return Float, nil
	}
	return 0, fmt.Errorf("parameter %q is no address in global memory, int, uint or float", line)
}
