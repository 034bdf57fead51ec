// KV memory of one layer: for each block and head the keys, then the values, in pieces of 16
// bytes, 8 halves or 4 floats, that an item loads at once. A piece of keys is neighbouring
// dimensions of a position: [dims/piece][16 positions][piece], padded to eight dimensions. A
// piece of values is neighbouring positions of a dimension: [16/piece][dim][piece].
#define BLOCK 16
#define PIECE(single) ((single) ? 4 : 8)

int key_dims(int dim) { return (dim + 7) & ~7; }

// The first element of a head's keys in a block.
ulong kv_place(int block, int heads, int head, int dim) {
  return ((ulong)block * (ulong)heads + (ulong)head) * (ulong)(BLOCK * (key_dims(dim) + dim));
}

// One work-item an element of a row's keys and values. It finds its block through the
// row's position and table.
#define STORE(NAME, TYPE, N, ROUND, REFUSED)                                                                 \
  __kernel void NAME(__global TYPE *kv, __global const float *k, __global const float *v,                    \
                     __global const int *rows, int heads, int dim, int n, FAULT_PARAMS) {                    \
    int i = get_global_id(0);                                                                                \
    if (i >= n) return;                                                                                      \
    int d = i % dim, head = i / dim % heads, row = i / dim / heads;                                          \
    int pos = rows[ROW_INTS * row], table = rows[ROW_INTS * row + 1], slot = pos & (BLOCK - 1);              \
    ulong at = kv_place(rows[table + pos / BLOCK], heads, head, dim);                                        \
    TYPE a = ROUND(k[i]), b = ROUND(v[i]);                                                                   \
    if (REFUSED(a) || REFUSED(b)) FAULT(row);                                                                \
    kv[at + (ulong)((d / N * BLOCK + slot) * N + d % N)] = a;                                                \
    kv[at + (ulong)(BLOCK * key_dims(dim) + (slot / N * dim + d) * N + slot % N)] = b;                       \
  }

#define REFUSED_HALF(h) (((h) & 0x7c00u) == 0x7c00u)
#define REFUSED_FLOAT(x) (!c_finite(x))
STORE(store_f16, ushort, PIECE(0), c_f2h, REFUSED_HALF)
STORE(store_f32, float, PIECE(1), c_floor, REFUSED_FLOAT)
