// Activations of quantised weights: a record for each 8 tokens and 32 elements, in words:
//
//	  0   q, four elements a word, of each token words 0 4 1 5 2 6 3 7 of its block: 64 words
//	 64   at 16 bits 64 words of the high plane; the first are of the low one
//	then for each token d; s of 32 elements; s of the first and of the last 16; the sums of q
//	      over 32 elements, over the first and over the last 16; 8 words unused
//
// so 128 words at 8 bits and 192 at 16. The records of 8 tokens lie in a row. The order of
// words is that of the operands of tensor.cl.
#define RECORD_PLANES(bits) ((bits) / 8)
#define RECORD_WORDS(bits) (64 * RECORD_PLANES(bits) + 64)

// Where a token's words and numbers are, of the record of block b. number counts the kinds.
#define RECORD_AT(bits, token, blocks, b) (((uint)((token) >> 3) * (blocks) + (b)) * RECORD_WORDS(bits))
#define RECORD_NUMBER(bits, token, number) (64 * RECORD_PLANES(bits) + 8 * (number) + ((token) & 7))

#define ACTS_ITEMS 64

// A work-group quantises 256 columns of a row, a work-item 4 of them. A row with a value that
// is not finite is marked in bad; the marks of the time before, of `all` rows, are cleared.
__kernel __attribute__((reqd_work_group_size(ACTS_ITEMS, 1, 1)))
void quantise(__global const float *x, __global uint *records, __global uint *bad, __global uint *before, int all, int cols, int top) {
  __local uint largest[ACTS_ITEMS];
  __local int sums[ACTS_ITEMS];
  int l = get_local_id(0), seg = get_group_id(0), row = get_group_id(1), blocks = cols / 32;
  if (seg == 0)
    for (int i = row + (int)get_num_groups(1) * l; i < all; i += (int)get_num_groups(1) * ACTS_ITEMS) before[i] = 0u;
  int b = seg * SEGMENT_BLOCKS + (l >> 3), j = l & 7, first = l & ~7;
  float v[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  uint m = 0;
  if (b < blocks) {
    for (int i = 0; i < 4; i++) {
      v[i] = x[row * cols + b * 32 + 4 * j + i];
      m = max(m, as_uint(v[i]) & 0x7fffffffu);
    }
  }
  largest[l] = m;
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int i = 0; i < 8; i++) m = max(m, largest[first + i]);
  float d = 0.0f, id = 0.0f, n = (float)top;
  if (m >= 0x2b800000u && m < 0x7f800000u) {
    id = c_div(n, as_float(m));
    d = c_div(as_float(m), n);
  } else {
    v[0] = v[1] = v[2] = v[3] = 0.0f;
    if (m >= 0x7f800000u) bad[row] = 1u;
  }
  int sum = 0;
  uint low = 0, high = 0;
  for (int i = 0; i < 4; i++) {
    int q = c_round(MUL(v[i], id));
    sum += q;
    int ql = top == 127 ? q : ((q + 64) & 127) - 64;
    low |= ((uint)ql & 255u) << (8 * i);
    high |= ((uint)((q - ql) / 128) & 255u) << (8 * i);
  }
  sums[l] = sum;
  barrier(CLK_LOCAL_MEM_FENCE);
  if (b >= blocks) return;
  int bits = top == 127 ? 8 : 16;
  uint at = RECORD_AT(bits, row, blocks, b), word = at + 8 * (row & 7) + 2 * (j & 3) + (j >> 2);
  records[word] = low;
  if (bits == 16) records[word + 64] = high;
  int s0 = sums[first] + sums[first + 1] + sums[first + 2] + sums[first + 3];
  int s1 = sums[first + 4] + sums[first + 5] + sums[first + 6] + sums[first + 7];
  uint number = 0u;
  switch (j) {
  case 0: number = as_uint(d); break;
  case 1: number = as_uint(MUL(d, (float)(s0 + s1))); break;
  case 2: number = as_uint(MUL(d, (float)s0)); break;
  case 3: number = as_uint(MUL(d, (float)s1)); break;
  case 4: number = (uint)(s0 + s1); break;
  case 5: number = (uint)s0; break;
  case 6: number = (uint)s1; break;
  }
  records[at + RECORD_NUMBER(bits, row, j)] = number;
}

// Copies rows for float weights; a row's copy is padded with zeros to whole quads.
__kernel void copy_floats(__global float *dst, __global const float *x, int cols, int stride, int n) {
  int i = get_global_id(0);
  if (i >= n) return;
  int row = i / stride, k = i % stride;
  dst[i] = k < cols ? x[row * cols + k] : 0.0f;
}
