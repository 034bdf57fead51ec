package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// pointer loads a pointer or integer argument.
func pointer(name string) GPVirtual { return Load(Param(name), GP64()).(GPVirtual) }

// groupPointers loads the addresses of neighbouring groups.
func groupPointers(base, stride string, groups int) []GPVirtual {
	p := []GPVirtual{pointer(base)}
	if groups > 1 {
		s := pointer(stride)
		for g := 1; g < groups; g++ {
			r := GP64()
			LEAQ(Mem{Base: p[g-1], Index: s, Scale: 1}, r)
			p = append(p, r)
		}
	}
	return p
}

// tokenPointers addresses records (or floats) of up to 8 tokens.
type tokenPointers struct {
	base          [2]GPVirtual // of tokens 0 and 4
	stride, three GPVirtual
}

func loadTokens(base, stride string, tokens int) (p tokenPointers) {
	p.base[0] = pointer(base)
	if tokens > 1 {
		p.stride = pointer(stride)
	}
	if tokens > 3 {
		p.three = GP64()
		LEAQ(Mem{Base: p.stride, Index: p.stride, Scale: 2}, p.three)
	}
	if tokens > 4 {
		p.base[1] = GP64()
		LEAQ(Mem{Base: p.base[0], Index: p.stride, Scale: 4}, p.base[1])
	}
	return p
}

func (p tokenPointers) at(token, disp int) Mem {
	m := Mem{Base: p.base[token/4], Disp: disp}
	switch token % 4 {
	case 1:
		m.Index, m.Scale = p.stride, 1
	case 2:
		m.Index, m.Scale = p.stride, 2
	case 3:
		m.Index, m.Scale = p.three, 1
	}
	return m
}

func (p tokenPointers) advance(n, tokens int) {
	ADDQ(Imm(uint64(n)), p.base[0])
	if tokens > 4 {
		ADDQ(Imm(uint64(n)), p.base[1])
	}
}
