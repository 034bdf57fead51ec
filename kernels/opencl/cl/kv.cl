// KV memory of one layer: for each block and head the keys, [dim][16 positions], then the
// values, [16 positions][dim].
#define BLOCK 16

// The first element of a head's keys in a block.
ulong kv_place(int block, int heads, int head, int dim) {
  return ((ulong)block * (ulong)heads + (ulong)head) * (ulong)(2 * BLOCK * dim);
}

// One work-item an element of a row's keys and values. It finds its block through the
// row's position and table.
#define STORE(NAME, TYPE, ROUND, REFUSED) \
  __kernel void NAME(__global TYPE *kv, __global const float *k, __global const float *v, \
                     __global const int *rows, int heads, int dim, int n, FAULT_PARAMS) { \
    int i = get_global_id(0); \
    if (i >= n) return; \
    int d = i % dim, head = i / dim % heads, row = i / dim / heads; \
    int pos = rows[ROW_INTS * row], table = rows[ROW_INTS * row + 1], slot = pos & (BLOCK - 1); \
    ulong at = kv_place(rows[table + pos / BLOCK], heads, head, dim); \
    TYPE a = ROUND(k[i]), b = ROUND(v[i]); \
    if (REFUSED(a) || REFUSED(b)) FAULT(row); \
    kv[at + (ulong)(d * BLOCK + slot)] = a; \
    kv[at + (ulong)(BLOCK * dim + slot * dim + d)] = b; \
  }

#define REFUSED_HALF(h) (((h) & 0x7c00u) == 0x7c00u)
#define REFUSED_FLOAT(x) (!c_finite(x))
STORE(store_f16, ushort, c_f2h, REFUSED_HALF)
STORE(store_f32, float, c_floor, REFUSED_FLOAT)
