// Products by NVIDIA's integer matrix instructions (capability 8.0): they add the same
// integers exactly, 16 rows by 8 tokens by 32 columns at once. The packed layout and that of
// the records are theirs: a work-item's words of a block are where the instruction wants
// them.
//
// What the instruction calls gid and tig are a work-item's row (and the row 8 further on) and
// its word of a block, of the weights; its token of 8 and its word, of the activations; its
// rows and its two tokens, of the results.
#ifdef WEFT_MMA

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

// What a work-item reads of block b of a segment's rows gid and gid+8: words and scales. word
// is the block's first, at its segment's scales'.
INLINE void mma_load(int type, WEIGHT_PARAMS, uint word, uint at, int b, int gid, int tig, uint (*raw)[5]) {
  UNROLL for (int h = 0; h < 2; h++) {
    uint r = gid + 8 * h;
    UNROLL for (int i = 0; i < 3; i++)
      if (pair_vector(type, i, 0) >= 0) raw[h][i] = quants[word + 16u * pair_vector(type, i, tig) + r];
    load_scales(type, halves, bytes, at, b, r, raw[h] + 3);
  }
}

// Makes of it words a of the first and of the last 16 columns, scales s and minimums m of
// both rows.
INLINE void mma_open(int type, uint (*raw)[5], int tig, const float *d, const float *dmin, uint *a, float *s, float *m) {
  uint offset = weight_offset(type) * 0x01010101u;
  UNROLL for (int h = 0; h < 2; h++) {
    uint low, high;
    open_pair(type, raw[h], tig, &low, &high);
    if (offset != 0) {
      low = ((low | 0x80808080u) - offset) ^ 0x80808080u;
      high = ((high | 0x80808080u) - offset) ^ 0x80808080u;
    }
    a[h] = low;
    a[2 + h] = high;
    open_scales(type, raw[h] + 3, d[h], dmin[h], s + 2 * h, m + 2 * h);
  }
}

// Adds a block's terms to the chains of both rows and two tokens: x are the words of both
// planes, ds d of the tokens, f their s of the block or of its halves.
INLINE void mma_terms(int type, int bits, const uint *a, const float *s, const float *m, const uint2 *x, float2 ds,
                      const float2 *f, float *acc) {
  UNROLL for (int p = 0; p < 2; p++) {
    if (p > 0 && !has_halves(type)) continue;
    float sum[4], high[4];
    mma_sums(type, p, a, x[0], sum);
    if (bits == 16) {
      mma_sums(type, p, a, x[1], high);
      UNROLL for (int e = 0; e < 4; e++) sum[e] = fma(high[e], 128.0f, sum[e]); // exact but for its one rounding
    }
    UNROLL for (int e = 0; e < 4; e++) {
      int row = 2 * (e >> 1) + p;
      acc[e] = fma(MUL(s[row], (e & 1) ? ds.y : ds.x), sum[e], acc[e]);
      if (has_minimum(type)) acc[e] = fma(m[row], (e & 1) ? f[p].y : f[p].x, acc[e]);
    }
  }
}

// Few tokens: a warp is 16 rows, a segment and up to 16 tokens. Its group has 2^log segments
// of as many rows as that leaves and takes the segments in turns, as narrow_product does.
#define MMA_FEW 16
#define MMA_AHEAD 4 // blocks of weights that are read ahead

// What a work-item reads of the records of block b, of MMA_FEW tokens: words of both planes,
// d, and s of the block or of its halves. Tokens that are not there read the first ones.
INLINE void few_load(int type, int bits, __global const uint2 *records, int first, int m, int blocks, int b, int lane,
                     uint2 (*x)[5]) {
  UNROLL for (int t = 0; t < MMA_FEW / 8; t++) {
    int token = 8 * t < m ? first + 8 * t : first;
    uint at = RECORD_AT(bits, token, blocks, b) / 2, number = at + 32 * RECORD_PLANES(bits) + (lane & 3);
    x[t][0] = records[at + lane];
    if (bits == 16) x[t][1] = records[at + 32 + lane];
    x[t][2] = records[number];
    if (has_minimum(type)) x[t][3] = records[number + (has_halves(type) ? 8 : 4)];
    if (has_minimum(type) && has_halves(type)) x[t][4] = records[number + 12];
  }
}

INLINE void few_product(int type, int bits, PRODUCT_PARAMS, __local float *part, __local float *total) {
  int l = get_local_id(0), lane = l & 31, gid = lane >> 2, tig = lane & 3, turn = 1 << log, warp = l >> 5;
  int g0 = (int)get_group_id(0) * (8 >> log), g = g0 + (warp >> log), groups = (rows + 15) / 16;
  int first = (int)get_group_id(1) * MMA_FEW, m = min(n - first, MMA_FEW);
  int segments = (blocks + SEGMENT_BLOCKS - 1) / SEGMENT_BLOCKS;
  report_bad(bad, first, m, faults, fault0, fault_word);
  for (int base = 0; base < segments; base += turn) {
    int seg = base + (warp & (turn - 1));
    float acc[MMA_FEW / 8][4];
    UNROLL for (int t = 0; t < MMA_FEW / 8; t++) UNROLL for (int e = 0; e < 4; e++) acc[t][e] = 0.0f;
    if (seg < segments && g < groups) {
      int from = seg * SEGMENT_BLOCKS, count = min(SEGMENT_BLOCKS, blocks - from), b = 0;
      uint at = (uint)g * group_scales + seg * segment_scales(type), word = ((uint)g * blocks + from) * block_words(type);
      float d[2], dmin[2];
      segment_factors(type, halves, at, gid, &d[0], &dmin[0]);
      segment_factors(type, halves, at, gid + 8, &d[1], &dmin[1]);
      __global const uint2 *pairs = (__global const uint2 *)records;
      uint a[4], raw[MMA_AHEAD][2][5];
      uint2 x[MMA_FEW / 8][5], next[MMA_FEW / 8][5];
      float s[4], min_[4];
      UNROLL for (int i = 0; i < MMA_AHEAD; i++)
        if (i < count) mma_load(type, WEIGHT_ARGS, word + i * block_words(type), at, i, gid, tig, raw[i]);
      few_load(type, bits, pairs, first, m, blocks, from, lane, next);
      for (; b < count; b += MMA_AHEAD) {
        UNROLL for (int i = 0; i < MMA_AHEAD; i++) {
          if (b + i >= count) continue;
          int ahead = b + i + MMA_AHEAD; // is on its way while this one is used
          mma_open(type, raw[i], tig, d, dmin, a, s, min_);
          if (ahead < count) mma_load(type, WEIGHT_ARGS, word + ahead * block_words(type), at, ahead, gid, tig, raw[i]);
          UNROLL for (int t = 0; t < MMA_FEW / 8; t++) UNROLL for (int k = 0; k < 5; k++) x[t][k] = next[t][k];
          few_load(type, bits, pairs, first, m, blocks, from + min(b + i + 1, count - 1), lane, next);
          UNROLL for (int t = 0; t < MMA_FEW / 8; t++) {
            float2 f[2];
            if (t > 0 && 8 * t >= m) continue;
            f[0] = as_float2(x[t][3]);
            f[1] = as_float2(x[t][4]);
            mma_terms(type, bits, a, s, min_, x[t], as_float2(x[t][2]), f, acc[t]);
          }
        }
      }
    }
    UNROLL for (int t = 0; t < MMA_FEW / 8; t++)
      UNROLL for (int e = 0; e < 4; e++)
        part[(warp * MMA_FEW + 8 * t + 2 * tig + (e & 1)) * 16 + gid + 8 * (e >> 1)] = acc[t][e];
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = l; i < (8 >> log) * m * 16; i += PRODUCT_ITEMS) {
      int group = i / (16 * m), o = i % (16 * m), token = o >> 4, row = (g0 + group) * 16 + (o & 15), k = min(turn, segments - base);
      float sum = base == 0 ? 0.0f : total[i];
      for (int j = 0; j < k; j++) sum = sum + part[((group << log) + j) * MMA_FEW * 16 + o];
      if (base + turn < segments) total[i] = sum;
      else if (row < rows) dst[(first + token) * rows + row] = c_floor(sum);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
  }
}

// Many tokens: a group is 128 rows by 64 tokens, a warp 16 of the rows. The records of a
// segment lie in the group's memory: q as it is, and behind each other d and the sums s that
// types with a minimum need, of all tokens of a block.
#define MMA_TOKENS 64
#define MMA_TILES (MMA_TOKENS / 8)
#define MMA_BLOCK (MMA_TILES * 32)
#define MMA_PLANE (SEGMENT_BLOCKS * MMA_BLOCK)
#define MMA_SCALES (SEGMENT_BLOCKS * MMA_TOKENS / 2)

// How many sums of a block's activations the type's minimums need.
#define MMA_MINIMUMS(type) ((type) == T_Q2_K ? 2 : (type) == T_Q4_1 || (type) == T_Q5_1 || (type) == T_Q4_K || (type) == T_Q5_K)

INLINE void mma_stage(int type, int bits, __global const uint4 *records, int first, int m, int blocks, int from, int count,
                      __local uint4 *q, __local uint4 *scales) {
  int planes = RECORD_PLANES(bits), each = 16 * planes + 2 * (1 + MMA_MINIMUMS(type));
  for (int i = get_local_id(0); i < (m + 7) / 8 * SEGMENT_BLOCKS * each; i += PRODUCT_ITEMS) {
    int k = i % each, b = (i / each) % SEGMENT_BLOCKS, t = i / each / SEGMENT_BLOCKS;
    if (b >= count) continue;
    __global const uint4 *record = records + RECORD_AT(bits, first + 8 * t, blocks, from + b) / 4;
    if (k < 16 * planes) {
      q[((k >> 4) * MMA_PLANE + b * MMA_BLOCK + 32 * t) / 2 + (k & 15)] = record[k];
      continue;
    }
    int kind = (k - 16 * planes) >> 1, number = kind > 0 && has_halves(type) ? kind + 1 : kind;
    scales[(kind * MMA_SCALES + b * (MMA_TOKENS / 2) + 4 * t) / 2 + (k & 1)] = record[16 * planes + 2 * number + (k & 1)];
  }
}

INLINE void mma_product(int type, int bits, PRODUCT_PARAMS, __local uint4 *q, __local uint4 *scales) {
  __local const uint2 *pairs = (__local const uint2 *)q;
  __local const float2 *numbers = (__local const float2 *)scales;
  int l = get_local_id(0), lane = l & 31, gid = lane >> 2, tig = lane & 3, groups = (rows + 15) / 16;
  int first = (int)get_group_id(1) * MMA_TOKENS, m = min(n - first, MMA_TOKENS);
  int row0 = ((int)get_group_id(0) * 8 + (l >> 5)) * 16;
  uint g = min(row0 >> 4, groups - 1); // beyond the last row the results are not stored
  float acc[MMA_TILES][4], total[MMA_TILES][4];
  report_bad(bad, first, m, faults, fault0, fault_word);
  UNROLL for (int t = 0; t < MMA_TILES; t++) UNROLL for (int e = 0; e < 4; e++) total[t][e] = 0.0f;
  for (int from = 0; from < blocks; from += SEGMENT_BLOCKS) {
    int count = min(SEGMENT_BLOCKS, blocks - from);
    uint at = g * group_scales + (from / SEGMENT_BLOCKS) * segment_scales(type), word = (g * blocks + from) * block_words(type);
    uint a[4], raw[2][5];
    float d[2], dmin[2], s[4], min_[4];
    barrier(CLK_LOCAL_MEM_FENCE);
    mma_stage(type, bits, records, first, m, blocks, from, count, q, scales);
    segment_factors(type, halves, at, gid, &d[0], &dmin[0]);
    segment_factors(type, halves, at, gid + 8, &d[1], &dmin[1]);
    mma_load(type, WEIGHT_ARGS, word, at, 0, gid, tig, raw);
    UNROLL for (int t = 0; t < MMA_TILES; t++) UNROLL for (int e = 0; e < 4; e++) acc[t][e] = 0.0f;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int b = 0; b < count; b++) {
      int ahead = min(b + 1, count - 1); // is on its way while this one is used
      mma_open(type, raw, tig, d, dmin, a, s, min_);
      mma_load(type, WEIGHT_ARGS, word + ahead * block_words(type), at, ahead, gid, tig, raw);
      UNROLL for (int t = 0; t < MMA_TILES; t++) {
        if (t > 0 && 8 * (t & ~1) >= m) continue; // by two: the second tile of a pair may be for nothing
        int pair = b * MMA_BLOCK + 32 * t + lane, number = b * (MMA_TOKENS / 2) + 4 * t + tig;
        uint2 x[2];
        float2 f[2];
        x[0] = pairs[pair];
        x[1] = bits == 16 ? pairs[MMA_PLANE + pair] : (uint2)(0u);
        f[0] = has_minimum(type) ? numbers[MMA_SCALES + number] : (float2)(0.0f);
        f[1] = has_minimum(type) && has_halves(type) ? numbers[2 * MMA_SCALES + number] : (float2)(0.0f);
        mma_terms(type, bits, a, s, min_, x, numbers[number], f, acc[t]);
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
  PRODUCT_KERNEL void mma_few_##name##_##bits(PRODUCT_PARAMS) { \
    __local float part[8 * MMA_FEW * 16], total[MMA_FEW * 16]; \
    few_product(type, bits, PRODUCT_ARGS, part, total); \
  } \
  PRODUCT_KERNEL void mma_##name##_##bits(PRODUCT_PARAMS) { \
    __local uint4 q[RECORD_PLANES(bits) * MMA_PLANE / 2], scales[(1 + MMA_MINIMUMS(type)) * MMA_SCALES / 2]; \
    mma_product(type, bits, PRODUCT_ARGS, q, scales); \
  }
#define TENSOR_PRODUCTS(name, type) TENSOR_PRODUCT(name, type, 8) TENSOR_PRODUCT(name, type, 16)

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
