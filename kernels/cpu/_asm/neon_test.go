package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
)

// everyInstruction gives each instruction that there is, of random registers.
func everyInstruction(r *rand.Rand) (list []ins) {
	v := func() vreg { return vreg(r.IntN(32)) }
	x := func() xreg { return xreg(r.IntN(26)) }
	for _, f := range []three{
		add4, sub4, addp4, cmhs4, cmhi4, umax4, and16, orr16, eor16, bit16, fadd4, fsub4, fmul4, fdiv4, fmla4, fmls4,
		fmax4, fmin4, fcmge4, faddp4, smull, smull2, smlal, smlal2, zip4, zip2, ext8, tbl,
	} {
		n := v()
		list = append(list, f(v(), n, n^1)) // a disassembler calls orr of equal ones mov
	}
	for _, f := range []two{
		xtnWords, xtnWords2, xtnBytes, xtnBytes2, fcvtl, fcvtl2, fcvtn, fcvtn2, frintn4, fcvtns4, scvtf4, fabs4, fneg4, neg4,
		saddlp, sadalp, addv4, umaxv4, fmaxv4, sxtBytes, sxtWords, uxtBytes, uxtWords, uxtUpper, move,
	} {
		list = append(list, f(v(), v()))
	}
	for i := range 4 {
		list = append(list, sdot(v(), v(), v(), i), fmulLane(v(), v(), v(), i), fmlaLane(v(), v(), v(), i), fmlsLane(v(), v(), v(), i), dup4(v(), v(), i))
	}
	by := func(bits int) uint32 { return uint32(1 + r.IntN(bits-1)) }
	list = append(list, shl4(v(), v(), by(32)), sshr4(v(), v(), by(32)), ushr4(v(), v(), by(32)), shl16(v(), v(), by(8)), ushr16(v(), v(), by(8)))
	list = append(list, movi4(v(), uint32(r.IntN(256))), movi16(v(), uint32(r.IntN(256))), dupGeneral(v(), x()))
	list = append(list, ldrQ(v(), x(), 16*r.IntN(4096)), strQ(v(), x(), 16*r.IntN(4096)), ldrD(v(), x(), 8*r.IntN(4096)), ldrS(v(), x(), 4*r.IntN(4096)))
	return append(list, ld2(v()&^1, x()), st2(v()&^1, x()))
}

func TestEncodersWriteWhatTheySay(t *testing.T) {
	tool, err := exec.LookPath("llvm-mc")
	if err != nil {
		t.Skip("not run: llvm-mc is not installed")
	}
	r := rand.New(rand.NewPCG(1, 2))
	var list []ins
	for range 50 {
		list = append(list, everyInstruction(r)...)
	}
	var in bytes.Buffer
	for _, i := range list {
		b := binary.LittleEndian.AppendUint32(nil, i.word)
		fmt.Fprintf(&in, "0x%02x 0x%02x 0x%02x 0x%02x\n", b[0], b[1], b[2], b[3])
	}
	cmd := exec.Command(tool, "--disassemble", "-triple=aarch64", "-mattr=+neon,+dotprod")
	cmd.Stdin = &in
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	plain := func(s string) string { return strings.Join(strings.Fields(s), "") }
	n := 0
	for line := range strings.SplitSeq(string(out), "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, ".") {
			continue
		}
		if n < len(list) && plain(line) != plain(list[n].text) {
			t.Errorf("%08x is %q, not %q", list[n].word, line, list[n].text)
		}
		n++
	}
	if n != len(list) {
		t.Errorf("%d of %d words were read", n, len(list))
	}
}

func TestWhatCannotBeEncodedEndsTheProgram(t *testing.T) {
	for name, run := range map[string]func(){
		"an odd offset":        func() { ldrQ(0, 0, 8) },
		"a negative offset":    func() { ldrS(0, 0, -4) },
		"an offset too far":    func() { ldrD(0, 0, 8*4096) },
		"a shift to nothing":   func() { shl4(0, 0, 32) },
		"a shift right by 0":   func() { ushr16(0, 0, 0) },
		"a shift right by 9":   func() { ushr16(0, 0, 9) },
		"a large immediate":    func() { movi16(0, 256) },
		"one register too far": func() { a := begun("()"); a.vecs(33) },
		"no pointer left": func() {
			for a := begun("()"); ; {
				a.reg()
			}
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s was accepted", name)
				}
			}()
			run()
		}()
	}
}

func begun(signature string) *arm {
	a := &arm{}
	a.begin("kernel", signature, "kernel is a test's.")
	return a
}

func TestArgumentsLieWhereGoPutsThem(t *testing.T) {
	a := begun("(s *float32, scale float32, n int) (maximum float32, bad uint32)")
	for name, want := range map[string]int{"s": 0, "scale": 8, "n": 16, "maximum": 24, "bad": 28} {
		if a.args[name] != want {
			t.Errorf("%s is at %d, want %d", name, a.args[name], want)
		}
	}
	if a.size != 32 {
		t.Errorf("arguments take %d bytes, want 32", a.size)
	}
}

func TestRegistersOfTheSystemAreNotTaken(t *testing.T) {
	for _, x := range begun("()").generals {
		if x == 18 || x > 25 {
			t.Errorf("R%d is taken", x)
		}
	}
}

// reordered checks that out is list in an order that keeps every result: each
// register and the memory pass through the same states for whoever reads them.
func reordered(list, out []ins) error {
	seen := func(list []ins) map[string]int {
		last, memory := map[vreg]string{}, "start"
		count := map[string]int{} // instructions with what they read
		for _, i := range list {
			reads, writes := i.registers()
			what := i.text
			for _, v := range reads {
				what += "<" + last[v] + ">"
			}
			if i.is("ldr", "ld2", "str", "st2") {
				what += " of " + memory
			}
			what = fmt.Sprintf("%x", sha256.Sum256([]byte(what)))
			if i.is("str", "st2") {
				memory = what
			}
			for _, v := range writes {
				last[v] = what
			}
			count[what]++
		}
		for v, what := range last {
			count[fmt.Sprintf("v%d ends as %s", v, what)]++
		}
		return count
	}
	if want, got := seen(list), seen(out); !maps.Equal(want, got) {
		return fmt.Errorf("instructions read other values after reordering")
	}
	return nil
}

func TestReorderingKeepsWhatInstructionsRead(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 30 {
		var list []ins
		for len(list) < 200 {
			some := everyInstruction(r)
			list = append(list, some[r.IntN(len(some))])
		}
		out := schedule(list)
		if len(out) != len(list) {
			t.Fatalf("%d of %d instructions", len(out), len(list))
		}
		if err := reordered(list, out); err != nil {
			t.Fatal(err)
		}
	}
	swapped := []ins{ldrQ(1, 0, 0), fadd4(2, 1, 1), ldrQ(1, 0, 16)}
	if reordered(swapped, []ins{swapped[0], swapped[2], swapped[1]}) == nil {
		t.Error("the check accepts an order in which a register is overwritten too early")
	}
}

func TestReorderingFillsTheWaitForALoad(t *testing.T) {
	out := schedule([]ins{ldrQ(1, 0, 0), fadd4(1, 1, 1), ldrQ(2, 0, 16), fadd4(2, 2, 2)})
	if out[1].text != "ldr q2, [x0, #16]" {
		t.Errorf("%v: the second load waits for the first sum", out)
	}
}
