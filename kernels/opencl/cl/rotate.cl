// Rotary embedding: one work-item a pair of elements. rows holds each batch row's position
// (and its block table, unused here). halves: elements i and i+dims/2 rotate together, else
// 2i and 2i+1.
__kernel void rotate_heads(__global float *x, __global const float *cosines, __global const float *sines,
                           __global const int *rows, int cols, int head_dim, int dims, int halves, int n) {
  int i = get_global_id(0);
  if (i >= n) return;
  int pairs = dims / 2, heads = cols / head_dim;
  int j = i % pairs, head = i / pairs % heads, row = i / pairs / heads;
  int at = rows[ROW_INTS * row] * pairs + j;
  float c = cosines[at], s = sines[at];
  int base = row * cols + head * head_dim;
  int i0 = base + (halves ? j : 2 * j), i1 = base + (halves ? j + pairs : 2 * j + 1);
  float x0 = x[i0], x1 = x[i1];
  x[i0] = c_floor(MUL(x0, c) - MUL(x1, s));
  x[i1] = c_floor(MUL(x0, s) + MUL(x1, c));
}
