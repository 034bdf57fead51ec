// Products of float weights: chains of FMA over the columns of a segment, else as products.cl
// has them. group_elements: elements of 16 rows, their padding included; quads: of four
// columns, from token to token of x.
#define FLOAT_PARAMS \
  WEIGHT_PARAMS, __global const float4 *x, __global float *dst, int rows, int cols, uint group_elements, int quads, int n, int log
#define FLOAT_ARGS WEIGHT_ARGS, x, dst, rows, cols, group_elements, quads, n, log

// Columns that are read at once, and ahead.
#define FLOAT_AHEAD 8

// Reads weights of columns from k on, 16 elements apart; the last one's instead of any beyond
// it.
INLINE void load_floats(int type, __global const uint *quants, __global const ushort *halves, uint at, int k, int last, int count,
                        uint *raw) {
  UNROLL for (int i = 0; i < FLOAT_AHEAD; i++)
    if (i < count) raw[i] = load_float(type, quants, halves, at + 16u * min(k + i, last - 1));
}

// Adds the terms of four columns, or of the count that there are.
INLINE float add_quad(const float *w, float4 v, int count, float acc) {
  acc = fma(w[0], v.x, acc);
  if (count > 1) acc = fma(w[1], v.y, acc);
  if (count > 2) acc = fma(w[2], v.z, acc);
  if (count > 3) acc = fma(w[3], v.w, acc);
  return acc;
}

// Adds the terms of columns k to last-1, at most FLOAT_AHEAD, to the chains of m tokens; x
// begins with theirs.
INLINE void add_quads(int tokens, int m, const float *w, __global const float4 *x, int quads, int count, float *acc) {
  UNROLL for (int t = 0; t < 8; t++) {
    if (t >= tokens || (t > 0 && t >= m)) continue;
    acc[t] = add_quad(w, x[t * quads], count, acc[t]);
    if (count > 4) acc[t] = add_quad(w + 4, x[t * quads + 1], count - 4, acc[t]);
  }
}

INLINE void narrow_floats(int type, int tokens, FLOAT_PARAMS, __local float *part, __local float *total) {
  int l = get_local_id(0), turn = 1 << log, mine = (l >> 4) & (turn - 1), groups = (rows + 15) / 16;
  int g0 = (int)get_group_id(0) * (16 >> log), g = g0 + (l >> (4 + log)), width = PRODUCT_ITEMS >> log;
  int first = (int)get_group_id(1) * tokens, m = min(n - first, tokens), segments = (cols + SEGMENT - 1) / SEGMENT;
  for (int base = 0; base < segments; base += turn) {
    int seg = base + mine;
    float acc[8], w[FLOAT_AHEAD];
    UNROLL for (int t = 0; t < 8; t++) acc[t] = 0.0f;
    if (seg < segments && g < groups) {
      int k = seg * SEGMENT, last = min(cols, k + SEGMENT);
      uint at = g * group_elements + (l & 15), raw[FLOAT_AHEAD];
      load_floats(type, quants, halves, at, k, last, FLOAT_AHEAD, raw);
      for (; k < last; k += FLOAT_AHEAD) {
        __global const float4 *from = x + first * quads + (k >> 2);
        UNROLL for (int i = 0; i < FLOAT_AHEAD; i++) w[i] = open_float(type, raw[i]);
        load_floats(type, quants, halves, at, k + FLOAT_AHEAD, last, FLOAT_AHEAD, raw);
        if (last - k >= FLOAT_AHEAD) add_quads(tokens, m, w, from, quads, FLOAT_AHEAD, acc);
        else add_quads(tokens, m, w, from, quads, last - k, acc);
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

// Quads of columns that are staged at a time.
#define STAGE_QUADS 16

INLINE void tile_floats(int type, FLOAT_PARAMS, __local float4 *stage) {
  int l = get_local_id(0), lane = l & 63, mine = (l >> 6) * 8, first = (int)get_group_id(1) * TILE_TOKENS;
  int m = min(n - first, TILE_TOKENS), groups = (rows + 15) / 16, row0 = (int)get_group_id(0) * TILE_ROWS + lane;
  uint at[2];
  uint raw[2][FLOAT_AHEAD];
  float acc[2][8], total[2][8], w[2][4];
  UNROLL for (int k = 0; k < 2; k++) {
    at[k] = min((row0 + 64 * k) >> 4, groups - 1) * group_elements + (lane & 15);
    load_floats(type, quants, halves, at[k], 0, cols, 4, raw[k]);
    UNROLL for (int t = 0; t < 8; t++) total[k][t] = acc[k][t] = 0.0f;
  }
  for (int from = 0; from < cols; from += 4 * STAGE_QUADS) {
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = l; i < TILE_TOKENS * STAGE_QUADS; i += PRODUCT_ITEMS) {
      int t = i / STAGE_QUADS, k = from / 4 + i % STAGE_QUADS;
      if (t < m && k < quads) stage[i] = x[(first + t) * quads + k];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (from % SEGMENT == 0 && from > 0) {
      UNROLL for (int k = 0; k < 2; k++)
        UNROLL for (int t = 0; t < 8; t++) {
          total[k][t] = total[k][t] + acc[k][t];
          acc[k][t] = 0.0f;
        }
    }
    int last = mine < m ? min(cols, from + 4 * STAGE_QUADS) : from;
    for (int c = from; c < last; c += 4) {
      UNROLL for (int k = 0; k < 2; k++) {
        UNROLL for (int i = 0; i < 4; i++) w[k][i] = open_float(type, raw[k][i]);
        load_floats(type, quants, halves, at[k], c + 4, cols, 4, raw[k]);
      }
      int count = last - c;
      UNROLL for (int t = 0; t < 8; t++) {
        float4 v = stage[(mine + t) * STAGE_QUADS + (c - from) / 4];
        UNROLL for (int k = 0; k < 2; k++)
          acc[k][t] = count >= 4 ? add_quad(w[k], v, 4, acc[k][t]) : add_quad(w[k], v, count, acc[k][t]);
      }
    }
  }
  UNROLL for (int k = 0; k < 2; k++) {
    int row = row0 + 64 * k;
    if (row < rows)
      UNROLL for (int t = 0; t < 8; t++)
        if (mine + t < m) dst[(first + mine + t) * rows + row] = c_floor(total[k][t] + acc[k][t]);
  }
}

#define FLOAT_PRODUCTS(name, type) \
  PRODUCT_KERNEL void product1_##name(FLOAT_PARAMS) { \
    __local float part[PRODUCT_ITEMS], total[16]; \
    narrow_floats(type, 1, FLOAT_ARGS, part, total); \
  } \
  PRODUCT_KERNEL void product8_##name(FLOAT_PARAMS) { \
    __local float part[8 * PRODUCT_ITEMS], total[8 * 16]; \
    narrow_floats(type, 8, FLOAT_ARGS, part, total); \
  } \
  PRODUCT_KERNEL void tile_##name(FLOAT_PARAMS) { \
    __local float4 stage[TILE_TOKENS * STAGE_QUADS]; \
    tile_floats(type, FLOAT_ARGS, stage); \
  }

FLOAT_PRODUCTS(f32, T_F32)
FLOAT_PRODUCTS(f16, T_F16)
FLOAT_PRODUCTS(bf16, T_BF16)
