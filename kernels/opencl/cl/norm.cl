// RMSNorm of one run of n elements by one work-group. Tiles of the run go through local
// memory, from which sixteen items carry the contract's lanes; the others load.
#define NORM_ITEMS 256
#define NORM_TILE 1024
__kernel __attribute__((reqd_work_group_size(NORM_ITEMS, 1, 1)))
void norm(__global float *dst, __global const float *src, __global const float *w, int n, int runs, float eps, FAULT_PARAMS) {
  __local float tile[NORM_TILE];
  __local float lanes[LANES];
  __local float factor[1];
  int t = get_local_id(0), run = get_group_id(0), first = run * n;
  float lane = 0.0f;
  for (int at = 0; at < n; at += NORM_TILE) {
    int m = min(NORM_TILE, n - at);
    for (int i = t; i < m; i += NORM_ITEMS) tile[i] = src[first + at + i];
    barrier(CLK_LOCAL_MEM_FENCE);
    if (t < LANES)
      for (int i = t; i < m; i += LANES) lane = fma(tile[i], tile[i], lane);
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
  for (int i = t; i < n; i += NORM_ITEMS)
    dst[first + i] = c_floor(MUL(MUL(src[first + i], r), w[i]));
}
