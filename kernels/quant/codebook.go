package quant

// NonLinear4 is the codebook of IQ4_NL and IQ4_XS.
var NonLinear4 = [16]int8{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

// MicroFloat4 is MXFP4's codebook, doubled so that it holds integers: a
// weight is half of it times 2^(e-127) (OCP Microscaling Formats, 2023).
var MicroFloat4 = [16]int8{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}
