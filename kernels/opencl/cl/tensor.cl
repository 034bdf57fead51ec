// Products of many tokens by NVIDIA's integer matrix instructions (capability 8.0): they add
// the same integers exactly, 16 rows by 8 tokens by 32 columns at once. The packed layout is
// theirs: a work-item's words of a block are where the instruction wants them.
//
// A group is 128 rows by 64 tokens, one of its eight warps 16 rows. What the instruction
// calls gid and tig are the work-item's row (and the row 8 further on) and its word of a
// block, of the weights, its token of 8 and its word, of the activations, and its rows and
// its two tokens of the results.
#ifdef WEFT_MMA
#define MMA_TOKENS 64
#define MMA_TILES (MMA_TOKENS / 8)
// Pairs of words from block to block of the stage, two more than fill it: stores to several
// blocks at once meet fewer of the same banks.
#define MMA_BLOCK (MMA_TILES * 32 + 4)
#define MMA_PLANE (SEGMENT_BLOCKS * MMA_BLOCK)
#define MMA_SCALES (SEGMENT_BLOCKS * MMA_TOKENS / 2)

// A sum that begins with the bits of 1.5*2^23 ends with those of 1.5*2^23 and the sum, which
// is below 2^22.
#define MMA_ZERO 0x4b400000
#define MMA_FLOAT(i) (as_float(i) - 12582912.0f)

INLINE void mma_32(uint a0, uint a1, uint a2, uint a3, uint b0, uint b1, int *c) {
  __asm__("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
          : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
          : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "r"(MMA_ZERO));
}

INLINE void mma_16(uint a0, uint a1, uint b0, int *c) {
  __asm__("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%7,%7,%7};"
          : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
          : "r"(a0), "r"(a1), "r"(b0), "r"(MMA_ZERO));
}

// Sums of a block, or of its half p in types that have them, as floats.
INLINE void mma_sums(int type, int p, const uint *a, uint2 b, float *f) {
  int c[4];
  if (!has_halves(type)) mma_32(a[0], a[1], a[2], a[3], b.x, b.y, c);
  else mma_16(a[2 * p], a[2 * p + 1], p ? b.y : b.x, c);
  UNROLL for (int e = 0; e < 4; e++) f[e] = MMA_FLOAT(c[e]);
}

// Reads block b of a segment's rows gid and gid+8: words a of the first and of the last 16
// columns, scales s and minimums m of both rows. word is the block's first, at its scales'.
INLINE void mma_fetch(int type, WEIGHT_PARAMS, uint word, uint at, int b, int gid, int tig, const float *d, const float *dmin, uint *a,
               float *s, float *m) {
  uint offset = weight_offset(type) * 0x01010101u;
  UNROLL for (int h = 0; h < 2; h++) {
    uint low, high, r = gid + 8 * h;
    unpack_pair(type, quants, word + r, tig, &low, &high);
    if (offset != 0) {
      low = ((low | 0x80808080u) - offset) ^ 0x80808080u;
      high = ((high | 0x80808080u) - offset) ^ 0x80808080u;
    }
    a[h] = low;
    a[2 + h] = high;
    block_scales(type, halves, bytes, at, b, r, d[h], dmin[h], s + 2 * h, m + 2 * h);
  }
}

// Puts the records of a segment's blocks where the instructions want them: q as pairs of
// words for each block, eight tokens and work-item of a warp, the planes one behind the
// other; d, and the sums s of types with a minimum, for each block and two tokens.
INLINE void mma_stage(int type, int bits, __global const uint4 *records, int first, int m, int blocks, int from, int count,
               __local uint *q, __local float *scales) {
  int quads = RECORD_QUADS(bits), tail = bits == 8 ? 2 : 4;
  for (int i = get_local_id(0); i < m * count * quads; i += PRODUCT_ITEMS) {
    int k = i % quads, b = (i / quads) % count, t = i / quads / count;
    if (k > tail) continue;
    uint4 v = records[((uint)(first + t) * blocks + from + b) * quads + k];
    if (k < tail) {
      int at = 2 * ((k >> 1) * MMA_PLANE + b * MMA_BLOCK + (t >> 3) * 32 + (t & 7) * 4) + (k & 1);
      q[at] = v.x;
      q[at + 2] = v.y;
      q[at + 4] = v.z;
      q[at + 6] = v.w;
      continue;
    }
    int at = b * MMA_TOKENS + t;
    scales[at] = as_float(v.x);
    if (!has_minimum(type)) continue;
    scales[2 * MMA_SCALES + at] = as_float(has_halves(type) ? v.z : v.y);
    if (has_halves(type)) scales[4 * MMA_SCALES + at] = as_float(v.w);
  }
}

INLINE void mma_product(int type, int bits, PRODUCT_PARAMS, __local uint2 *q, __local float2 *scales) {
  int l = get_local_id(0), lane = l & 31, gid = lane >> 2, tig = lane & 3, groups = (rows + 15) / 16;
  int first = (int)get_group_id(1) * MMA_TOKENS, m = min(n - first, MMA_TOKENS);
  int row0 = ((int)get_group_id(0) * 8 + (l >> 5)) * 16, parts = has_halves(type) ? 2 : 1;
  uint g = min(row0 >> 4, groups - 1); // beyond the last row the results are not stored
  float acc[MMA_TILES][4], total[MMA_TILES][4];
  report_bad(bad, stamp, first, m, faults, fault0, fault_word);
  UNROLL for (int t = 0; t < MMA_TILES; t++) UNROLL for (int e = 0; e < 4; e++) total[t][e] = 0.0f;
  for (int from = 0; from < blocks; from += SEGMENT_BLOCKS) {
    int count = min(SEGMENT_BLOCKS, blocks - from);
    uint at = g * group_scales + (from / SEGMENT_BLOCKS) * segment_scales(type), word = (g * blocks + from) * block_words(type);
    uint a[4], next_a[4];
    float d[2], dmin[2], s[4], min_[4], next_s[4], next_min[4];
    barrier(CLK_LOCAL_MEM_FENCE);
    mma_stage(type, bits, records, first, m, blocks, from, count, (__local uint *)q, (__local float *)scales);
    segment_factors(type, halves, at, gid, &d[0], &dmin[0]);
    segment_factors(type, halves, at, gid + 8, &d[1], &dmin[1]);
    mma_fetch(type, WEIGHT_ARGS, word, at, 0, gid, tig, d, dmin, next_a, next_s, next_min);
    UNROLL for (int t = 0; t < MMA_TILES; t++) UNROLL for (int e = 0; e < 4; e++) acc[t][e] = 0.0f;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int b = 0; b < count; b++) {
      UNROLL for (int e = 0; e < 4; e++) {
        a[e] = next_a[e];
        s[e] = next_s[e];
        min_[e] = next_min[e];
      }
      int ahead = min(b + 1, count - 1); // the next block's reads overlap with this one's sums
      mma_fetch(type, WEIGHT_ARGS, word + ahead * block_words(type), at, ahead, gid, tig, d, dmin, next_a, next_s, next_min);
      UNROLL for (int t = 0; t < MMA_TILES; t++) {
        if (8 * t >= m) continue;
        int pair = b * (MMA_TOKENS / 2) + 4 * t + tig;
        uint2 low = q[b * MMA_BLOCK + 32 * t + lane], high = (uint2)(0);
        if (bits == 16) high = q[MMA_PLANE + b * MMA_BLOCK + 32 * t + lane];
        float2 ds = scales[pair];
        UNROLL for (int p = 0; p < 2; p++) {
          if (p >= parts) continue;
          float f[4], f2[4];
          float2 sum = (float2)(0.0f);
          mma_sums(type, p, a, low, f);
          if (bits == 16) {
            mma_sums(type, p, a, high, f2);
            UNROLL for (int e = 0; e < 4; e++) f[e] = fma(f2[e], 128.0f, f[e]);
          }
          if (has_minimum(type)) sum = scales[(1 + p) * MMA_SCALES + pair];
          UNROLL for (int e = 0; e < 4; e++) {
            int at_ = 2 * (e >> 1) + p;
            acc[t][e] = fma(MUL(s[at_], (e & 1) ? ds.y : ds.x), f[e], acc[t][e]);
            if (has_minimum(type)) acc[t][e] = fma(min_[at_], (e & 1) ? sum.y : sum.x, acc[t][e]);
          }
        }
      }
    }
    UNROLL for (int t = 0; t < MMA_TILES; t++) UNROLL for (int e = 0; e < 4; e++) total[t][e] = total[t][e] + acc[t][e];
  }
  UNROLL for (int t = 0; t < MMA_TILES; t++) {
    UNROLL for (int e = 0; e < 4; e++) {
      int token = 8 * t + 2 * tig + (e & 1), row = row0 + gid + 8 * (e >> 1);
      if (token < m && row < rows) dst[(first + token) * rows + row] = c_floor(total[t][e]);
    }
  }
}

#define TENSOR_PRODUCT(name, type, bits) \
  PRODUCT_KERNEL void mma_##name##_##bits(PRODUCT_PARAMS) { \
    __local uint2 q[(bits) / 8 * MMA_PLANE]; \
    __local float2 scales[(MMA_MINIMUMS(type) + 1) * MMA_SCALES]; \
    mma_product(type, bits, PRODUCT_ARGS, q, scales); \
  }
#define TENSOR_PRODUCTS(name, type) TENSOR_PRODUCT(name, type, 8) TENSOR_PRODUCT(name, type, 16)

// How many sums of a block's activations the type's minimums need.
#define MMA_MINIMUMS(type) ((type) == T_Q2_K ? 2 : (type) == T_Q4_1 || (type) == T_Q5_1 || (type) == T_Q4_K || (type) == T_Q5_K)

TENSOR_PRODUCTS(q4_0, T_Q4_0)
TENSOR_PRODUCTS(q4_1, T_Q4_1)
TENSOR_PRODUCTS(q5_0, T_Q5_0)
TENSOR_PRODUCTS(q5_1, T_Q5_1)
TENSOR_PRODUCTS(q8_0, T_Q8_0)
TENSOR_PRODUCTS(q2_k, T_Q2_K)
TENSOR_PRODUCTS(q3_k, T_Q3_K)
TENSOR_PRODUCTS(q4_k, T_Q4_K)
TENSOR_PRODUCTS(q5_k, T_Q5_K)
TENSOR_PRODUCTS(q6_k, T_Q6_K)
TENSOR_PRODUCTS(iq4_nl, T_IQ4_NL)
TENSOR_PRODUCTS(iq4_xs, T_IQ4_XS)
TENSOR_PRODUCTS(mxfp4, T_MXFP4)
#endif
