package cpu

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// encodedTile matches a tile instruction put down in bytes, with itself as a
// comment.
var (
	encodedTile = regexp.MustCompile(`^BYTE \$0x[0-9a-f]{2}(?:; BYTE \$0x[0-9a-f]{2})* // (.*)$`)
	encodedByte = regexp.MustCompile(`BYTE \$0x([0-9a-f]{2})`)
)

// beyondAMX allows AVX-512, and of what is put down in bytes the tile
// instructions that decodeTile knows, if bytes and comment say the same.
func beyondAMX(line string) bool {
	if !rawBytes(line) {
		return false
	}
	m := encodedTile.FindStringSubmatch(line)
	if m == nil {
		return true
	}
	var b []byte
	for _, h := range encodedByte.FindAllStringSubmatch(line, -1) {
		n, _ := strconv.ParseUint(h[1], 16, 8)
		b = append(b, byte(n))
	}
	return decodeTile(b) != m[1]
}

// decodeTile reads an instruction of AMX-TILE or AMX-INT8 that kernels use, as
// Go's assembler would write it; it gives "" for all others.
func decodeTile(b []byte) string {
	if len(b) < 5 || b[0] != 0xc4 || b[1]&0x1f != 2 || b[2]&0x84 != 0 { // VEX.128, map 0F38, W0
		return ""
	}
	r, x, base := ^b[1]>>7&1, ^b[1]>>6&1, ^b[1]>>5&1
	vvvv, pp, opcode, modrm := ^b[2]>>3&15, b[2]&3, b[3], b[4]
	reg, rm, rest := modrm>>3&7, modrm&7, b[5:]
	if r != 0 || vvvv > 7 || opcode != 0x5e && vvvv != 0 {
		return ""
	}
	if modrm>>6 == 3 {
		switch {
		case len(rest) != 0 || x != 0 || base != 0:
			return ""
		case opcode == 0x49 && pp == 0 && reg == 0 && rm == 0:
			return "TILERELEASE"
		case opcode == 0x49 && pp == 3 && rm == 0:
			return fmt.Sprintf("TILEZERO T%d", reg)
		case opcode == 0x5e && pp == 3 && reg != rm && rm != vvvv && reg != vvvv:
			return fmt.Sprintf("TDPBSSD T%d, T%d, T%d", vvvv, rm, reg)
		}
		return ""
	}
	m := tileMemory(x, base, modrm, rest)
	switch {
	case m == "":
		return ""
	case opcode == 0x49 && pp == 0 && reg == 0 && !strings.Contains(m, "*"):
		return "LDTILECFG " + m
	case opcode == 0x4b && pp == 3 && strings.Contains(m, "*"):
		return fmt.Sprintf("TILELOADD %s, T%d", m, reg)
	case opcode == 0x4b && pp == 2 && strings.Contains(m, "*"):
		return fmt.Sprintf("TILESTORED T%d, %s", reg, m)
	}
	return ""
}

// tileMemory reads an operand with a displacement of 32 bits.
func tileMemory(x, b, modrm byte, rest []byte) string {
	names := strings.Fields("AX CX DX BX SP BP SI DI R8 R9 R10 R11 R12 R13 R14 R15")
	index := ""
	base := modrm&7 | b<<3
	if modrm&7 == 4 && len(rest) > 0 {
		base = rest[0]&7 | b<<3
		if i := rest[0]>>3&7 | x<<3; i != 4 {
			index = fmt.Sprintf("(%s*%d)", names[i], 1<<(rest[0]>>6))
		}
		rest = rest[1:]
	}
	if modrm>>6 != 2 || len(rest) != 4 {
		return ""
	}
	disp := ""
	if d := int32(binary.LittleEndian.Uint32(rest)); d != 0 {
		disp = fmt.Sprint(d)
	}
	return fmt.Sprintf("%s(%s)%s", disp, names[base], index)
}

func TestTheCheckOfInstructionsReadsTiles(t *testing.T) {
	line := func(b []byte, text string) string {
		var parts []string
		for _, v := range b {
			parts = append(parts, fmt.Sprintf("BYTE $0x%02x", v))
		}
		return strings.Join(parts, "; ") + " // " + text
	}
	for _, c := range []struct {
		b      []byte
		text   string
		beyond bool
	}{
		// Encoded by GNU as.
		{[]byte{0xc4, 0xe2, 0x78, 0x49, 0xc0}, "TILERELEASE", false},
		{[]byte{0xc4, 0xe2, 0x7b, 0x49, 0xe8}, "TILEZERO T5", false},
		{[]byte{0xc4, 0xe2, 0x73, 0x5e, 0xda}, "TDPBSSD T1, T2, T3", false},
		{[]byte{0xc4, 0xa2, 0x7b, 0x4b, 0xa4, 0x11, 0x10, 0x02, 0, 0}, "TILELOADD 528(CX)(R10*1), T4", false},
		{[]byte{0xc4, 0xe2, 0x73, 0x5e, 0xda}, "TDPBSSD T2, T1, T3", true},                                   // other operands
		{[]byte{0xc4, 0xe2, 0x72, 0x5e, 0xda}, "TDPBSSD T1, T2, T3", true},                                   // TDPBSUD
		{[]byte{0xc4, 0xe2, 0x72, 0x5c, 0xda}, "TDPBF16PS T1, T2, T3", true},                                 // AMX-BF16
		{[]byte{0xc4, 0xe2, 0x73, 0x5e, 0xdb}, "TDPBSSD T1, T3, T3", true},                                   // refused by the processor
		{[]byte{0xc4, 0xa2, 0x7b, 0x4b, 0xa4, 0x51, 0x10, 0x02, 0, 0}, "TILELOADD 528(CX)(R10*1), T4", true}, // (R10*2)
		{[]byte{0xc4, 0xe2, 0x78, 0x49}, "TILERELEASE", true},
		{[]byte{0x0f, 0x0b}, "UD2", true},
	} {
		if beyondAMX(line(c.b, c.text)) != c.beyond {
			t.Errorf("% x as %q: beyond AMX is %t", c.b, c.text, !c.beyond)
		}
	}
	if !beyondAMX("BYTE $0xc4") || beyondAMX("VADDPS Z1, Z2, Z3") {
		t.Error("bytes without a comment pass, or AVX-512 does not")
	}
}

// Tiles left in use would be saved at each switch of threads, and their
// registers belong to who configures them.
func TestKernelsWithTilesBeginWithTheirShapesAndReleaseThem(t *testing.T) {
	n := 0
	for _, k := range readKernels(t) {
		if setOf(k.name) != AMX {
			continue
		}
		n++
		configured, released := false, false
		for _, line := range k.lines {
			m := encodedTile.FindStringSubmatch(line)
			switch {
			case m != nil && strings.HasPrefix(m[1], "LDTILECFG"):
				configured = true
			case m != nil && !configured:
				t.Errorf("%s: %s before any shape", k.name, m[1])
			case m != nil:
				released = m[1] == "TILERELEASE"
			case line == "RET" && !released:
				t.Errorf("%s returns with tiles in use", k.name)
			}
		}
		if !configured {
			t.Errorf("%s uses no tiles", k.name)
		}
	}
	if n == 0 {
		t.Error("no kernel with tiles was read")
	}
}
