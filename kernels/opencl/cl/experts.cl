// Experts: each row takes a few, and its work with one of them is a place. Places are in
// tiles of 8, all of one expert, so that its weights are read once for 8 rows; a tile's last
// places may be empty. An entry of tiles is an expert and the number of its tile's places
// that are not; row_of has each place's row, or -1.
#define EXPERT_TILE 8
#define MOST_EXPERTS 1024
#define ROUTE_ITEMS 64

// A work-group chooses a row's experts: those which fewer than `used` others come before.
__kernel __attribute__((reqd_work_group_size(ROUTE_ITEMS, 1, 1)))
void route(__global const float *logits, __global int *taken, __global float *weight, int count, int used, int renormalise,
           float scale, FAULT_PARAMS) {
  __local float v[MOST_EXPERTS], p[MOST_EXPERTS];
  __local int chosen[MOST_EXPERTS];
  __local float lanes[LANES], common[2]; // common: the largest logit, and the sum
  __local int bad[1];
  int l = get_local_id(0), row = get_group_id(0);
  if (l == 0) bad[0] = 0;
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int e = l; e < count; e += ROUTE_ITEMS) {
    v[e] = logits[row * count + e];
    if (!c_finite(v[e])) bad[0] = 1;
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  int refused = bad[0];
  if (refused && l == 0) FAULT(row);
  for (int e = l; e < count; e += ROUTE_ITEMS) {
    int before = 0;
    for (int f = 0; f < count; f++) before += v[f] > v[e] || (v[f] == v[e] && f < e);
    if (refused) before = e;
    chosen[e] = before < used;
    if (before == 0) common[0] = v[e];
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int e = l; e < count; e += ROUTE_ITEMS) p[e] = c_exp(v[e] - common[0]);
  barrier(CLK_LOCAL_MEM_FENCE);
  if (!renormalise && l < LANES) {
    float lane = 0.0f;
    for (int e = l; e < count; e += LANES) lane = lane + p[e];
    lanes[l] = lane;
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  if (l == 0) {
    float sum = 0.0f;
    if (renormalise) {
      for (int e = 0; e < count; e++)
        if (chosen[e]) sum = sum + p[e];
    } else {
      sum = c_tree(lanes);
    }
    common[1] = sum;
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int e = l; e < count; e += ROUTE_ITEMS) {
    if (!chosen[e]) continue;
    int at = 0;
    for (int f = 0; f < e; f++) at += chosen[f];
    taken[row * used + at] = e;
    weight[row * used + at] = refused ? 0.0f : c_floor(MUL(c_div(p[e], common[1]), scale));
  }
}

#define ARRANGE_ITEMS 256

// One work-group lays n choices, `used` a row, out in tiles; place has each choice's.
__kernel __attribute__((reqd_work_group_size(ARRANGE_ITEMS, 1, 1)))
void arrange(__global const int *taken, __global int *tiles, __global int *row_of, __global int *place, int count, int used, int n,
             int most) {
  __local int total[MOST_EXPERTS], first[MOST_EXPERTS], end[1];
  int l = get_local_id(0);
  for (int e = l; e < count; e += ARRANGE_ITEMS) {
    int c = 0;
    for (int i = 0; i < n; i++) c += taken[i] == e;
    total[e] = c;
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  if (l == 0) {
    int tile = 0;
    for (int e = 0; e < count; e++) {
      first[e] = tile;
      tile += (total[e] + EXPERT_TILE - 1) / EXPERT_TILE;
    }
    end[0] = tile;
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int t = end[0] + l; t < most; t += ARRANGE_ITEMS) {
    tiles[2 * t] = tiles[2 * t + 1] = 0;
    for (int k = 0; k < EXPERT_TILE; k++) row_of[EXPERT_TILE * t + k] = -1;
  }
  for (int e = l; e < count; e += ARRANGE_ITEMS) {
    int at = EXPERT_TILE * first[e], last = at + total[e];
    if (total[e] == 0) continue;
    for (int t = first[e]; EXPERT_TILE * t < last; t++) {
      tiles[2 * t] = e;
      tiles[2 * t + 1] = min(EXPERT_TILE, last - EXPERT_TILE * t);
    }
    for (int i = 0; i < n; i++) {
      if (taken[i] != e) continue;
      row_of[at] = i / used;
      place[i] = at;
      at++;
    }
    for (; at % EXPERT_TILE != 0; at++) row_of[at] = -1;
  }
}

// Copies the records of the places' rows; a work-item is a word of a plane's 8, and a number.
__kernel void collect_records(__global const uint *src, __global uint *dst, __global const uint *bad, __global const int *row_of,
                              int blocks, int bits, int n, FAULT_PARAMS) {
  int i = get_global_id(0), j = i & 7, b = (i >> 3) % blocks, at = (i >> 3) / blocks;
  if (i >= n) return;
  int row = row_of[at];
  if (row < 0) return;
  if (b == 0 && j == 0 && bad[row] != 0u) FAULT(row);
  uint from = RECORD_AT(bits, row, blocks, b), to = RECORD_AT(bits, at, blocks, b);
  for (int plane = 0; plane < RECORD_PLANES(bits); plane++)
    dst[to + 64 * plane + 8 * (at & 7) + j] = src[from + 64 * plane + 8 * (row & 7) + j];
  dst[to + RECORD_NUMBER(bits, at, j)] = src[from + RECORD_NUMBER(bits, row, j)];
}

__kernel void collect_floats(__global const float *src, __global float *dst, __global const int *row_of, int stride, int n) {
  int i = get_global_id(0);
  if (i >= n) return;
  int row = row_of[i / stride];
  if (row >= 0) dst[i] = src[row * stride + i % stride];
}

// silu_mul of the places that are not empty.
__kernel void activate(__global float *gate, __global const float *up, __global const int *row_of, int cols, int n) {
  int i = get_global_id(0);
  if (i >= n || row_of[i / cols] < 0) return;
  float g = gate[i], a = c_div(g, 1.0f + c_exp(-g));
  gate[i] = c_floor(MUL(a, up[i]));
}

// Notes the faults of rows with a place that could not be quantised.
__kernel void report_places(__global const uint *bad, __global const int *row_of, int n, FAULT_PARAMS) {
  int i = get_global_id(0);
  if (i < n && row_of[i] >= 0 && bad[i] != 0u) FAULT(row_of[i]);
}

// Adds up what a row's experts made of it.
__kernel void mix_experts(__global float *dst, __global const float *y, __global const int *place, __global const float *weight, int used,
                  int cols, int n) {
  int i = get_global_id(0);
  if (i >= n) return;
  int row = i / cols, k = i % cols;
  float z = 0.0f;
  for (int j = row * used; j < (row + 1) * used; j++) z = c_floor(fma(y[place[j] * cols + k], weight[j], z));
  dst[i] = z;
}

__kernel void add_gated(__global float *x, __global const float *y, __global const float *gate, int cols, int n) {
  int i = get_global_id(0);
  if (i >= n) return;
  float s = c_floor(c_div(1.0f, 1.0f + c_exp(-gate[i / cols])));
  x[i] = c_floor(fma(y[i], s, x[i]));
}

// Products of a tile's places with the matrix of its expert, one of those that lie one below
// the other; rows and n are of one expert and of one tile.
#define EXPERT_PRODUCT(name, type, bits) \
  PRODUCT_KERNEL void expert_##name##_##bits(WEIGHT_PARAMS, __global const uint4 *records, __global float *dst, \
                                             __global const int *tiles, int rows, int blocks, uint group_scales, int log) { \
    __local float part[8 * PRODUCT_ITEMS], total[8 * 16]; \
    int tile = get_group_id(1), m = tiles[2 * tile + 1]; \
    if (m == 0) return; \
    ulong g = (ulong)tiles[2 * tile] * (ulong)(rows / 16); \
    quants += g * (ulong)blocks * block_words(type); \
    halves += g * group_scales / 2; \
    bytes += g * group_scales; \
    narrow_product(type, bits, 8, WEIGHT_ARGS, records, dst, rows, blocks, group_scales, EXPERT_TILE * tile + m, log, part, total); \
  }
#define EXPERT_PRODUCTS(name, type) EXPERT_PRODUCT(name, type, 8) EXPERT_PRODUCT(name, type, 16)

EXPERT_PRODUCTS(q4_0, T_Q4_0)
EXPERT_PRODUCTS(q4_1, T_Q4_1)
EXPERT_PRODUCTS(q5_0, T_Q5_0)
EXPERT_PRODUCTS(q5_1, T_Q5_1)
EXPERT_PRODUCTS(q8_0, T_Q8_0)
EXPERT_PRODUCTS(q2_k, T_Q2_K)
EXPERT_PRODUCTS(q3_k, T_Q3_K)
EXPERT_PRODUCTS(q4_k, T_Q4_K)
EXPERT_PRODUCTS(q5_k, T_Q5_K)
EXPERT_PRODUCTS(q6_k, T_Q6_K)
EXPERT_PRODUCTS(iq4_nl, T_IQ4_NL)
EXPERT_PRODUCTS(iq4_xs, T_IQ4_XS)
EXPERT_PRODUCTS(mxfp4, T_MXFP4)

#define EXPERT_FLOATS(name, type) \
  PRODUCT_KERNEL void expert_##name(WEIGHT_PARAMS, __global const float4 *x, __global float *dst, __global const int *tiles, \
                                    int rows, int cols, uint group_elements, int quads, int log) { \
    __local float part[8 * PRODUCT_ITEMS], total[8 * 16]; \
    int tile = get_group_id(1), m = tiles[2 * tile + 1]; \
    if (m == 0) return; \
    ulong g = (ulong)tiles[2 * tile] * (ulong)(rows / 16) * group_elements; \
    quants += g; \
    halves += g; \
    narrow_floats(type, 8, WEIGHT_ARGS, x, dst, rows, cols, group_elements, quads, EXPERT_TILE * tile + m, log, part, total); \
  }

EXPERT_FLOATS(f32, T_F32)
EXPERT_FLOATS(f16, T_F16)
EXPERT_FLOATS(bf16, T_BF16)
