package cpu

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// armLine is an instruction of the arm64 files: a word with the text of a
// vector instruction, or one of the few general ones, in Go's syntax.
var armLine = regexp.MustCompile(`^WORD \$0x([0-9a-f]{8}) // (([a-z0-9]+) .*)$|^(MOVD|MOVW|MOVWU|ADD|SUB|MUL|LSL|AND|ORR|BIC|CMP|CSEL|CBNZ|B|BLT|BLE|FMOVS|FMOVD|RET|YIELD)( |$)`)

// armBaseline are the vector instructions that kernels use of ARMv8.0.
var armBaseline = strings.Fields(`add addp addv and bit cmhi cmhs dup eor ext fabs fadd faddp fcmge fcvtl fcvtl2 fcvtn
	fcvtn2 fcvtns fdiv fmax fmaxv fmin fmla fmls fmul fneg frintn fsub ld2 ldr mov movi neg orr sadalp saddlp scvtf shl
	smlal smlal2 smull smull2 sshll sshr st2 str sub tbl umax umaxv ushll ushll2 ushr xtn xtn2 zip1`)

func beyondNEON(line string) bool {
	m := armLine.FindStringSubmatch(line)
	return m == nil || m[1] != "" && !slices.Contains(armBaseline, m[3])
}

func beyondNEONDot(line string) bool {
	return beyondNEON(line) && !strings.Contains(line, "// sdot ")
}

func TestTheCheckOfInstructionsFindsThoseBeyondTheBaseline(t *testing.T) {
	for _, line := range []string{"WORD $0x4f80e041 // sdot v1.4s, v2.16b, v0.4b[0]", "WORD $0x4e80ac41 // smmla v1.4s, v2.16b, v0.16b", "WORD $0x4e20d400", "VADD V1.S4, V2.S4, V3.S4", "CASALD R1, (R2), R3"} {
		if !beyondNEON(line) {
			t.Errorf("%q passes as neon", line)
		}
	}
	if beyondNEONDot("WORD $0x4f80e041 // sdot v1.4s, v2.16b, v0.4b[0]") || !beyondNEONDot("WORD $0x4e80ac41 // smmla v1.4s, v2.16b, v0.16b") {
		t.Error("neondot is not the baseline with sdot")
	}
	for _, line := range []string{"WORD $0x4e20d400 // fadd v0.4s, v0.4s, v0.4s", "MOVD q+0(FP), R0", "RET", "CBNZ R1, block"} {
		if beyondNEON(line) {
			t.Errorf("%q does not pass as neon", line)
		}
	}
}

// armWords gives the words of all kernels of a tier with their comments.
func armWords(t *testing.T, tier string) map[uint32]string {
	words := map[uint32]string{}
	for _, k := range readKernels(t) {
		if setOf(k.name) != tier {
			continue
		}
		for _, line := range k.lines {
			m := armLine.FindStringSubmatch(line)
			if m == nil || m[1] == "" {
				continue
			}
			n, err := strconv.ParseUint(m[1], 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			if old, ok := words[uint32(n)]; ok && old != m[2] {
				t.Errorf("%08x is called %q and %q", n, old, m[2])
			}
			words[uint32(n)] = m[2]
		}
	}
	if len(words) < 100 {
		t.Fatalf("%d words of %s; want more", len(words), tier)
	}
	return words
}

// A word is only as good as its comment is true: disassemblers, which are
// others' work, must read it as the comment does.
func TestVectorWordsAreWhatTheirCommentsSay(t *testing.T) {
	disassemblers := map[string]func(t *testing.T, tool, tier string, words []uint32) []string{
		"llvm-mc":                   llvmText,
		"aarch64-linux-gnu-objdump": objdumpText,
	}
	found := false
	for name, text := range disassemblers {
		tool, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		found = true
		for _, tier := range []string{NEON, NEONDot} {
			said := armWords(t, tier)
			words := make([]uint32, 0, len(said))
			for w := range said {
				words = append(words, w)
			}
			read := text(t, tool, tier, words)
			if len(read) != len(words) {
				t.Fatalf("%s read %d of %d words", name, len(read), len(words))
			}
			for i, w := range words {
				if plainText(read[i]) != plainText(said[w]) {
					t.Errorf("%08x is %q, the comment says %q", w, read[i], said[w])
				}
			}
		}
	}
	if !found {
		t.Skip("not run: neither llvm-mc nor aarch64-linux-gnu-objdump is installed")
	}
}

var (
	hexNumber = regexp.MustCompile(`#0x[0-9a-f]+`)
	listRange = regexp.MustCompile(`\{(v\d+\.4s)-(v\d+\.4s)\}`)
	longMove  = regexp.MustCompile(`^([us])xtl(2?)(.*)$`)
)

// plainText removes what disassemblers write differently.
func plainText(s string) string {
	s = strings.Join(strings.Fields(s), "")
	s = hexNumber.ReplaceAllStringFunc(s, func(h string) string {
		n, err := strconv.ParseUint(h[3:], 16, 64)
		if err != nil {
			return h
		}
		return fmt.Sprintf("#%d", n)
	})
	s = listRange.ReplaceAllString(s, "{$1,$2}")
	return longMove.ReplaceAllString(s, "${1}shll$2$3,#0")
}

// llvmText knows no more than the tier's instructions.
func llvmText(t *testing.T, tool, tier string, words []uint32) (text []string) {
	t.Helper()
	var in bytes.Buffer
	for _, w := range words {
		b := binary.LittleEndian.AppendUint32(nil, w)
		fmt.Fprintf(&in, "0x%02x 0x%02x 0x%02x 0x%02x\n", b[0], b[1], b[2], b[3])
	}
	features := "+neon"
	if tier == NEONDot {
		features += ",+dotprod"
	}
	cmd := exec.Command(tool, "--disassemble", "-triple=aarch64", "-mattr="+features)
	cmd.Stdin = &in
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	for line := range strings.SplitSeq(string(out), "\n") {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, ".") {
			text = append(text, line)
		}
	}
	return text
}

func objdumpText(t *testing.T, tool, _ string, words []uint32) (text []string) {
	t.Helper()
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	file := filepath.Join(t.TempDir(), "words")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tool, "-D", "-z", "-b", "binary", "-m", "aarch64", file).Output()
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	for line := range strings.SplitSeq(string(out), "\n") {
		if fields := strings.SplitN(line, "\t", 3); len(fields) == 3 {
			text = append(text, fields[2])
		}
	}
	return text
}
