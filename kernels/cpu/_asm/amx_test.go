package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
)

// tileCase is an instruction as Go's assembler would write it and as LLVM does.
type tileCase struct {
	opcode   string
	operands []string
	llvm     string
}

// everyTileInstruction gives each instruction of random registers.
func everyTileInstruction(r *rand.Rand) []tileCase {
	names := []string{"AX", "CX", "DX", "BX", "SP", "BP", "SI", "DI", "R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15"}
	general := func(name string) string {
		if strings.HasPrefix(name, "R") {
			return "%" + strings.ToLower(name)
		}
		return "%r" + strings.ToLower(name)
	}
	base, index := names[r.IntN(16)], names[r.IntN(16)]
	if index == "SP" {
		index = "R12"
	}
	disp := r.IntN(1<<20) - 1<<19
	if disp == 0 {
		disp = 1
	}
	t := func() (string, string) {
		n := r.IntN(8)
		return fmt.Sprintf("T%d", n), fmt.Sprintf("%%tmm%d", n)
	}
	a, la := t()
	// LLVM refuses the same tile twice.
	n := r.IntN(6)
	x, y, z := n, (n+1)%8, (n+2)%8
	m, lm := fmt.Sprintf("%d(%s)(%s*1)", disp, base, index), fmt.Sprintf("%#x(%s,%s)", disp, general(base), general(index))
	return []tileCase{
		{"TILERELEASE", []string{""}, "tilerelease"},
		{"TILEZERO", []string{a}, "tilezero " + la},
		{"TILELOADD", []string{m, a}, "tileloadd " + lm + ", " + la},
		{"TILESTORED", []string{a, m}, "tilestored " + la + ", " + lm},
		{"LDTILECFG", []string{fmt.Sprintf("%d(%s)", disp, base)}, fmt.Sprintf("ldtilecfg %#x(%s)", disp, general(base))},
		{"TDPBSSD", []string{fmt.Sprintf("T%d", x), fmt.Sprintf("T%d", y), fmt.Sprintf("T%d", z)}, fmt.Sprintf("tdpbssd %%tmm%d, %%tmm%d, %%tmm%d", x, y, z)},
	}
}

func TestTilesAreEncodedAsTheySay(t *testing.T) {
	tool, err := exec.LookPath("llvm-mc")
	if err != nil {
		t.Skip("not run: llvm-mc is not installed")
	}
	r := rand.New(rand.NewPCG(3, 4))
	var list []tileCase
	var in bytes.Buffer
	for range 200 {
		for _, c := range everyTileInstruction(r) {
			b, err := encodeTile(c.opcode, c.operands)
			if err != nil {
				t.Fatalf("%s %q: %v", c.opcode, c.operands, err)
			}
			for _, v := range b {
				fmt.Fprintf(&in, "0x%02x ", v)
			}
			in.WriteByte('\n')
			list = append(list, c)
		}
	}
	cmd := exec.Command(tool, "--disassemble", "-triple=x86_64", "-mattr=+amx-tile,+amx-int8", "--print-imm-hex")
	cmd.Stdin = &in
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.SplitSeq(string(out), "\n") {
		line, _, _ = strings.Cut(line, "#")
		line = strings.Join(strings.Fields(line), " ")
		if line == "" || strings.HasPrefix(line, ".") {
			continue
		}
		if n < len(list) && line != list[n].llvm {
			t.Errorf("%s %q is encoded as %q, not %q", list[n].opcode, list[n].operands, line, list[n].llvm)
		}
		n++
	}
	if n != len(list) {
		t.Errorf("%d of %d instructions were read", n, len(list))
	}
}

func TestTilesThatCannotBeEncodedAreRefused(t *testing.T) {
	for _, c := range []tileCase{
		{opcode: "TILELOADD", operands: []string{"(AX)(SP*1)", "T1"}},
		{opcode: "TILELOADD", operands: []string{"(AX)(CX*2)", "T1"}},
		{opcode: "TILELOADD", operands: []string{"(AX)", "T1"}},
		{opcode: "TILELOADD", operands: []string{"(AX)(CX*1)", "T8"}},
		{opcode: "TILELOADD", operands: []string{"99999999999(AX)(CX*1)", "T1"}},
		{opcode: "TILESTORED", operands: []string{"Z1", "(AX)(CX*1)"}},
		{opcode: "LDTILECFG", operands: []string{"(AX)(CX*1)"}},
		{opcode: "LDTILECFG", operands: []string{"(FP)"}},
		{opcode: "TDPBSSD", operands: []string{"T1", "T2", "X3"}},
		{opcode: "TDPBUUD", operands: []string{"T1", "T2", "T3"}},
	} {
		if b, err := encodeTile(c.opcode, c.operands); err == nil {
			t.Errorf("%s %q became % x", c.opcode, c.operands, b)
		}
	}
}
