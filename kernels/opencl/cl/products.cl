// Products of quantised weights.
//
// An output is a chain over the sub-blocks of each segment of 256 columns, and a chain over
// the segments' results. A work-item makes the former, of one row or two and of up to eight
// tokens; the latter is made in order, by itself or by one work-item of its group.

// Work-items of a group.
#define PRODUCT_ITEMS 256

// Adds a block's terms to a chain: w and its scales s and minimums m, a token's words x, its d
// and the other numbers of its record that the type needs: in n the sums of q, in f s, of 32
// elements or of both 16.
INLINE float add_block(int type, int bits, const uint *w, const float *s, const float *m, const uint4 *x, float d,
                       const int *n, const float *f, float acc) {
  int offset = weight_offset(type), i[2] = {0, 0};
  UNROLL for (int plane = 1; plane >= 0; plane--) {
    if (plane >= RECORD_PLANES(bits)) continue;
    uint4 a = x[2 * plane], b = x[2 * plane + 1];
    i[0] = dot4(w[0], a.x, dot4(w[1], a.z, dot4(w[2], b.x, dot4(w[3], b.z, 128 * i[0]))));
    i[1] = dot4(w[4], a.y, dot4(w[5], a.w, dot4(w[6], b.y, dot4(w[7], b.w, 128 * i[1]))));
  }
  if (!has_halves(type)) {
    acc = fma(MUL(s[0], d), (float)(i[0] + i[1] - offset * n[0]), acc);
    return has_minimum(type) ? fma(m[0], f[0], acc) : acc;
  }
  UNROLL for (int h = 0; h < 2; h++) {
    acc = fma(MUL(s[h], d), (float)(i[h] - offset * n[h]), acc);
    if (has_minimum(type)) acc = fma(m[h], f[h], acc);
  }
  return acc;
}

// Adds the terms of a block whose record begins at word at of `space` memory.
#define ADD_RECORD(space, type, bits, w, s, m, records, at, token, acc) \
  do { \
    space const uint *number_ = (space const uint *)(records) + (at) + RECORD_NUMBER(bits, token, 0); \
    space const uint4 *quad_ = (records) + ((at) >> 2) + 2 * ((token) & 7); \
    uint4 x_[4]; \
    int n_[2] = {0, 0}; \
    float f_[2] = {0.0f, 0.0f}; \
    UNROLL for (int p_ = 0; p_ < 2; p_++) { \
      if (p_ >= RECORD_PLANES(bits)) continue; \
      x_[2 * p_] = quad_[16 * p_]; \
      x_[2 * p_ + 1] = quad_[16 * p_ + 1]; \
    } \
    UNROLL for (int h_ = 0; h_ < 2; h_++) { \
      int half_ = has_halves(type) ? 1 + h_ : 0; \
      if (weight_offset(type) != 0) n_[h_] = (int)number_[8 * (4 + half_)]; \
      if (has_minimum(type)) f_[h_] = as_float(number_[8 * (1 + half_)]); \
    } \
    acc = add_block(type, bits, w, s, m, x_, as_float(number_[0]), n_, f_, acc); \
  } while (0)

// group_scales: bytes of 16 rows' scales. log: see narrow_product.
#define PRODUCT_PARAMS \
  WEIGHT_PARAMS, __global const uint4 *records, __global float *dst, __global const uint *bad, int rows, \
      int blocks, uint group_scales, int n, int log, FAULT_PARAMS
#define PRODUCT_ARGS WEIGHT_ARGS, records, dst, bad, rows, blocks, group_scales, n, log, faults, fault0, fault_word

// Notes the faults of the rows that Prepare could not quantise.
void report_bad(__global const uint *bad, int first, int n, FAULT_PARAMS) {
  if (get_group_id(0) != 0) return;
  for (int t = first + (int)get_local_id(0); t < first + n; t += PRODUCT_ITEMS)
    if (bad[t] != 0u) FAULT(t);
}

// Few tokens: a work-item is a row and a segment, for up to `tokens` tokens. Its group has
// 2^log segments of as many rows as that leaves, 16 by 16, and takes the segments in turns:
// so the weights are read once, 16 rows of a word side by side, by as many work-items as can
// be. part is the group's memory of tokens*PRODUCT_ITEMS floats, total of tokens*16: segments
// are taken in more than one turn by groups of 16 rows alone.
INLINE void narrow_product(int type, int bits, int tokens, WEIGHT_PARAMS, __global const uint4 *records, __global float *dst, int rows,
                           int blocks, uint group_scales, int n, int log, __local float *part, __local float *total) {
  int l = get_local_id(0), turn = 1 << log, mine = (l >> 4) & (turn - 1), groups = (rows + 15) / 16;
  int g0 = (int)get_group_id(0) * (16 >> log), g = g0 + (l >> (4 + log)), width = PRODUCT_ITEMS >> log;
  int first = (int)get_group_id(1) * tokens, m = min(n - first, tokens);
  int segments = (blocks + SEGMENT_BLOCKS - 1) / SEGMENT_BLOCKS;
  uint r = l & 15;
  for (int base = 0; base < segments; base += turn) {
    int seg = base + mine;
    float acc[8];
    UNROLL for (int t = 0; t < 8; t++) acc[t] = 0.0f;
    if (seg < segments && g < groups) {
      float d, dmin, s[2], min_[2];
      int b = seg * SEGMENT_BLOCKS, last = min(blocks, b + SEGMENT_BLOCKS) - 1;
      uint at = g * group_scales + seg * segment_scales(type), word = (uint)g * blocks * block_words(type) + r;
      uint w[8], raw[8], scales[2];
      segment_factors(type, halves, at, r, &d, &dmin);
      load_block(type, quants, word + b * block_words(type), raw);
      load_scales(type, halves, bytes, at, 0, r, scales);
      for (; b <= last; b++) {
        int next = min(b + 1, last); // is on its way while this one is used
        open_block(type, raw, w);
        open_scales(type, scales, d, dmin, s, min_);
        load_block(type, quants, word + next * block_words(type), raw);
        load_scales(type, halves, bytes, at, next & 7, r, scales);
        UNROLL for (int t = 0; t < 8; t++) {
          if (t >= tokens || (t > 0 && t >= m)) continue;
          ADD_RECORD(__global, type, bits, w, s, min_, records, RECORD_AT(bits, first + t, blocks, b), first + t, acc[t]);
        }
      }
    }
    UNROLL for (int t = 0; t < 8; t++)
      if (t < tokens) part[t * PRODUCT_ITEMS + l] = acc[t];
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = l; i < width * m; i += PRODUCT_ITEMS) {
      int t = i / width, row = i % width;
      float sum = base == 0 ? 0.0f : total[i];
      int from = t * PRODUCT_ITEMS + ((row >> 4) << (4 + log)) + (row & 15), k = min(turn, segments - base);
      for (int j = 0; j < k; j++) sum = sum + part[from + 16 * j];
      if (base + turn < segments) total[i] = sum;
      else if (16 * g0 + row < rows) dst[(first + t) * rows + 16 * g0 + row] = c_floor(sum);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
  }
}

// One token: as narrow_product, but what limits it is how many reads of weights are on their
// way, so the token's record is copied to the group's memory, and a work-item reads some
// blocks ahead, from one of its segments into the next. A group takes SINGLE_TURNS turns
// before it adds up: q holds the words of their blocks, numbers d and what else the type
// needs of each block, part the segments' results.
#define SINGLE_TURNS(bits) (4 / RECORD_PLANES(bits))
#define SINGLE_BLOCKS(bits) (SINGLE_TURNS(bits) * 16 * SEGMENT_BLOCKS)
#define SINGLE_NUMBERS(type) \
  ((type) == T_Q6_K || (type) == T_Q3_K || (type) == T_Q2_K ? 3 \
   : (type) == T_Q8_0 || (type) == T_IQ4_NL || (type) == T_IQ4_XS || (type) == T_MXFP4 ? 1 : 2)

// Which number of a record is the k-th that a type needs.
INLINE int single_number(int type, int k) { return k == 0 ? 0 : (has_minimum(type) ? 1 : 4) + (has_halves(type) ? k : 0); }

INLINE void single_product(int type, int bits, PRODUCT_PARAMS, __local uint4 *q, __local uint *numbers, __local float *part) {
  int l = get_local_id(0), turn = 1 << log, mine = (l >> 4) & (turn - 1), groups = (rows + 15) / 16;
  int g0 = (int)get_group_id(0) * (16 >> log), g = g0 + (l >> (4 + log)), planes = RECORD_PLANES(bits);
  int segments = (blocks + SEGMENT_BLOCKS - 1) / SEGMENT_BLOCKS, ahead = type == T_Q8_0 ? 2 : 4, kinds = SINGLE_NUMBERS(type);
  uint r = l & 15;
  float total = 0.0f;
  report_bad(bad, 0, n, faults, fault0, fault_word);
  for (int base = 0; base < segments; base += turn * SINGLE_TURNS(bits)) {
    int count = min(blocks - base * SEGMENT_BLOCKS, turn * SINGLE_TURNS(bits) * SEGMENT_BLOCKS); // blocks of these turns
    int turns = (min(segments - base, turn * SINGLE_TURNS(bits)) + turn - 1) >> log, limit = g < groups ? count : 0;
    uint word = ((uint)g * blocks + base * SEGMENT_BLOCKS) * block_words(type) + r;
    uint at = (uint)g * group_scales + (uint)(base + mine) * segment_scales(type), jump = turn * segment_scales(type);
    uint raw[4][8], scales[4][2];
    float acc = 0.0f, d = 0.0f, dmin = 0.0f, next_d = 0.0f, next_dmin = 0.0f;
    int c = mine * SEGMENT_BLOCKS; // the first of this work-item's blocks, of these turns
    if (c < limit) segment_factors(type, halves, at, r, &next_d, &next_dmin);
    UNROLL for (int i = 0; i < 4; i++) {
      if (i >= ahead || c + i >= limit) continue;
      load_block(type, quants, word + (c + i) * block_words(type), raw[i]);
      load_scales(type, halves, bytes, at, i, r, scales[i]);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = l; i < count * planes * 2; i += PRODUCT_ITEMS) {
      int b = i / (planes * 2), k = i % (planes * 2);
      q[i] = records[RECORD_AT(bits, 0, blocks, base * SEGMENT_BLOCKS + b) / 4 + 16 * (k >> 1) + (k & 1)];
    }
    for (int i = l; i < count * kinds; i += PRODUCT_ITEMS) {
      int b = i / kinds, k = i % kinds;
      numbers[i] = ((__global const uint *)records)[RECORD_AT(bits, 0, blocks, base * SEGMENT_BLOCKS + b) +
                                                    RECORD_NUMBER(bits, 0, single_number(type, k))];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int step = 0; step < turns * SEGMENT_BLOCKS; step += ahead) {
      int b0 = step & 7, turn_blocks = turn * SEGMENT_BLOCKS;
      if (b0 == 0) {
        acc = 0.0f;
        d = next_d;
        dmin = next_dmin;
        at += step == 0 ? 0 : jump;
        c = (step >> 3) * turn_blocks + mine * SEGMENT_BLOCKS;
        if (c + turn_blocks < limit) segment_factors(type, halves, at + jump, r, &next_d, &next_dmin);
      }
      UNROLL for (int i = 0; i < 4; i++) {
        int b = b0 + i, beyond = b + ahead >= SEGMENT_BLOCKS; // beyond: what is read ahead is of the next turn
        if (i >= ahead || c + b >= limit) continue;
        int next = c + b + ahead + (beyond ? turn_blocks - SEGMENT_BLOCKS : 0), f_at = (c + b) * kinds;
        uint w[8];
        uint4 x[4];
        float s[2], min_[2], f[2] = {0.0f, 0.0f};
        int sums[2] = {0, 0};
        open_block(type, raw[i], w);
        open_scales(type, scales[i], d, dmin, s, min_);
        if (next < limit) {
          load_block(type, quants, word + next * block_words(type), raw[i]);
          load_scales(type, halves, bytes, beyond ? at + jump : at, (b + ahead) & 7, r, scales[i]);
        }
        UNROLL for (int k = 0; k < 4; k++)
          if (k < 2 * planes) x[k] = q[(c + b) * planes * 2 + k];
        UNROLL for (int k = 0; k < 2; k++) {
          if (k + 1 >= kinds) continue;
          if (has_minimum(type)) f[k] = as_float(numbers[f_at + 1 + k]);
          else sums[k] = (int)numbers[f_at + 1 + k];
        }
        acc = add_block(type, bits, w, s, min_, x, as_float(numbers[f_at]), sums, f, acc);
      }
      if (b0 + ahead == SEGMENT_BLOCKS) part[(step >> 3) * PRODUCT_ITEMS + l] = acc;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (l < (PRODUCT_ITEMS >> log)) {
      int from = ((l >> 4) << (4 + log)) + (l & 15), k = min(segments - base, turn * SINGLE_TURNS(bits));
      for (int j = 0; j < k; j++) total = total + part[(j >> log) * PRODUCT_ITEMS + from + 16 * (j & (turn - 1))];
    }
  }
  if (l < (PRODUCT_ITEMS >> log) && 16 * g0 + l < rows) dst[16 * g0 + l] = c_floor(total);
}

// Many tokens: a group is 128 rows by 32 tokens, a work-item two rows, 64 apart, by eight
// tokens. The tokens' records of a segment lie in the group's memory.
#define TILE_ROWS 128
#define TILE_TOKENS 32
#define TILE_QUADS(bits) (TILE_TOKENS / 8 * SEGMENT_BLOCKS * RECORD_WORDS(bits) / 4)

INLINE void tile_product(int type, int bits, PRODUCT_PARAMS, __local uint4 *stage) {
  int l = get_local_id(0), lane = l & 63, mine = (l >> 6) * 8, first = (int)get_group_id(1) * TILE_TOKENS;
  int m = min(n - first, TILE_TOKENS), groups = (rows + 15) / 16, row0 = (int)get_group_id(0) * TILE_ROWS + lane;
  uint r = lane & 15;
  uint g[2];
  float acc[2][8], total[2][8];
  report_bad(bad, first, m, faults, fault0, fault_word);
  UNROLL for (int k = 0; k < 2; k++) {
    g[k] = min((row0 + 64 * k) >> 4, groups - 1); // beyond the last row the results are not stored
    UNROLL for (int t = 0; t < 8; t++) total[k][t] = 0.0f;
  }
  for (int from = 0; from < blocks; from += SEGMENT_BLOCKS) {
    int count = min(SEGMENT_BLOCKS, blocks - from), quads = count * RECORD_WORDS(bits) / 4;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = l; i < (m + 7) / 8 * quads; i += PRODUCT_ITEMS) {
      int t = i / quads, k = i % quads;
      stage[t * SEGMENT_BLOCKS * RECORD_WORDS(bits) / 4 + k] = records[RECORD_AT(bits, first + 8 * t, blocks, from) / 4 + k];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    float d[2], dmin[2], s[2][2], min_[2][2];
    uint at[2], w[2][8], raw[2][8], scales[2][2];
    UNROLL for (int k = 0; k < 2; k++) {
      at[k] = g[k] * group_scales + (from / SEGMENT_BLOCKS) * segment_scales(type);
      segment_factors(type, halves, at[k], r, &d[k], &dmin[k]);
      UNROLL for (int t = 0; t < 8; t++) acc[k][t] = 0.0f;
    }
    if (mine < m) {
      for (int b = 0; b < count; b++) {
        UNROLL for (int k = 0; k < 2; k++) {
          load_block(type, quants, (g[k] * blocks + from + b) * block_words(type) + r, raw[k]);
          load_scales(type, halves, bytes, at[k], b, r, scales[k]);
        }
        UNROLL for (int k = 0; k < 2; k++) {
          open_block(type, raw[k], w[k]);
          open_scales(type, scales[k], d[k], dmin[k], s[k], min_[k]);
        }
        UNROLL for (int t = 0; t < 8; t++) {
          UNROLL for (int k = 0; k < 2; k++)
            ADD_RECORD(__local, type, bits, w[k], s[k], min_[k], stage, (mine / 8 * SEGMENT_BLOCKS + b) * RECORD_WORDS(bits), t, acc[k][t]);
        }
      }
    }
    UNROLL for (int k = 0; k < 2; k++) UNROLL for (int t = 0; t < 8; t++) total[k][t] = total[k][t] + acc[k][t];
  }
  UNROLL for (int k = 0; k < 2; k++) {
    int row = row0 + 64 * k;
    if (row < rows)
      UNROLL for (int t = 0; t < 8; t++)
        if (mine + t < m) dst[(first + mine + t) * rows + row] = c_floor(total[k][t]);
  }
}

#define PRODUCT_KERNEL __kernel __attribute__((reqd_work_group_size(PRODUCT_ITEMS, 1, 1)))

#define QUANTISED_PRODUCTS(name, type, bits) \
  PRODUCT_KERNEL void product1_##name##_##bits(PRODUCT_PARAMS) { \
    __local uint4 q[SINGLE_BLOCKS(bits) * RECORD_PLANES(bits) * 2]; \
    __local uint numbers[SINGLE_BLOCKS(bits) * SINGLE_NUMBERS(type)]; \
    __local float part[SINGLE_TURNS(bits) * PRODUCT_ITEMS]; \
    single_product(type, bits, PRODUCT_ARGS, q, numbers, part); \
  } \
  PRODUCT_KERNEL void product8_##name##_##bits(PRODUCT_PARAMS) { \
    __local float part[8 * PRODUCT_ITEMS], total[8 * 16]; \
    int first = 8 * (int)get_group_id(1); \
    report_bad(bad, first, min(n - first, 8), faults, fault0, fault_word); \
    narrow_product(type, bits, 8, WEIGHT_ARGS, records, dst, rows, blocks, group_scales, n, log, part, total); \
  } \
  PRODUCT_KERNEL void tile_##name##_##bits(PRODUCT_PARAMS) { \
    __local uint4 stage[TILE_QUADS(bits)]; \
    tile_product(type, bits, PRODUCT_ARGS, stage); \
  }
#define PRODUCTS(name, type) QUANTISED_PRODUCTS(name, type, 8) QUANTISED_PRODUCTS(name, type, 16)

PRODUCTS(q4_0, T_Q4_0)
PRODUCTS(q4_1, T_Q4_1)
PRODUCTS(q5_0, T_Q5_0)
PRODUCTS(q5_1, T_Q5_1)
PRODUCTS(q8_0, T_Q8_0)
PRODUCTS(q2_k, T_Q2_K)
PRODUCTS(q3_k, T_Q3_K)
PRODUCTS(q4_k, T_Q4_K)
PRODUCTS(q5_k, T_Q5_K)
PRODUCTS(q6_k, T_Q6_K)
PRODUCTS(iq4_nl, T_IQ4_NL)
PRODUCTS(iq4_xs, T_IQ4_XS)
PRODUCTS(mxfp4, T_MXFP4)
