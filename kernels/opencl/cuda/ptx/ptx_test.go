package ptx_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/weft-mesh/weft/kernels/opencl/cuda/ptx"
)

const head = "// source sha256: 00ff\n.version 4.2\n.target sm_50\n.address_size 64\n"

// kernel is a text with one kernel of the given instructions.
func kernel(body ...string) string {
	return head + ".visible .entry k(\n\t.param .u64 .ptr .global .align 4 k_param_0,\n\t.param .u32 k_param_1,\n\t.param .f32 k_param_2\n)\n{\n\t" +
		strings.Join(body, "\n\t") + "\n}\n"
}

func TestParametersAreRead(t *testing.T) {
	m, err := ptx.Parse(kernel("ret;"))
	if err != nil {
		t.Fatal(err)
	}
	if m.Hash != "00ff" || m.Target != "sm_50" || !slices.Equal(m.Kernels["k"].Params, []ptx.Kind{ptx.Pointer, ptx.Word, ptx.Float}) {
		t.Errorf("%+v", m)
	}
	for _, bad := range []string{
		"", head, strings.TrimPrefix(kernel("ret;"), "// source"), strings.Replace(kernel("ret;"), ".u32", ".b8", 1),
		strings.Replace(kernel("ret;"), ".global", ".shared", 1), strings.TrimSuffix(kernel("ret;"), "}\n"),
	} {
		if _, err := ptx.Parse(bad); err == nil {
			t.Errorf("took %q", bad)
		}
	}
}

func TestOnlyTheContractsArithmeticPasses(t *testing.T) {
	good := []string{
		"fma.rn.f32 %f1, %f2, %f3, %f4;", "@%p1 mul.rn.f32 %f1, %f2, %f3;", "add.rn.f32 %f1, %f2, %f3;", "cvt.rn.f32.s32 %f1, %r1;",
		"cvt.rni.f32.f32 %f1, %f2;", "cvt.f32.f16 %f1, %h1;", "ld.global.nc.f32 %f1, [%rd1];", "setp.lt.f32 %p1, %f1, %f2;", "div.s32 %r1, %r2, %r3;",
		"dp4a.s32.s32 %r1, %r2, %r3, %r4;", "mad.lo.s32 %r1, %r2, %r3, %r4;", "neg.f32 %f1, %f2;", "@!%p2 bra LBB0_2;", "bar.sync 0;", "ret;",
	}
	bad := []string{
		"fma.rn.ftz.f32 %f1, %f2, %f3, %f4;", "mul.f32 %f1, %f2, %f3;", "add.f32 %f1, %f2, %f3;", "add.rz.f32 %f1, %f2, %f3;", "@%p1 div.rn.f32 %f1, %f2, %f3;",
		"div.approx.f32 %f1, %f2, %f3;", "sqrt.rn.f32 %f1, %f2;", "rcp.rn.f32 %f1, %f2;", "rsqrt.approx.f32 %f1, %f2;", "ex2.approx.f32 %f1, %f2;",
		"mad.rn.f32 %f1, %f2, %f3, %f4;", "fma.rn.f64 %fd1, %fd2, %fd3, %fd4;", "add.rn.f16 %h1, %h2, %h3;", "cvt.rn.f16.f32 %h1, %f1;", "cvt.rz.f32.s32 %f1, %r1;",
		"add.rn.sat.f32 %f1, %f2, %f3;", "setp.lt.ftz.f32 %p1, %f1, %f2;", "red.global.add.f32 [%rd1], %f1;", "atom.global.add.f32 %f1, [%rd1], %f2;",
		"call.uni (retval0), f, (param0);",
	}
	for _, line := range good {
		if err := check(t, line); err != nil {
			t.Errorf("refused: %v", err)
		}
	}
	for _, line := range bad {
		err := check(t, line)
		if err == nil || !strings.Contains(err.Error(), line) || !strings.Contains(err.Error(), "kernel k") {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func check(t *testing.T, line string) error {
	t.Helper()
	m, err := ptx.Parse(kernel(line))
	if err != nil {
		t.Fatal(err)
	}
	return ptx.Check(m)
}

// TestTheOldestTextSpellsTheDotProductOut checks the form; that it gives the same integers, the
// conformance suite shows on a card.
func TestTheOldestTextSpellsTheDotProductOut(t *testing.T) {
	text := strings.Replace(strings.Replace(kernel("add.s32 %r1, %r2, %r3;", "dp4a.s32.s32 %r41, %r2, %r3, %r14;", "ret;"), "sm_50", "sm_61", 1), "4.2", "5.0", 1)
	got := string(ptx.Text([]byte(text), ptx.Oldest))
	m, err := ptx.Parse(got)
	if err != nil {
		t.Fatalf("%v\n%s", err, got)
	}
	count := map[string]int{}
	for _, line := range m.Kernels["k"].Body {
		count[ptx.Operation(line)]++
	}
	if m.Target != "sm_50" || !strings.Contains(got, ".version 4.2\n") || count["dp4a.s32.s32"] != 0 || count["bfe.s32"] != 8 || count["mad.lo.s32"] != 4 || count["ret"] != 1 {
		t.Errorf("%v\n%s", count, got)
	}
	for _, want := range []string{"mov.u32 s, %r14;", "bfe.s32 x, %r2, 24, 8;", "bfe.s32 y, %r3, 8, 8;", "mov.u32 %r41, s;"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// TestOlderCardsGetNoKernelOfSmallMatrices: what stands around those kernels stays.
func TestOlderCardsGetNoKernelOfSmallMatrices(t *testing.T) {
	const head = ".version 5.0\n.target sm_61\n.address_size 64\n\n.shared .align 4 .b8 x[4];\n"
	entry := func(name, line string) string {
		return ".visible .entry " + name + "(\n\t.param .u32 p0\n)\n{\n\t{\n\t" + line + "\n\t}\n\tret;\n}\n"
	}
	mma := entry("b", "mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%r1,%r2,%r3,%r4}, {%r5,%r6}, {%r7}, {%r8,%r8,%r8,%r8};")
	a, c := entry("a", "add.s32 %r1, %r2, %r3;"), entry("c", "dp4a.s32.s32 %r1, %r2, %r3, %r4;")
	text := []byte(head + a + mma + c + mma)
	if got, want := string(ptx.Text(text, ptx.DotProduct)), head+a+c; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	got := string(ptx.Text(text, ptx.Tensor))
	if want := strings.NewReplacer("5.0", "7.0", "sm_61", "sm_80").Replace(string(text)); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// TestTheCompilerFusesNothing compiles what compilers like to change: a product that feeds
// a sum, with and without the guard, division, a denormal, and an early inlined function.
func TestTheCompilerFusesNothing(t *testing.T) {
	compile := func(source string) (ptx.Module, error) {
		text, err := ptx.Compile(context.Background(), source, sha256.Sum256([]byte(source)))
		if errors.Is(err, ptx.ErrNoCompiler) {
			t.Skipf("not run: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		m, err := ptx.Parse(string(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		return m, ptx.Check(m)
	}
	m, err := compile(`#pragma OPENCL FP_CONTRACT OFF
float twice(float x) { return x * 3.0f; }
__kernel void k(__global float *y, __global const float *x, float c) {
  int i = get_global_id(0);
  y[i] = x[i] * c + twice(x[i + 1]) - fma(x[i + 2], c, -0.0f);
  y[i + 1] = fma(x[i + 3], c, x[i]);
}`)
	if err != nil {
		t.Error(err)
	}
	count := map[string]int{}
	for _, line := range m.Kernels["k"].Body {
		count[ptx.Operation(line)]++
	}
	if sums, products := count["add.rn.f32"]+count["sub.rn.f32"], count["mul.rn.f32"]+count["fma.rn.f32"]; sums != 2 || products != 4 || count["mul.rn.f32"] < 2 {
		t.Errorf("two sums, three products and one fused pair became %v", count)
	}
	for _, body := range []string{"y[i] = x[i] / x[i + 1];", "y[i] = sqrt(x[i]);", "y[i] = native_divide(x[i], x[i + 1]);", "vstore_half(x[i], i, (__global half *)y);"} {
		_, err := compile("__kernel void k(__global float *y, __global const float *x) { int i = get_global_id(0); " + body + " }")
		if err == nil {
			t.Errorf("%q passes", body)
		}
	}
}
