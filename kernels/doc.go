// Package kernels is the seam between a model's graph and the arithmetic that
// computes it, and the contract that every device keeps: the same inputs give
// the same bits, whatever the instruction set, the number of threads, the width
// of the batch, the cut of the model into stages, or the peer.
//
// It holds interfaces and plain types only: no arithmetic, no memory, no graph.
// Start at Device. Package arith has the scalar functions named below in
// portable Go, package quant the weight formats, package cpu a device, package
// exact a device that is accurate instead of fast, and package conform the
// suite by which a device shows that it keeps the contract.
//
// # Arithmetic contract, version 1
//
// One rule above all: a lane is an output, never a part of one. Every output
// element is one chain of operations in a fixed order. The only sums over lanes
// are the fixed sixteen of norms and of softmax.
//
// RN(e) is e rounded to the nearest float32, ties to even. FMA(a, b, c) is a*b+c
// rounded once. No other product is contracted with a sum. Division and square
// root are correctly rounded. float(i) of an int32 is RN(i).
//
// F(x), the floor, is +0 where |x| < 2^-40 (so -0 as well), else x. Every element
// that an operation stores for another to read is F of the value defined here,
// and F32 and BF16 weights, vectors, f32 keys and values, and RoPE tables are
// read through F. Inside a chain nothing is floored. By this rule no chain can
// produce a denormal that reaches a result, so that devices which flush denormals
// give the same bits.
//
// tree(l) of sixteen lanes is l[j] = RN(l[j] + l[j+8]) for j < 8, the same with 4,
// 2 and 1; the sum is l[0].
//
// exp is arith.Exp: +0 below -27, above 88 as 88, a fixed polynomial by FMA.
// tanh is arith.Tanh. Their constants belong to the contract.
//
// f16 to f32 is exact. f32 to f16 rounds to nearest even; f16 denormals are kept.
//
// # Moving data
//
//   - Write stores F of each element. NewVector and NewRope keep F of each.
//   - Read and Gather copy.
//   - Embed, of a float type: F(w). Of a quantised type with weight integer q
//     and its sub-block's scale S and minimum M (see below): F(RN(S*q)), with a
//     minimum F(FMA(S, q, M)).
//
// # Elementwise operations
//
//   - AddVector: F(RN(x + v)).
//   - Add: F(RN(x + y)).
//   - SiLUMul: F(RN(a*u)), a = RN(g / RN(1 + exp(-g))), not floored.
//   - Rotate: of each head, elements x0 and x1 of pair i with c and s of the
//     row's position and pair i become F(RN(RN(x0*c) - RN(x1*s))) and
//     F(RN(RN(x0*s) + RN(x1*c))). With n = Rope.Dims(), RopePairs takes elements
//     2i and 2i+1, RopeHalves i and i+n/2, i < n/2. Elements from n on stay.
//
// # Norm
//
// Over a run of n elements: lane i mod 16 = FMA(x, x, lane), i ascending, from +0;
// sum = tree(lanes); v = RN(RN(sum / float(n)) + eps); r = RN(1 / RN(sqrt(v)));
// y = F(RN(RN(x*r) * w)). A sum that is not finite is a fault "norm". eps must be
// at least 2^-40 (a file with less is refused when it is loaded).
//
// # Activations
//
// Inputs of quantised weights are quantised by token and 32 elements. amax is the
// largest pattern of bits & 0x7fffffff, compared as an unsigned integer; from
// 0x7f800000 on it is a fault "quantise". amax < 2^-40: d = +0 and all q = 0.
// Otherwise, with N = 127 (8 bits) or 16319 (16 bits):
//
//	id = RN(N / amax)
//	q  = RN(x*id) rounded to the nearest integer, ties to even
//	d  = RN(amax / N)
//	s  = RN(d * float(sum of q over a weight's sub-block))
//
// At 16 bits q may be kept as two planes of int8, ql = ((q+64) & 127) - 64 and
// qh = (q-ql)/128: all sums are of integers and exact.
//
// # Products
//
// Quantised weights come in sub-blocks of 32 elements, of 16 in Q6_K, Q3_K and
// Q2_K. A sub-block has integers w, a scale S and in some types a minimum M:
//
//	Q4_0  w = q-8    S = d          Q4_K  w = q     S = d*sc   M = -(dmin*min)
//	Q4_1  w = q      S = d   M = m  Q5_K  w = q     S = d*sc   M = -(dmin*min)
//	Q5_0  w = q-16   S = d          Q2_K  w = q     S = d*sc   M = -(dmin*min)
//	Q5_1  w = q      S = d   M = m  Q6_K  w = q-32  S = d*sc
//	Q8_0  w = q      S = d          Q3_K  w = q-4   S = d*(sc-32)
//	IQ4_NL w = book[q] S = d        IQ4_XS w = book[q] S = d*(ls-32)
//	MXFP4  w = book[q] S = 2^(e-128), the codebook doubled
//
// All are exact in float32. |S| or |M| below 2^-24 counts as +0. A scale that is
// not finite (MXFP4: e = 255) and a float weight that is not finite are refused
// when the matrix is packed.
//
// isum is the exact int32 sum of w*q over the sub-block. Per output:
//
//	total = +0
//	for each segment of 256 columns, ascending (the last may be short):
//	    acc = +0
//	    for each sub-block, ascending:
//	        t = RN(S*d);  acc = FMA(t, float(isum), acc)
//	        if the type has a minimum:  acc = FMA(M, s, acc)
//	    total = RN(total + acc)
//	y = F(total)
//
// Float weights (F32, BF16, F16): inputs stay float32, the segment's chain is
// acc = FMA(w, x, acc), columns ascending; the rest is the same. A product reports
// no fault of its own: an infinity is met by the next norm, quantiser or check.
//
// # Attention
//
// StoreKV rounds keys and values to the KV type, also those that the same batch
// reads. A value that is not finite after that is a fault "kv". Query head h reads
// KV head h/(Heads/KV heads). A query at position p sees positions max(0, p-W+1)
// to p with a window W, and 0 to p without. What it does not see does not take
// part, whatever lies there: no score, +0 in its lane of the sum, its value is not
// read.
//
// For a visible position with key k and value v:
//
//	c = chain of FMA(q[d], k[d], c), d ascending, from +0
//	score = F(RN(c * Scale));  not finite: fault "attention"
//	with a soft cap C:  score = F(RN(C * tanh(F(RN(score / C)))))
//
// Chunks are 256 absolute positions, groups 16 chunks. A chunk with visible
// positions has a partial (m, s, o):
//
//	m = the largest score;  e(pos) = exp(RN(score - m))
//	lane pos mod 16 = RN(lane + e), ascending, from +0;  s = tree(lanes)
//	o[d] = F(chain of FMA(e, v[d], o[d]), positions ascending, from +0)
//
// Two partials (M, S, O), then (m, s, o), fold to
//
//	M' = max(M, m);  a = exp(RN(M - M'));  b = exp(RN(m - M'))
//	S' = FMA(s, b, RN(S*a));  O'[d] = F(FMA(o[d], b, RN(O[d]*a)))
//
// The chunks of a group fold from left to right, beginning with the group's first
// visible chunk as it is; groups fold likewise. The result is F(RN(O[d] / S)).
//
// # Experts
//
// A row's logits l are one for each expert, the product of the router's weights
// with the row like any other. One that is not finite is a fault "router". The
// row takes the Used experts with the largest logits; of equal ones that with
// the lower index comes first. With m the largest logit, p(e) = exp(RN(l(e) - m)):
//
//	Renormalise:  t = chain of RN(t + p(e)) over the experts taken, by ascending
//	              index, from +0
//	otherwise:    lane e mod 16 = RN(lane + p(e)) over all experts, by ascending
//	              index, from +0;  t = tree(lanes)
//	weight(e) = F(RN(RN(p(e) / t) * Scale))
//
// What expert e makes of the row x is y(e): products of x with its gate and up
// matrices, SiLUMul of the two, and the product of that with its down matrix,
// each as defined above, the quantiser's faults included. From z = +0, the experts
// taken by ascending index, z[d] = F(FMA(y(e)[d], weight(e), z[d])). The result is z.
// Which other rows take an expert does not matter to any of it.
//
// AddGated: F(FMA(y, F(RN(1 / RN(1 + exp(-g)))), x)), g the row's one gate.
//
// # Reductions
//
// The highest elements of a row come in descending order, equal ones by ascending
// column. A weight is an integer, so that sums of weights are free of order:
//
//	W(x) = e^x * 2^40 rounded to an integer, x <= 0;  0 below -27
//	x = float64(RN(l - best)) / float64(temperature)
//	x = float64(l) - float64(best), where log-probabilities are asked for (temperature 0)
//
// in float64 as arith.Weight computes it, each of its operations rounded by itself;
// its table and constants belong to the contract. An element above best weighs 0.
//
// # Faults
//
// A value that the contract refuses is a Fault of its row; other rows are not
// affected. A row keeps its first fault. What a faulted row's elements hold from
// then on is not defined, and its keys and values are never read by other rows
// that do not see it.
//
//	"norm"       the sum of squares is not finite
//	"quantise"   an input of quantised weights is not finite; reported by Prepare
//	             or by the first product that reads the row
//	"kv"         a key or value is not finite after rounding
//	"attention"  a score is not finite
//	"router"     a router's logit is not finite
//	"logits"     CheckFinite met a value that is not finite
package kernels
