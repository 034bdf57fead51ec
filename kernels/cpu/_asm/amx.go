package main

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
)

// Neither avo nor Go's assembler knows AMX. Its instructions are written here
// with registers of avo's choice, as text that no assembler would take, and
// encodeTiles puts bytes in their place afterwards.

// tmm is a tile register.
type tmm int

func (t tmm) op() Op { return LabelRef(fmt.Sprintf("T%d", int(t))) }

// tileInstruction writes an instruction that reads the general registers of
// in.
func tileInstruction(isa, opcode string, in []Op, operands ...Op) {
	Instruction(&ir.Instruction{Opcode: opcode, Operands: operands, Inputs: in, ISA: []string{isa}})
}

func LDTILECFG(m Mem) { tileInstruction("AMXTILE", "LDTILECFG", []Op{m}, m) }
func TILERELEASE()    { tileInstruction("AMXTILE", "TILERELEASE", nil) }
func TILEZERO(t tmm)  { tileInstruction("AMXTILE", "TILEZERO", nil, t.op()) }

// TILELOADD reads rows of t that lie as far apart as m's index says.
func TILELOADD(m Mem, t tmm) { tileInstruction("AMXTILE", "TILELOADD", []Op{m}, m, t.op()) }

// TILESTORED writes rows of t as far apart as m's index says.
func TILESTORED(t tmm, m Mem) { tileInstruction("AMXTILE", "TILESTORED", []Op{m}, t.op(), m) }

// TDPBSSD adds the products of signed bytes: rows of a by columns of b, whose
// rows are of four bytes for each column.
func TDPBSSD(b, a, sums tmm) {
	tileInstruction("AMXINT8", "TDPBSSD", nil, b.op(), a.op(), sums.op())
}

// tileConfig is the memory that LDTILECFG reads: rows and bytes of a row of
// tiles from 0 on.
func tileConfig(name string, shape [][2]int) Mem {
	m := GLOBL(name, attr.RODATA|attr.NOPTR)
	var b [64]byte
	b[0] = 1 // palette
	for i, s := range shape {
		b[48+i], b[16+2*i] = byte(s[0]), byte(s[1])
	}
	for i := range 8 {
		var word uint64
		for k := range 8 {
			word |= uint64(b[8*i+k]) << (8 * k)
		}
		DATA(8*i, U64(word))
	}
	return m
}

var (
	tileLine   = regexp.MustCompile(`(?m)^\t(LDTILECFG|TILERELEASE|TILEZERO|TILELOADD|TILESTORED|TDPBSSD)\b *(.*)$`)
	tileMemory = regexp.MustCompile(`^(-?\d*)\((\w+)\)(?:\((\w+)\*1\))?$`)
)

// encodeTiles rewrites the assembly just written: tile instructions become
// bytes, with themselves as a comment.
func encodeTiles() error {
	name := flag.Lookup("out").Value.String()
	src, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	src = tileLine.ReplaceAllFunc(src, func(line []byte) []byte {
		m := tileLine.FindSubmatch(line)
		b, e := encodeTile(string(m[1]), strings.Split(string(m[2]), ", "))
		if e != nil && err == nil {
			err = fmt.Errorf("%s: %w", bytes.TrimSpace(line), e)
		}
		var parts []string
		for _, c := range b {
			parts = append(parts, fmt.Sprintf("BYTE $0x%02x", c))
		}
		return fmt.Appendf(nil, "\t%s // %s", strings.Join(parts, "; "), strings.TrimSpace(fmt.Sprintf("%s %s", m[1], m[2])))
	})
	if err != nil {
		return err
	}
	return os.WriteFile(name, src, 0o644)
}

// Prefixes that the field pp of a VEX prefix stands for.
const (
	prefixNone = iota
	prefix66
	prefixF3
	prefixF2
)

// encodeTile gives the bytes of an instruction with its operands in the order
// of Go's assembler, sources first.
func encodeTile(opcode string, operands []string) ([]byte, error) {
	switch opcode {
	case "TILERELEASE":
		return vexTile(prefixNone, 0x49, 0, 0, 0, 0xc0), nil
	case "TILEZERO":
		t, err := tileNumber(operands[0])
		return vexTile(prefixF2, 0x49, 0, 0, 0, 0xc0|t<<3), err
	case "TDPBSSD":
		var n [3]byte
		for i, o := range operands {
			t, err := tileNumber(o)
			if err != nil {
				return nil, err
			}
			n[i] = t
		}
		return vexTile(prefixF2, 0x5e, n[0], 0, 0, 0xc0|n[2]<<3|n[1]), nil
	case "LDTILECFG":
		return memoryTile(prefixNone, 0x49, 0, operands[0], false)
	case "TILELOADD":
		t, err := tileNumber(operands[1])
		if err != nil {
			return nil, err
		}
		return memoryTile(prefixF2, 0x4b, t, operands[0], true)
	case "TILESTORED":
		t, err := tileNumber(operands[0])
		if err != nil {
			return nil, err
		}
		return memoryTile(prefixF3, 0x4b, t, operands[1], true)
	}
	return nil, fmt.Errorf("no encoding of %s", opcode)
}

// vexTile encodes VEX.128.pp.0F38.W0 opcode /r. index and base are the numbers
// of general registers, of which the prefix has the fourth bits.
func vexTile(pp, opcode, vvvv, index, base byte, rest ...byte) []byte {
	return append([]byte{0xc4, 1<<7 | (1-index>>3)<<6 | (1-base>>3)<<5 | 2, (15-vvvv)<<3 | pp, opcode}, rest...)
}

// memoryTile encodes an instruction with an operand in memory, always with a
// displacement of 32 bits.
func memoryTile(pp, opcode, tile byte, operand string, indexed bool) ([]byte, error) {
	m := tileMemory.FindStringSubmatch(operand)
	if m == nil || indexed != (m[3] != "") {
		return nil, fmt.Errorf("cannot encode the operand %q", operand)
	}
	disp := 0
	if m[1] != "" {
		d, err := strconv.ParseInt(m[1], 10, 32)
		if err != nil {
			return nil, err
		}
		disp = int(d)
	}
	base, index := registerNumber(m[2]), 4 // 4 is no index
	if indexed {
		if index = registerNumber(m[3]); index == 4 {
			return nil, fmt.Errorf("SP cannot be an index")
		}
	}
	if base < 0 || index < 0 {
		return nil, fmt.Errorf("unknown register in %q", operand)
	}
	address := []byte{0x80 | tile<<3 | byte(base&7)}
	if indexed || base&7 == 4 { // a second byte has the index
		address = []byte{0x80 | tile<<3 | 4, byte(index&7<<3 | base&7)}
	}
	return vexTile(pp, opcode, 0, byte(index), byte(base), binary.LittleEndian.AppendUint32(address, uint32(disp))...), nil
}

func tileNumber(s string) (byte, error) {
	if len(s) != 2 || s[0] != 'T' || s[1] < '0' || s[1] > '7' {
		return 0, fmt.Errorf("%q is no tile", s)
	}
	return s[1] - '0', nil
}

// registerNumber gives the number by which instructions know a register, or -1.
func registerNumber(name string) int {
	return slices.Index([]string{"AX", "CX", "DX", "BX", "SP", "BP", "SI", "DI", "R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15"}, name)
}
