// Attention in two steps. attend_*: a work-group of 256 items takes one chunk of 256
// positions for a tile of up to 4*QUADS queries that share a KV head (heads of a row, and
// neighbouring rows of a sequence) and makes each query's partial (m, s, o). attend_fold:
// the partials of a query fold in the contract's order.
//
// units are ints of 4: a tile's first row, its rows, a chunk, and the slot of its partials.
// A slot holds tile_rows rows of heads heads of 2+dim floats: m, s, o.
#define CHUNK 256
#define GROUP_CHUNKS 16
#define QUERY_DIMS 128
#define NOTHING (-3.402823466e+38f)
#define UNIT_INTS 4
// How many pieces an item has on their way before it uses the first.
#define AHEAD 4

// The element e of a piece.
float piece_float(uint4 w, int e, int single) {
  int i = single ? e : e / 2;
  uint u = i == 0 ? w.x : i == 1 ? w.y : i == 2 ? w.z : w.w;
  return single ? as_float(u) : half_float((ushort)(e & 1 ? u >> 16 : u & 0xffffu));
}

// A value may be anything to a query that does not see its position: it is left out there.
float add_value(float e, float v, float o, int pos, int lo, int hi) { return pos >= lo && pos < hi ? fma(e, v, o) : o; }

float4 add_values(float4 e, float v, float4 o, int pos, __local const int *lo, __local const int *hi) {
  return (float4)(add_value(e.x, v, o.x, pos, lo[0], hi[0]), add_value(e.y, v, o.y, pos, lo[1], hi[1]),
                  add_value(e.z, v, o.z, pos, lo[2], hi[2]), add_value(e.w, v, o.w, pos, lo[3], hi[3]));
}

// queries, scores, lanes, most, lo, hi and blocks are the group's local memory; quads and single
// are constants of each kernel.
void attend(__global float *parts, __global const float *q, __global const void *kv, __global const int *rows,
            __global const int *units, int unit0, int heads, int kv_heads, int dim, int tile_rows, int head0, int pass_heads,
            int window, float scale, float cap, FAULT_PARAMS, __local float4 *queries, __local float4 *scores,
            __local float *lanes, __local float *most, __local int *lo, __local int *hi, __local int *blocks, int quads, int single) {
  int t = get_local_id(0), kv_head = head0 + (int)get_group_id(1), shared = heads / kv_heads, n = 4 * quads;
  __global const int *unit = units + UNIT_INTS * (unit0 + (int)get_group_id(0));
  int first = unit[0], tile = unit[1] * shared, start = unit[2] * CHUNK, g0 = (int)get_group_id(2) * n;
  int table = rows[ROW_INTS * first + 1];
  __local float *score = (__local float *)scores;
  __local float *query = (__local float *)queries;
#define SCORE(g, p) score[(((g) >> 2) * CHUNK + (p)) * 4 + ((g) & 3)]

  // The positions of the chunk that each query sees, and that any of them does.
  if (t < n) {
    int a = 0, b = 0;
    if (g0 + t < tile) {
      int pos = rows[ROW_INTS * (first + (g0 + t) / shared)];
      b = min(pos + 1, start + CHUNK);
      a = max(window > 0 ? max(0, pos - window + 1) : 0, start);
    }
    lo[t] = a;
    hi[t] = max(a, b);
  }
  // The chunk's KV blocks, as far as a query sees them: the tile's first row sees the first,
  // its last row the last. The others are block 0: what it holds is loaded and not used.
  if (t < CHUNK / BLOCK) {
    int least = window > 0 ? rows[ROW_INTS * first] - window + 1 : 0, last = rows[ROW_INTS * (first + unit[1] - 1)];
    int p = start + t * BLOCK;
    blocks[t] = p <= last && p + BLOCK > least ? rows[table + p / BLOCK] : 0;
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  int from = start + CHUNK, to = start;
  for (int g = 0; g < n; g++)
    if (lo[g] < hi[g]) {
      from = min(from, lo[g]);
      to = max(to, hi[g]);
    }

  // Scores: an item is a position.
  int pos = start + t, inside = pos >= from && pos < to;
  __global const uint4 *pieces = (__global const uint4 *)kv;
  ulong key = kv_place(blocks[t / BLOCK], kv_heads, kv_head, dim) / PIECE(single) + (ulong)(t & (BLOCK - 1));
  float4 acc[4];
  for (int k = 0; k < quads; k++) acc[k] = (float4)(0.0f);
  for (int d0 = 0; d0 < dim; d0 += QUERY_DIMS) {
    int m = min(QUERY_DIMS, dim - d0);
    for (int i = t; i < n * QUERY_DIMS; i += CHUNK) {
      int d = i % QUERY_DIMS, g = i / QUERY_DIMS, at = g0 + g;
      float x = 0.0f;
      if (d < m && at < tile)
        x = q[((first + at / shared) * heads + kv_head * shared + at % shared) * dim + d0 + d];
      query[d * n + g] = x;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (inside) {
      // While some keys are used the next are on their way.
#define LOAD_KEYS(i) pieces[key + (ulong)((d0 / PIECE(single) + (i)) * BLOCK)]
#define USE_KEYS(w, i, limit)                                                                                       \
  UNROLL for (int e = 0; e < PIECE(single); e++) {                                                                  \
    float x = piece_float(w, e, single);                                                                            \
    if (e < (limit))                                                                                                \
      for (int k = 0; k < quads; k++) acc[k] = fma(queries[((i) * PIECE(single) + e) * quads + k], (float4)(x), acc[k]); \
  }
      int i = 0, whole = m / PIECE(single);
      uint4 next[AHEAD], now[AHEAD];
      if (whole >= AHEAD) UNROLL for (int j = 0; j < AHEAD; j++) next[j] = LOAD_KEYS(j);
      for (; i + AHEAD <= whole; i += AHEAD) {
        UNROLL for (int j = 0; j < AHEAD; j++) now[j] = next[j];
        if (i + 2 * AHEAD <= whole) UNROLL for (int j = 0; j < AHEAD; j++) next[j] = LOAD_KEYS(i + AHEAD + j);
        UNROLL for (int j = 0; j < AHEAD; j++) USE_KEYS(now[j], i + j, PIECE(single))
      }
      for (; i * PIECE(single) < m; i++) {
        uint4 w = LOAD_KEYS(i);
        USE_KEYS(w, i, m - i * PIECE(single))
      }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
  }
  for (int k = 0; k < quads; k++) scores[k * CHUNK + t] = acc[k];
  for (int g = 0; g < n; g++) {
    float s = NOTHING;
    if (pos >= lo[g] && pos < hi[g]) {
      s = c_floor(MUL(SCORE(g, t), scale));
      if (!c_finite(s)) FAULT(first + (g0 + g) / shared);
      if (cap != 0.0f) s = c_floor(MUL(cap, c_tanh(c_floor(c_div(s, cap)))));
    }
    SCORE(g, t) = s;
  }
  barrier(CLK_LOCAL_MEM_FENCE);

  // The largest score of each query: sixteen items each, then one.
  if (t < n * LANES) {
    int g = t / LANES, lane = t % LANES;
    float m = NOTHING;
    for (int p = lane; p < CHUNK; p += LANES) m = SCORE(g, p) > m ? SCORE(g, p) : m;
    lanes[t] = m;
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  if (t < n) {
    float m = NOTHING;
    for (int j = 0; j < LANES; j++) m = lanes[t * LANES + j] > m ? lanes[t * LANES + j] : m;
    most[t] = m;
  }
  barrier(CLK_LOCAL_MEM_FENCE);

  // Exponentials, and their sum in the contract's lanes.
  for (int g = 0; g < n; g++) {
    float e = 0.0f;
    if (pos >= lo[g] && pos < hi[g]) e = c_exp(SCORE(g, t) - most[g]);
    SCORE(g, t) = e;
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  if (t < n * LANES) {
    int g = t / LANES;
    float sum = 0.0f;
    for (int p = t % LANES; p < CHUNK; p += LANES) sum = sum + SCORE(g, p);
    lanes[t] = sum;
  }
  barrier(CLK_LOCAL_MEM_FENCE);
#define PART(g) ((((unit[3] * tile_rows + (g0 + (g)) / shared) * pass_heads) + (int)get_group_id(1) * shared + (g0 + (g)) % shared) * (dim + 2))
  if (t < n && g0 + t < tile) {
    parts[PART(t)] = most[t];
    parts[PART(t) + 1] = c_tree(lanes + t * LANES);
  }

  // Weighted values: an item is a dimension of four or eight queries.
  int pair = quads > 1, sets = pair ? quads / 2 : 1;
  for (int i = t; i < sets * dim; i += CHUNK) {
    int d = i % dim, k = i / dim * (pair ? 2 : 1);
    float4 o = (float4)(0.0f), o2 = (float4)(0.0f);
    // Some values are used while the next are on their way. Positions that no query sees
    // have weight +0 and count as 0: they add nothing.
#define LOAD_VALUES(step)                                                                                             \
  UNROLL for (int j = 0; j < AHEAD; j++) {                                                                            \
    int p = ((step) * AHEAD + j) * PIECE(single);                                                                     \
    next[j] = pieces[kv_place(blocks[p / BLOCK], kv_heads, kv_head, dim) / PIECE(single) +                            \
                     (ulong)(BLOCK * key_dims(dim) / PIECE(single) + p % BLOCK / PIECE(single) * dim + d)];           \
  }
    uint4 next[AHEAD], now[AHEAD];
    int step = (from - start) / (AHEAD * PIECE(single)), last = (to - 1 - start) / (AHEAD * PIECE(single));
    if (from < to) LOAD_VALUES(step)
    for (; from < to && step <= last; step++) {
      UNROLL for (int j = 0; j < AHEAD; j++) now[j] = next[j];
      if (step < last) LOAD_VALUES(step + 1)
      UNROLL for (int j = 0; j < AHEAD; j++) {
        float v[8];
        uint most_bits = 0;
        int p = (step * AHEAD + j) * PIECE(single);
        UNROLL for (int e = 0; e < PIECE(single); e++) {
          uint seen = (uint)(start + p + e - from) < (uint)(to - from) ? 0xffffffffu : 0u;
          v[e] = as_float(as_uint(piece_float(now[j], e, single)) & seen);
          most_bits = max(most_bits, as_uint(v[e]) & 0x7fffffffu);
        }
        if (most_bits < 0x7f800000u) {
          UNROLL for (int e = 0; e < PIECE(single); e++) {
            o = fma(scores[k * CHUNK + p + e], (float4)(v[e]), o);
            if (pair) o2 = fma(scores[(k + 1) * CHUNK + p + e], (float4)(v[e]), o2);
          }
        } else { // some value is no number: only who sees it meets it
          UNROLL for (int e = 0; e < PIECE(single); e++) {
            int at = start + p + e;
            o = add_values(scores[k * CHUNK + p + e], v[e], o, at, lo + 4 * k, hi + 4 * k);
            if (pair) o2 = add_values(scores[(k + 1) * CHUNK + p + e], v[e], o2, at, lo + 4 * k + 4, hi + 4 * k + 4);
          }
        }
      }
    }
    int g = 4 * k;
    if (g0 + g < tile) parts[PART(g) + 2 + d] = c_floor(o.x);
    if (g0 + g + 1 < tile) parts[PART(g + 1) + 2 + d] = c_floor(o.y);
    if (g0 + g + 2 < tile) parts[PART(g + 2) + 2 + d] = c_floor(o.z);
    if (g0 + g + 3 < tile) parts[PART(g + 3) + 2 + d] = c_floor(o.w);
    if (pair) {
      if (g0 + g + 4 < tile) parts[PART(g + 4) + 2 + d] = c_floor(o2.x);
      if (g0 + g + 5 < tile) parts[PART(g + 5) + 2 + d] = c_floor(o2.y);
      if (g0 + g + 6 < tile) parts[PART(g + 6) + 2 + d] = c_floor(o2.z);
      if (g0 + g + 7 < tile) parts[PART(g + 7) + 2 + d] = c_floor(o2.w);
    }
  }
}

#define ATTEND(NAME, TYPE, QUADS, SINGLE)                                                                           \
  __kernel __attribute__((reqd_work_group_size(CHUNK, 1, 1)))                                                       \
  void NAME(__global float *parts, __global const float *q, __global const TYPE *kv, __global const int *rows,      \
            __global const int *units, int unit0, int heads, int kv_heads, int dim, int tile_rows, int head0, int pass_heads,  \
            int window, float scale, float cap, FAULT_PARAMS) {                                                     \
    __local float4 queries[QUADS * QUERY_DIMS];                                                                     \
    __local float4 scores[QUADS * CHUNK];                                                                           \
    __local float lanes[4 * QUADS * LANES];                                                                         \
    __local float most[4 * QUADS];                                                                                  \
    __local int lo[4 * QUADS];                                                                                      \
    __local int hi[4 * QUADS];                                                                                      \
    __local int blocks[CHUNK / BLOCK];                                                                              \
    attend(parts, q, kv, rows, units, unit0, heads, kv_heads, dim, tile_rows, head0, pass_heads, window, scale, cap,       \
           faults, fault0, fault_word, queries, scores, lanes, most, lo, hi, blocks, QUADS, SINGLE);                \
  }
ATTEND(attend_f16_4, ushort, 1, 0)
ATTEND(attend_f16_16, ushort, 4, 0)
ATTEND(attend_f32_4, float, 1, 1)
ATTEND(attend_f32_16, float, 4, 1)

// One work-item a dimension of a query folds the partials of its chunks: within groups of
// 16 chunks from left to right, then the groups. tiles holds two ints for each batch row:
// the slot of its tile's chunk 0, were there one, and the tile's first row.
#define FOLD_ITEMS 64
__kernel __attribute__((reqd_work_group_size(FOLD_ITEMS, 1, 1)))
void attend_fold(__global float *dst, __global const float *parts, __global const int *rows, __global const int *tiles,
                 int tiles0, int row0, int heads, int first_head, int pass_heads, int dim, int tile_rows, int window) {
  int d = get_global_id(0), head = get_group_id(1), row = row0 + (int)get_group_id(2);
  if (d >= dim) return;
  int pos = rows[ROW_INTS * row], slot0 = tiles[tiles0 + 2 * row], in_tile = row - tiles[tiles0 + 2 * row + 1];
  int first = (window > 0 ? max(0, pos - window + 1) : 0) / CHUNK, last = pos / CHUNK;
  float M = 0.0f, S = 0.0f, O = 0.0f, m = 0.0f, s = 0.0f, o = 0.0f;
  int groups = 0, chunks = 0, stride = tile_rows * pass_heads * (dim + 2);
  __global const float *p = parts + (((slot0 + first) * tile_rows + in_tile) * pass_heads + head) * (dim + 2);
  float next_m = p[0], next_s = p[1], next_o = p[2 + d];
  for (int c = first; c <= last + 1; c++) {
    if (chunks > 0 && (c > last || c % GROUP_CHUNKS == 0)) { // the group is whole
      if (groups == 0) {
        M = m;
        S = s;
        O = o;
      } else {
        float top = max(M, m), a = c_exp(M - top), b = c_exp(m - top);
        S = fma(s, b, MUL(S, a));
        O = c_floor(fma(o, b, MUL(O, a)));
        M = top;
      }
      groups++;
      chunks = 0;
    }
    if (c > last) break;
    float pm = next_m, ps = next_s, po = next_o;
    if (c < last) { // on their way while these are used
      p += stride;
      next_m = p[0];
      next_s = p[1];
      next_o = p[2 + d];
    }
    if (chunks == 0) {
      m = pm;
      s = ps;
      o = po;
    } else {
      float top = max(m, pm), a = c_exp(m - top), b = c_exp(pm - top);
      s = fma(ps, b, MUL(s, a));
      o = c_floor(fma(po, b, MUL(o, a)));
      m = top;
    }
    chunks++;
  }
  dst[(row * heads + first_head + head) * dim + d] = c_floor(c_div(O, S));
}
