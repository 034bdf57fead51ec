package main

// form says how a weight type is stored, in the packed layout of package
// quant, and what its stored quants mean.
type form struct {
	name   string
	quants int  // bytes of a block
	scales int  // bytes of a block
	super  int  // bytes before the scales of each 8 blocks
	halves int  // sub-blocks of a block
	offset int  // stored quant minus weight: 0, 4, 8, 16, 32 or 128
	high   int  // bits beyond the low plane: 0, 1 or 2
	low    int  // bits of the low plane: 2, 4 or 8
	min    bool // has minimums
	kind   scaleKind
	book   [16]int8 // codebook
	booked bool
}

// scaleKind is how a block's scale (and minimum) is stored.
type scaleKind int

const (
	scaleF16      scaleKind = iota // f16 (and f16)
	scaleExponent                  // e8m0, halved
	scaleK                         // f16 of 8 blocks times unsigned byte
	scaleNibbleK                   // f16 of 8 blocks times nibble of a byte
	scaleSigned                    // f16 of 8 blocks times signed byte
)

var (
	nonLinear  = [16]int8{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}
	microFloat = [16]int8{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}
)

var forms = []form{
	{name: "q4_0", quants: 256, scales: 32, halves: 1, offset: 8, low: 4},
	{name: "q4_1", quants: 256, scales: 64, halves: 1, low: 4, min: true},
	{name: "q5_0", quants: 320, scales: 32, halves: 1, offset: 16, low: 4, high: 1},
	{name: "q5_1", quants: 320, scales: 64, halves: 1, low: 4, high: 1, min: true},
	{name: "q8_0", quants: 512, scales: 32, halves: 1, offset: 128, low: 8},
	{name: "q2_k", quants: 128, scales: 32, super: 64, halves: 2, low: 2, min: true, kind: scaleNibbleK},
	{name: "q3_k", quants: 192, scales: 32, super: 32, halves: 2, offset: 4, low: 2, high: 1, kind: scaleSigned},
	{name: "q4_k", quants: 256, scales: 32, super: 64, halves: 1, low: 4, min: true, kind: scaleK},
	{name: "q5_k", quants: 320, scales: 32, super: 64, halves: 1, low: 4, high: 1, min: true, kind: scaleK},
	{name: "q6_k", quants: 384, scales: 32, super: 32, halves: 2, offset: 32, low: 4, high: 2, kind: scaleSigned},
	{name: "iq4_nl", quants: 256, scales: 32, halves: 1, offset: 128, low: 4, book: nonLinear, booked: true},
	{name: "iq4_xs", quants: 256, scales: 16, super: 32, halves: 1, offset: 128, low: 4, kind: scaleSigned, book: nonLinear, booked: true},
	{name: "mxfp4", quants: 256, scales: 16, halves: 1, offset: 128, low: 4, kind: scaleExponent, book: microFloat, booked: true},
}
