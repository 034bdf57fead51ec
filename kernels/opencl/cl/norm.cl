// RMSNorm of one run of n elements by one work-group. Tiles of the run go through local
// memory, from which sixteen items carry the contract's lanes; the others load.
#define NORM_ITEMS 256
#define NORM_TILE 2048
#define NORM_EACH (NORM_TILE / NORM_ITEMS)
// How many elements a lane reads before it adds the first: reading takes longer.
#define NORM_AHEAD 16

// Reads an item's part of the tile at `at`, with zeros beyond the run's end.
void norm_fetch(__global const float *src, int at, int n, int t, float *x) {
  UNROLL for (int j = 0; j < NORM_EACH; j++) {
    int i = at + t + j * NORM_ITEMS;
    x[j] = i < n ? src[i] : 0.0f;
  }
}

__kernel __attribute__((reqd_work_group_size(NORM_ITEMS, 1, 1)))
void norm(__global float *dst, __global const float *src, __global const float *w, int n, int runs, float eps, FAULT_PARAMS) {
  __local float tile[NORM_TILE];
  __local float lanes[LANES];
  __local float factor[1];
  int t = get_local_id(0), run = get_group_id(0), first = run * n;
  float lane = 0.0f, next[NORM_EACH];
  norm_fetch(src + first, 0, n, t, next);
  for (int at = 0; at < n; at += NORM_TILE) {
    UNROLL for (int j = 0; j < NORM_EACH; j++) tile[t + j * NORM_ITEMS] = next[j];
    barrier(CLK_LOCAL_MEM_FENCE);
    norm_fetch(src + first, at + NORM_TILE, n, t, next); // while the lanes add
    if (t < LANES) {
      int m = min(NORM_TILE, n - at), i = t;
      for (; i + (NORM_AHEAD - 1) * LANES < m; i += NORM_AHEAD * LANES) {
        float x[NORM_AHEAD];
        UNROLL for (int j = 0; j < NORM_AHEAD; j++) x[j] = tile[i + j * LANES];
        UNROLL for (int j = 0; j < NORM_AHEAD; j++) lane = fma(x[j], x[j], lane);
      }
      for (; i < m; i += LANES) lane = fma(tile[i], tile[i], lane);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
  }
  if (t < LANES) lanes[t] = lane;
  barrier(CLK_LOCAL_MEM_FENCE);
  if (t == 0) {
    float sum = c_tree(lanes), r = 0.0f;
    if (c_finite(sum)) r = c_div(1.0f, c_sqrt(c_div(sum, (float)n) + eps));
    else FAULT(run / runs);
    factor[0] = r;
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  float r = factor[0];
  for (int at = 0; at < n; at += NORM_TILE) {
    float x[NORM_EACH], v[NORM_EACH];
    norm_fetch(src + first, at, n, t, x);
    norm_fetch(w, at, n, t, v);
    UNROLL for (int j = 0; j < NORM_EACH; j++) {
      int i = at + t + j * NORM_ITEMS;
      if (i < n) dst[first + i] = c_floor(MUL(MUL(x[j], r), v[j]));
    }
  }
}
