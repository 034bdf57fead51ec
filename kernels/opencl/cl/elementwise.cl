// Operations of one work-item an element. n counts elements.

__kernel void zero(__global float *x, int n) {
  int i = get_global_id(0);
  if (i < n) x[i] = 0.0f;
}

__kernel void floor_all(__global float *x, int first, int n) {
  int i = get_global_id(0);
  if (i < n) x[first + i] = c_floor(x[first + i]);
}

__kernel void add(__global float *x, __global const float *y, int n) {
  int i = get_global_id(0);
  if (i < n) x[i] = c_floor(x[i] + y[i]);
}

__kernel void add_vector(__global float *x, __global const float *v, int cols, int n) {
  int i = get_global_id(0);
  if (i < n) x[i] = c_floor(x[i] + v[i % cols]);
}

// dst may be gate or up: each item reads before it writes.
__kernel void silu_mul(__global float *dst, __global const float *gate, __global const float *up, int n) {
  int i = get_global_id(0);
  if (i >= n) return;
  float g = gate[i];
  float a = c_div(g, 1.0f + c_exp(-g));
  dst[i] = c_floor(MUL(a, up[i]));
}

__kernel void gather(__global float *dst, __global const float *src, __global const int *rows, int cols, int n) {
  int i = get_global_id(0);
  if (i < n) dst[i] = src[rows[i / cols] * cols + i % cols];
}

__kernel void check_finite(__global const float *x, int cols, int n, FAULT_PARAMS) {
  int i = get_global_id(0);
  if (i < n && !c_finite(x[i])) FAULT(i / cols);
}
