package cpu

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// everySet gives the machine's sets, hidden or not.
func everySet() []*kernelSet { return machineSets(func(string) bool { return false }) }

// kernelText is one function of an assembly file.
type kernelText struct {
	name  string
	needs []string // instruction sets that its instructions need
	lines []string
}

var (
	textLine     = regexp.MustCompile(`^TEXT ·(\w+)\(SB\)`)
	requiresLine = regexp.MustCompile(`^// Requires: (.*)$`)
	// wideRegister matches what only AVX-512 has: Z and K registers, and X and
	// Y registers from 16 on.
	wideRegister = regexp.MustCompile(`\b(Z\d+|K[0-7]|[XY](1[6-9]|2\d|3[01]))\b`)
	// wideMnemonic matches instructions that AVX2 lacks whatever the register.
	wideMnemonic = regexp.MustCompile(`^(VPDP|VPTERNLOG|VPCMPU|VPMOV[DQW][BDW]\b|VRNDSCALE|VREDUCE|VP(AND|XOR|OR|ANDN)[DQ]\b|VMOVDQ[AU](8|16|32|64)\b|VEXTRACT[FI](32|64)|VSHUF[FI]|VBROADCAST[FI](32|64)|VP?COMPRESS|VP?EXPAND|VPERM[IT]2|VPERM[BW]\b|K[A-Z]+[BWDQ]\b)`)
)

// readKernels parses the package's assembly.
func readKernels(t *testing.T) (kernels []kernelText) {
	t.Helper()
	files, err := filepath.Glob("*.s")
	if err != nil || len(files) == 0 {
		t.Fatalf("assembly files: %v, %v", files, err)
	}
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var needs []string
		for line := range strings.SplitSeq(string(src), "\n") {
			if m := requiresLine.FindStringSubmatch(line); m != nil {
				needs = strings.Split(m[1], ", ")
			} else if m := textLine.FindStringSubmatch(line); m != nil {
				kernels = append(kernels, kernelText{name: m[1], needs: needs})
				needs = nil
			} else if strings.HasPrefix(line, "\t") && len(kernels) > 0 {
				k := &kernels[len(kernels)-1]
				k.lines = append(k.lines, strings.TrimSpace(line))
			}
		}
	}
	return kernels
}

// promises lists what a kernel with the name's ending may need, and what the
// gate of its tier asks of the processor (machineSets). "MMX+" is the prefetch,
// which every amd64 processor has.
var promises = map[string][]string{
	AVX2:       {"AVX", "AVX2", "FMA3", "F16C", "CMOV", "SSE", "MMX+"},
	AVXVNNI:    {"AVX", "AVX2", "FMA3", "F16C", "CMOV", "SSE", "MMX+", "AVXVNNI"},
	AVX512VNNI: {"AVX", "AVX2", "FMA3", "F16C", "CMOV", "SSE", "MMX+", "AVX512F", "AVX512BW", "AVX512DQ", "AVX512VL", "AVX512VNNI"},
	AMX:        {"AVX", "AVX2", "FMA3", "F16C", "CMOV", "SSE", "MMX+", "AVX512F", "AVX512BW", "AVX512DQ", "AVX512VL", "AVX512VNNI", "AMXTILE", "AMXINT8"},
	NEON:       {"ASIMD"},
	NEONDot:    {"ASIMD", "ASIMDDP"},
}

// setOf gives the instruction set that a kernel's name ends in.
func setOf(name string) string { return name[strings.LastIndexByte(name, '_')+1:] }

func TestKernelsUseOnlyTheInstructionSetOfTheirName(t *testing.T) {
	for _, k := range readKernels(t) {
		if k.name == "pause" {
			continue
		}
		allowed, ok := promises[setOf(k.name)]
		if !ok {
			t.Errorf("%s: the name ends in no instruction set", k.name)
			continue
		}
		for _, n := range k.needs {
			if !slices.Contains(allowed, n) {
				t.Errorf("%s needs %s, which its tier does not ask for", k.name, n)
			}
		}
		beyond := map[string]func(line string) bool{AVX2: beyondAVX2, AVXVNNI: beyondAVXVNNI, AVX512VNNI: rawBytes, AMX: beyondAMX, NEON: beyondNEON, NEONDot: beyondNEONDot}[setOf(k.name)]
		for _, line := range k.lines {
			if beyond != nil && beyond(line) {
				t.Errorf("%s uses %q, which %s does not have", k.name, line, setOf(k.name))
			}
		}
	}
}

func beyondAVX2(line string) bool {
	return rawBytes(line) || wideRegister.MatchString(line) || wideMnemonic.MatchString(line) || strings.Contains(strings.Fields(line)[0], ".")
}

// rawBytes reports instructions that are put down in bytes.
func rawBytes(line string) bool {
	return slices.Contains([]string{"BYTE", "WORD", "LONG", "QUAD"}, strings.Fields(line)[0])
}

// encodedDotProduct matches VPDPBUSD put down in bytes, as a little-endian word
// and the last byte, with its operands as a comment.
var encodedDotProduct = regexp.MustCompile(`^LONG \$0x(..)(..)(..)(..); BYTE \$0x(..) // VPDPBUSD Y(\d+), Y(\d+), Y(\d+)$`)

// beyondAVXVNNI allows one instruction more than AVX2 has: VPDPBUSD in the form
// VEX.256.66.0F38.W0 50 /r between registers, and only if bytes and comment say
// the same.
func beyondAVXVNNI(line string) bool {
	if !rawBytes(line) {
		return beyondAVX2(line)
	}
	m := encodedDotProduct.FindStringSubmatch(line)
	if m == nil {
		return true
	}
	var b [5]uint64 // in the order in which the processor reads them
	for i, at := range []int{4, 3, 2, 1, 5} {
		b[i], _ = strconv.ParseUint(m[at], 16, 8)
	}
	// Of the prefix, R and B extend the operands of the last byte, inverted; X
	// extends nothing, and the second operand is inverted too.
	sums := ^b[1]>>7&1<<3 | b[4]>>3&7
	signed := ^b[1]>>5&1<<3 | b[4]&7
	unsigned := ^b[2] >> 3 & 15
	says := fmt.Sprintf("%d %d %d", signed, unsigned, sums)
	return b[0] != 0xc4 || b[1]&0x5f != 0x42 || b[2]&0x87 != 0x05 || b[3] != 0x50 || b[4]>>6 != 3 || says != strings.Join(m[6:], " ")
}

func TestTheCheckOfInstructionsReadsThoseInBytes(t *testing.T) {
	for line, beyond := range map[string]bool{
		// Encoded by GNU as from {vex} vpdpbusd.
		"LONG $0x5075e2c4; BYTE $0xc2 // VPDPBUSD Y2, Y1, Y0":    false,
		"LONG $0x500542c4; BYTE $0xf5 // VPDPBUSD Y13, Y15, Y14": false,
		"LONG $0x5035c2c4; BYTE $0xd8 // VPDPBUSD Y8, Y9, Y3":    false,
		"LONG $0x5075e2c4; BYTE $0xc2 // VPDPBUSD Y1, Y2, Y0":    true, // other operands
		"LONG $0x5075e2c4; BYTE $0x02 // VPDPBUSD Y2, Y1, Y0":    true, // reads memory
		"LONG $0x5275e2c4; BYTE $0xc2 // VPDPBUSD Y2, Y1, Y0":    true, // VPDPWSSD
		"LONG $0x50f5e2c4; BYTE $0xc2 // VPDPBUSD Y2, Y1, Y0":    true, // W1
		"LONG $0x5075e2c4; BYTE $0xc2":                           true,
		"VPDPBUSD Y2, Y1, Y0":                                    true,
		"VPADDD Y2, Y1, Y0":                                      false,
	} {
		if beyondAVXVNNI(line) != beyond {
			t.Errorf("%q: beyond AVX-VNNI is %t, want %t", line, !beyond, beyond)
		}
		if strings.Contains(line, "VPDPBUSD") && !beyondAVX2(line) {
			t.Errorf("%q passes as AVX2", line)
		}
	}
}

func TestTheCheckOfInstructionsFindsThoseOfAVX512(t *testing.T) {
	for _, line := range []string{"VADDPS Z1, Z2, Z3", "VADDPS Y16, Y2, Y3", "KMOVW K1, AX", "VPXORD Y1, Y2, Y3", "VPDPBUSD Y1, Y2, Y3", "VMULPS.BCST (AX), Y1, Y2", "VMOVDQU64 (AX), Y1", "VRNDSCALEPS $0x00, Y1, Y1"} {
		if !beyondAVX2(line) {
			t.Errorf("%q passes as AVX2", line)
		}
	}
	for _, line := range []string{"VADDPS Y1, Y2, Y3", "VPXOR Y1, Y2, Y3", "VMOVDQU (AX), Y15", "VPMOVZXBD (AX), Y1", "JMP block0", "VPANDN Y1, Y2, Y3"} {
		if beyondAVX2(line) {
			t.Errorf("%q does not pass as AVX2", line)
		}
	}
}

// gates are the functions of tier_*.go and tiles_*.go that may name
// kernels, with the instruction set of each.
var gates = map[string]string{
	"matrixProducts": AMX, "unpackers": AVX512VNNI, "spreaders": AVX512VNNI,
	"avx512Set": AVX512VNNI, "avx512Tiles": AVX512VNNI, "avx512Streams": AVX512VNNI, "avx512WideStreams": AVX512VNNI, "avx512WideTiles": AVX512VNNI,
	"avx2Set": AVX2, "avx2Tiles": AVX2, "avx2WideTiles": AVX2,
	"vnniTiles": AVXVNNI, "vnniWideTiles": AVXVNNI,
	"neonSet": NEON, "neonTiles": NEON, "neonWideTiles": NEON, "addFloatTiles": NEON,
	"neonDotTiles": NEONDot, "neonDotWideTiles": NEONDot,
}

func TestEveryKernelIsReachedBehindItsGateAlone(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{"pause": true}
	names := map[string]bool{}
	for _, k := range readKernels(t) {
		names[k.name] = true
	}
	if !names["add_avx2"] || !names["add_neon"] {
		t.Fatal("the assembly of a processor was not read")
	}
	fset := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "products") || strings.HasPrefix(name, "rows_") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range f.Decls {
			fn, _ := decl.(*ast.FuncDecl)
			ast.Inspect(decl, func(n ast.Node) bool {
				id, ok := n.(*ast.Ident)
				if !ok || id.Name == "pause" || !names[id.Name] {
					return true
				}
				used[id.Name] = true
				if fn == nil || gates[fn.Name.Name] != setOf(id.Name) {
					t.Errorf("%s: %s is named outside its gate", fset.Position(id.Pos()), id.Name)
				}
				return true
			})
		}
	}
	for name := range names {
		if !used[name] {
			t.Errorf("%s is never used", name)
		}
	}
}
