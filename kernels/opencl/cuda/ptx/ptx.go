// Package ptx is NVIDIA's portable assembly of the device's kernels: it has Debian's clang
// write it ahead of time from the OpenCL C source, reads from it which kernels there are
// and what arguments they take, and checks that its arithmetic is the contract's: rounding
// to nearest even, no contraction, no flushed denormals, none of the hardware's own
// division, square root or estimates.
//
// It runs no GPU and loads no library. Start at Compile, then at Parse.
package ptx

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

// Compute capabilities, ten times the major number plus the minor, that have a text of their
// own. Compile writes the one of DotProduct with the kernels that only Tensor can run in it;
// Text makes each of it.
const (
	Tensor     = 80 // the first with the products of small integer matrices that the source uses
	DotProduct = 61 // the first with a dot product of four bytes
	Oldest     = 50 // the oldest that current drivers know
)

// The compiler, as Debian's packages clang-16 and libclc-16 bring it. Another version
// writes another text.
const (
	Compiler = "clang-16"
	library  = "/usr/lib/clc/nvptx64--nvidiacl.bc"
	target   = "sm_61" // of DotProduct
)

// ErrNoCompiler: the machine has no compiler, or not its library.
var ErrNoCompiler = errors.New("clang-16 or libclc-16 is not installed")

// hashLine begins the line that tells the source's SHA-256.
const hashLine = "// source sha256: "

// Compile has the compiler write the text of a program that Text makes others of. The same
// source gives the same bytes. The text begins with the source's hash.
func Compile(ctx context.Context, source string, hash [32]byte) ([]byte, error) {
	cc, err := exec.LookPath(Compiler)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoCompiler, err)
	}
	if _, err := os.Stat(library); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoCompiler, err)
	}
	args := []string{
		"-target", "nvptx64-nvidia-nvcl", "-march=" + target, "-Xclang", "-target-feature", "-Xclang", "+ptx50", "-D", "WEFT_DP4A", "-D", "WEFT_MMA",
		"--cuda-path=/nonexistent", "-x", "cl", "-cl-std=CL1.2", "-O3", "-ffp-contract=off", "-Werror", "-Wno-linker-warnings", "-Wno-pass-failed", "-Wno-unused-command-line-argument",
		"-Xclang", "-finclude-default-header", "-Xclang", "-mlink-builtin-bitcode", "-Xclang", library,
		"-mllvm", "-nvptx-fma-level=0", "-mllvm", "-inline-threshold=100000",
	}
	cmd := exec.CommandContext(ctx, cc, append(args, "-S", "-o", "-", "-")...)
	cmd.Stdin = strings.NewReader(source)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("compile the kernels for %s: %w\n%.4000s", target, err, words.String())
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

// Text makes the text for cards of a capability and later of one that Compile wrote.
func Text(text []byte, capability int) []byte {
	switch capability {
	case Tensor:
		return header(text, "7.0", "sm_80")
	case DotProduct:
		return withoutTensor(text)
	}
	return header(lower(withoutTensor(text)), "4.2", "sm_50")
}

// header names another PTX version and card than the compiler did.
func header(text []byte, version, target string) []byte {
	text = bytes.Replace(text, []byte(".version 5.0\n"), []byte(".version "+version+"\n"), 1)
	return bytes.Replace(text, []byte(".target sm_61\n"), []byte(".target "+target+"\n"), 1)
}

// withoutTensor leaves out the kernels that multiply small matrices.
func withoutTensor(text []byte) []byte {
	var b, entry bytes.Buffer
	for line := range bytes.Lines(text) {
		if entry.Len() == 0 && !bytes.HasPrefix(line, []byte(".visible .entry")) {
			b.Write(line)
			continue
		}
		entry.Write(line)
		if bytes.HasPrefix(line, []byte("}")) {
			if !bytes.Contains(entry.Bytes(), []byte("mma.sync")) {
				b.Write(entry.Bytes())
			}
			entry.Reset()
		}
	}
	return b.Bytes()
}

// dot is the instruction that DotProduct brings, as the source writes it.
var dot = regexp.MustCompile(`(?m)^\tdp4a\.s32\.s32 (%r[0-9]+), (%r[0-9]+), (%r[0-9]+), (%r[0-9]+);$`)

// lower spells dot products out: the same integers, byte by byte.
func lower(text []byte) []byte {
	var b strings.Builder
	b.WriteString("\t{\n\t.reg .b32 x, y, s;\n\tmov.u32 s, $4;\n")
	for at := 0; at < 32; at += 8 {
		fmt.Fprintf(&b, "\tbfe.s32 x, $2, %d, 8;\n\tbfe.s32 y, $3, %d, 8;\n\tmad.lo.s32 s, x, y, s;\n", at, at)
	}
	b.WriteString("\tmov.u32 $1, s;\n\t}")
	return dot.ReplaceAll(text, []byte(b.String()))
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
		inner := strings.HasPrefix(line, "\t") // braces of a block within a kernel
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
		case line == "}" && !inner:
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
