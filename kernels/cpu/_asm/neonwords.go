package main

import "fmt"

// Go's arm64 assembler lacks many vector instructions, so all of them are
// written as words. An ins is one with the text that a disassembler gives for
// it, which becomes the comment beside the word; tests hold one to the other.
type ins struct {
	word uint32
	text string
}

// vreg is a vector register, xreg one of the general registers.
type (
	vreg uint32
	xreg uint32
)

func (v vreg) as(shape string) string { return fmt.Sprintf("v%d.%s", uint32(v), shape) }

// Lanes of a vector register as instructions name them.
const (
	b8  = "8b"
	b16 = "16b"
	h4  = "4h"
	h8  = "8h"
	s4  = "4s"
	d2  = "2d"
)

// Fields of an instruction: the full register, the U bit, the size.
const (
	full     = 1 << 30
	unsigned = 1 << 29
	size1    = 1 << 22
	size2    = 2 << 22
)

type (
	three func(d, n, m vreg) ins
	two   func(d, n vreg) ins
)

// alike makes instructions of three registers of one shape.
func alike(name, shape string, fields, opcode uint32) three {
	return mixed(name, shape, shape, fields|0x0e200400|opcode<<11)
}

// longer makes instructions that multiply bytes to words of 16 bits.
func longer(name, from string, fields, opcode uint32) three {
	return mixed(name, h8, from, fields|0x0e200000|opcode<<12)
}

func mixed(name, to, from string, base uint32) three {
	return func(d, n, m vreg) ins {
		return ins{base | uint32(m)<<16 | uint32(n)<<5 | uint32(d), fmt.Sprintf("%s %s, %s, %s", name, d.as(to), n.as(from), m.as(from))}
	}
}

// single makes instructions of two registers.
func single(name, to, from string, fields, opcode uint32) two {
	return func(d, n vreg) ins {
		return ins{fields | 0x0e200800 | opcode<<12 | uint32(n)<<5 | uint32(d), fmt.Sprintf("%s %s, %s", name, d.as(to), n.as(from))}
	}
}

// across makes instructions that leave one number of all lanes in lane 0 and
// zeros in the others.
func across(name string, fields, opcode uint32) two {
	return func(d, n vreg) ins {
		return ins{full | fields | 0x0e300800 | opcode<<12 | uint32(n)<<5 | uint32(d), fmt.Sprintf("%s s%d, %s", name, uint32(d), n.as(s4))}
	}
}

var (
	add4   = alike("add", s4, full|size2, 0x10)
	sub4   = alike("sub", s4, full|unsigned|size2, 0x10)
	addp4  = alike("addp", s4, full|size2, 0x17)
	cmhs4  = alike("cmhs", s4, full|unsigned|size2, 0x07)
	cmhi4  = alike("cmhi", s4, full|unsigned|size2, 0x06)
	umax4  = alike("umax", s4, full|unsigned|size2, 0x0c)
	and16  = alike("and", b16, full, 0x03)
	orr16  = alike("orr", b16, full|size2, 0x03)
	eor16  = alike("eor", b16, full|unsigned, 0x03)
	bit16  = alike("bit", b16, full|unsigned|size2, 0x03) // d takes n's bits where m is set
	fadd4  = alike("fadd", s4, full, 0x1a)
	fsub4  = alike("fsub", s4, full|size2, 0x1a)
	fmul4  = alike("fmul", s4, full|unsigned, 0x1b)
	fdiv4  = alike("fdiv", s4, full|unsigned, 0x1f)
	fmla4  = alike("fmla", s4, full, 0x19)
	fmls4  = alike("fmls", s4, full|size2, 0x19)
	fmax4  = alike("fmax", s4, full, 0x1e)
	fmin4  = alike("fmin", s4, full|size2, 0x1e)
	fcmge4 = alike("fcmge", s4, full|unsigned, 0x1c)
	faddp4 = alike("faddp", s4, full|unsigned, 0x1a)

	smull  = longer("smull", b8, 0, 0xc)
	smull2 = longer("smull2", b16, full, 0xc)
	smlal  = longer("smlal", b8, 0, 0x8)
	smlal2 = longer("smlal2", b16, full, 0x8)

	zip4 = mixed("zip1", s4, s4, 0x4e803800)
	zip2 = mixed("zip1", d2, d2, 0x4ec03800)
	ext8 = func(d, n, m vreg) ins { // the upper half of n, then the lower of m
		return ins{0x6e004000 | uint32(m)<<16 | uint32(n)<<5 | uint32(d), fmt.Sprintf("ext %s, %s, %s, #8", d.as(b16), n.as(b16), m.as(b16))}
	}

	xtnWords  = single("xtn", h4, s4, size1, 0x12)
	xtnWords2 = single("xtn2", h8, s4, full|size1, 0x12)
	xtnBytes  = single("xtn", b8, h8, 0, 0x12)
	xtnBytes2 = single("xtn2", b16, h8, full, 0x12)
	fcvtl     = single("fcvtl", s4, h4, 0, 0x17)
	fcvtl2    = single("fcvtl2", s4, h8, full, 0x17)
	fcvtn     = single("fcvtn", h4, s4, 0, 0x16)
	fcvtn2    = single("fcvtn2", h8, s4, full, 0x16)
	frintn4   = single("frintn", s4, s4, full, 0x18)
	fcvtns4   = single("fcvtns", s4, s4, full, 0x1a)
	scvtf4    = single("scvtf", s4, s4, full, 0x1d)
	fabs4     = single("fabs", s4, s4, full|size2, 0x0f)
	fneg4     = single("fneg", s4, s4, full|unsigned|size2, 0x0f)
	neg4      = single("neg", s4, s4, full|unsigned|size2, 0x0b)
	saddlp    = single("saddlp", s4, h8, full|size1, 0x02)
	sadalp    = single("sadalp", s4, h8, full|size1, 0x06)

	addv4  = across("addv", size2, 0x1b)
	umaxv4 = across("umaxv", unsigned|size2, 0x0a)
	fmaxv4 = across("fmaxv", unsigned, 0x0f)
)

// move copies a register.
func move(d, n vreg) ins {
	return ins{orr16(d, n, n).word, fmt.Sprintf("mov %s, %s", d.as(b16), n.as(b16))}
}

// shift makes shifts of elements of the given bits; right ones count down.
func shift(name, shape string, fields, opcode, bits uint32, right bool) func(d, n vreg, by uint32) ins {
	return func(d, n vreg, by uint32) ins {
		if by >= bits && !right || right && (by < 1 || by > bits) {
			panic(fmt.Sprintf("%s of %d bits by %d", name, bits, by))
		}
		amount := bits + by
		if right {
			amount = 2*bits - by
		}
		return ins{
			full | fields | 0x0f000400 | amount<<16 | opcode<<11 | uint32(n)<<5 | uint32(d),
			fmt.Sprintf("%s %s, %s, #%d", name, d.as(shape), n.as(shape), by),
		}
	}
}

var (
	shl4   = shift("shl", s4, 0, 0x0a, 32, false)
	sshr4  = shift("sshr", s4, 0, 0x00, 32, true)
	ushr4  = shift("ushr", s4, unsigned, 0x00, 32, true)
	shl16  = shift("shl", b16, 0, 0x0a, 8, false)
	ushr16 = shift("ushr", b16, unsigned, 0x00, 8, true)

	sxtBytes = widen("sshll", h8, b8, 0, 8)
	sxtWords = widen("sshll", s4, h4, 0, 16)
	uxtBytes = widen("ushll", h8, b8, unsigned, 8)
	uxtWords = widen("ushll", s4, h4, unsigned, 16)
	uxtUpper = widen("ushll2", s4, h8, full|unsigned, 16)
)

// widen makes instructions that double the size of elements.
func widen(name, to, from string, fields, bits uint32) two {
	return func(d, n vreg) ins {
		return ins{fields | 0x0f00a400 | bits<<16 | uint32(n)<<5 | uint32(d), fmt.Sprintf("%s %s, %s, #0", name, d.as(to), n.as(from))}
	}
}

// element makes instructions that multiply by one lane of m.
func element(name, from, lane string, base uint32) func(d, n, m vreg, i int) ins {
	return func(d, n, m vreg, i int) ins {
		at := uint32(i&1)<<21 | uint32(i>>1)<<11
		return ins{
			base | at | uint32(m)<<16 | uint32(n)<<5 | uint32(d),
			fmt.Sprintf("%s %s, %s, %s[%d]", name, d.as(s4), n.as(from), m.as(lane), i),
		}
	}
}

var (
	sdot     = element("sdot", b16, "4b", 0x4f80e000)
	fmulLane = element("fmul", s4, "s", 0x4f809000)
	fmlaLane = element("fmla", s4, "s", 0x4f801000)
	fmlsLane = element("fmls", s4, "s", 0x4f805000)
)

// dup4 gives lane i of n in each lane.
func dup4(d, n vreg, i int) ins {
	return ins{0x4e040400 | uint32(i)<<19 | uint32(n)<<5 | uint32(d), fmt.Sprintf("dup %s, %s[%d]", d.as(s4), n.as("s"), i)}
}

// dupGeneral gives the lower 32 bits of a general register in each lane.
func dupGeneral(d vreg, n xreg) ins {
	return ins{0x4e040c00 | uint32(n)<<5 | uint32(d), fmt.Sprintf("dup %s, w%d", d.as(s4), n)}
}

// tbl looks n's bytes up in table.
func tbl(d, table, n vreg) ins {
	return ins{0x4e000000 | uint32(n)<<16 | uint32(table)<<5 | uint32(d), fmt.Sprintf("tbl %s, {%s}, %s", d.as(b16), table.as(b16), n.as(b16))}
}

func immediate(base uint32, name, shape string) func(d vreg, n uint32) ins {
	return func(d vreg, n uint32) ins {
		if n > 255 {
			panic("immediate beyond a byte")
		}
		return ins{base | n>>5<<16 | n&31<<5 | uint32(d), fmt.Sprintf("%s %s, #%d", name, d.as(shape), n)}
	}
}

var (
	movi4  = immediate(0x4f000400, "movi", s4)
	movi16 = immediate(0x4f00e400, "movi", b16)
)

// memory makes loads and stores of 1<<log bytes.
func memory(name, view string, base uint32, log int) func(v vreg, p xreg, at int) ins {
	return func(v vreg, p xreg, at int) ins {
		if at < 0 || at&(1<<log-1) != 0 || at>>log > 4095 {
			panic(fmt.Sprintf("offset %d of a %s of %d bytes", at, name, 1<<log))
		}
		place := fmt.Sprintf("[x%d, #%d]", p, at)
		if at == 0 {
			place = fmt.Sprintf("[x%d]", p)
		}
		return ins{base | uint32(at>>log)<<10 | uint32(p)<<5 | uint32(v), fmt.Sprintf("%s %s%d, %s", name, view, uint32(v), place)}
	}
}

var (
	ldrQ = memory("ldr", "q", 0x3dc00000, 4)
	strQ = memory("str", "q", 0x3d800000, 4)
	ldrD = memory("ldr", "d", 0xfd400000, 3)
	ldrS = memory("ldr", "s", 0xbd400000, 2)
)

// pairs makes loads and stores of two registers, v and the next, whose lanes
// take turns in memory.
func pairs(name string, base uint32) func(v vreg, p xreg) ins {
	return func(v vreg, p xreg) ins {
		return ins{base | uint32(p)<<5 | uint32(v), fmt.Sprintf("%s {%s, %s}, [x%d]", name, v.as(s4), (v + 1).as(s4), p)}
	}
}

var (
	ld2 = pairs("ld2", 0x4c408800)
	st2 = pairs("st2", 0x4c008800)
)
