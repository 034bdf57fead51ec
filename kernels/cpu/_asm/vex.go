package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strconv"
)

// dotProduct matches VPDPBUSD between registers of 256 bits.
var dotProduct = regexp.MustCompile(`(?m)^\tVPDPBUSD\s+Y(\d+), Y(\d+), Y(\d+)$`)

// evexNeeds are what the assembler's form of VPDPBUSD needs of a processor, and
// vexNeeds what the form of encodeVEX needs.
const (
	evexNeeds = "AVX512VL, AVX512VNNI"
	vexNeeds  = "AVXVNNI"
)

// encodeVEX rewrites the assembly just written: Go's assembler knows VPDPBUSD
// only in the form of AVX-512, so that of AVX-VNNI is put down in bytes, with
// the instruction as a comment. Registers from Y16 on do not exist there.
func encodeVEX() error {
	name := flag.Lookup("out").Value.String()
	src, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	src = bytes.ReplaceAll(src, []byte(evexNeeds), []byte(vexNeeds))
	src = dotProduct.ReplaceAllFunc(src, func(line []byte) []byte {
		var r [3]int
		for i, m := range dotProduct.FindSubmatch(line)[1:] {
			if r[i], err = strconv.Atoi(string(m)); r[i] > 15 && err == nil {
				err = fmt.Errorf("%s: %s uses a register that AVX-VNNI does not have", name, line)
			}
		}
		b := vexDotProduct(r[0], r[1], r[2])
		return fmt.Appendf(nil, "\tLONG $0x%02x%02x%02x%02x; BYTE $0x%02x // VPDPBUSD Y%d, Y%d, Y%d", b[3], b[2], b[1], b[0], b[4], r[0], r[1], r[2])
	})
	if err != nil {
		return err
	}
	return os.WriteFile(name, src, 0o644)
}

// vexDotProduct encodes VPDPBUSD of signed bytes, unsigned bytes and the sums
// that they are added to: VEX.256.66.0F38.W0 50 /r.
func vexDotProduct(signed, unsigned, sums int) [5]byte {
	inverted := func(bit, place int) byte { return byte(1-bit>>3&1) << place }
	return [5]byte{
		0xc4,
		inverted(sums, 7) | 1<<6 | inverted(signed, 5) | 2, // R X B, map 0F38
		byte(15-unsigned)<<3 | 1<<2 | 1,                    // W vvvv L pp
		0x50,
		0xc0 | byte(sums&7)<<3 | byte(signed&7),
	}
}
