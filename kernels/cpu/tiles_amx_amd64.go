//go:build amd64 && !noasm

package cpu

import "github.com/weft-mesh/weft/kernels/quant"

// spreaders copy records of 8 and 16 bits for matrix tiles.
func spreaders() [2]spreadKernel {
	return [2]spreadKernel{spread_a8_avx512vnni, spread_a16_avx512vnni}
}

// unpackers unpack weights for matrix tiles.
func unpackers() map[quant.Type]unpackKernel {
	return map[quant.Type]unpackKernel{
		quant.Q4_0:   unpack_q4_0_avx512vnni,
		quant.Q4_1:   unpack_q4_1_avx512vnni,
		quant.Q5_0:   unpack_q5_0_avx512vnni,
		quant.Q5_1:   unpack_q5_1_avx512vnni,
		quant.Q8_0:   unpack_q8_0_avx512vnni,
		quant.Q2_K:   unpack_q2_k_avx512vnni,
		quant.Q3_K:   unpack_q3_k_avx512vnni,
		quant.Q4_K:   unpack_q4_k_avx512vnni,
		quant.Q5_K:   unpack_q5_k_avx512vnni,
		quant.Q6_K:   unpack_q6_k_avx512vnni,
		quant.IQ4_NL: unpack_iq4_nl_avx512vnni,
		quant.IQ4_XS: unpack_iq4_xs_avx512vnni,
		quant.MXFP4:  unpack_mxfp4_avx512vnni,
	}
}

// matrixProducts are the products with matrix tiles, by planes of activations,
// sub-blocks of a block, and without and with minimums.
func matrixProducts() [2][2][2]productKernel {
	return [2][2][2]productKernel{
		{{product_h1_a8_amx, product_h1m_a8_amx}, {product_h2_a8_amx, product_h2m_a8_amx}},
		{{product_h1_a16_amx, product_h1m_a16_amx}, {product_h2_a16_amx, product_h2m_a16_amx}},
	}
}
