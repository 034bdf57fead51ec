// What a sampler needs of logits: the highest elements of a row, elements by their place,
// and sums of weights. An element is a key that grows with its order: its value's bits in
// the order of values, and below them the columns from the last to the first.
#define TOP_ITEMS 256
#define TOP_TILE 2048

uint top_order(float x) {
  uint u = as_uint(x);
  return u ^ ((uint)((int)u >> 31) | 0x80000000u);
}

// Sorts a tile, highest first (K. E. Batcher, "Sorting networks and their applications",
// 1968), and stores its first width keys.
void top_sort(__local ulong *keys, __global ulong *out, int width, int t) {
  for (int size = 2; size <= TOP_TILE; size *= 2) {
    for (int step = size / 2; step > 0; step /= 2) {
      barrier(CLK_LOCAL_MEM_FENCE);
      for (int j = t; j < TOP_TILE / 2; j += TOP_ITEMS) {
        int i = 2 * j - (j & (step - 1));
        ulong a = keys[i], b = keys[i + step];
        if ((a < b) == ((i & size) == 0)) {
          keys[i] = b;
          keys[i + step] = a;
        }
      }
    }
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  if (t < width) out[t] = keys[t];
}

// The highest width elements of each tile of rows of cols floats.
__kernel __attribute__((reqd_work_group_size(TOP_ITEMS, 1, 1)))
void top_rows(__global const float *x, int row0, int cols, __global ulong *out, int at, int width, int tiles) {
  __local ulong keys[TOP_TILE];
  int t = get_local_id(0), tile = get_group_id(0), row = get_group_id(1);
  for (int j = t; j < TOP_TILE; j += TOP_ITEMS) {
    int col = tile * TOP_TILE + j;
    keys[j] = col < cols ? (ulong)top_order(x[(row0 + row) * cols + col]) << 32 | (uint)~col : 0;
  }
  top_sort(keys, out + at + (row * tiles + tile) * width, width, t);
}

// The same of what tiles before gave: n keys a row.
__kernel __attribute__((reqd_work_group_size(TOP_ITEMS, 1, 1)))
void top_keys(__global const ulong *in, int from, int n, __global ulong *out, int at, int width, int tiles) {
  __local ulong keys[TOP_TILE];
  int t = get_local_id(0), tile = get_group_id(0), row = get_group_id(1);
  for (int j = t; j < TOP_TILE; j += TOP_ITEMS) {
    int i = tile * TOP_TILE + j;
    keys[j] = i < n ? in[from + row * n + i] : 0;
  }
  top_sort(keys, out + at + (row * tiles + tile) * width, width, t);
}

// Where only the highest is asked for (width 1), a group takes its tile's without sorting.
#define BEST_TILE 8192

void best_fold(__local ulong *keys, ulong best, __global ulong *out, int t) {
  keys[t] = best;
  for (int step = TOP_ITEMS / 2; step > 0; step /= 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    if (t < step) keys[t] = max(keys[t], keys[t + step]);
  }
  if (t == 0) out[0] = keys[0];
}

__kernel __attribute__((reqd_work_group_size(TOP_ITEMS, 1, 1)))
void best_rows(__global const float *x, int row0, int cols, __global ulong *out, int at, int width, int tiles) {
  __local ulong keys[TOP_ITEMS];
  int t = get_local_id(0), tile = get_group_id(0), row = get_group_id(1);
  ulong best = 0;
  int end = min(cols, (tile + 1) * BEST_TILE);
  for (int col = tile * BEST_TILE + t; col < end; col += TOP_ITEMS)
    best = max(best, (ulong)top_order(x[(row0 + row) * cols + col]) << 32 | (uint)~col);
  best_fold(keys, best, out + at + row * tiles + tile, t);
}

__kernel __attribute__((reqd_work_group_size(TOP_ITEMS, 1, 1)))
void best_keys(__global const ulong *in, int from, int n, __global ulong *out, int at, int width, int tiles) {
  __local ulong keys[TOP_ITEMS];
  int t = get_local_id(0), tile = get_group_id(0), row = get_group_id(1);
  ulong best = 0;
  int end = min(n, (tile + 1) * BEST_TILE);
  for (int i = tile * BEST_TILE + t; i < end; i += TOP_ITEMS) best = max(best, in[from + row * n + i]);
  best_fold(keys, best, out + at + row * tiles + tile, t);
}

// Elements by their place in the buffer.
__kernel void pick(__global const float *x, __global const int *list, __global float *out, int at, int n) {
  int i = get_global_id(0);
  if (i < n) out[at + i] = x[list[i]];
}

// Doubles as the integers of their bits: devices need not have any. They are normal numbers
// or zeros, and no operation here leaves the normal range.
#define D_SIGN 0x8000000000000000ul
#define D_ABS 0x7ffffffffffffffful
#define D_FRACTION 0x000ffffffffffffful
#define D_ONE 0x0010000000000000ul

ulong d_mantissa(ulong a) { return (a & D_FRACTION) | D_ONE; }
int d_exponent(ulong a) { return (int)(a >> 52) & 2047; }

// The double of a mantissa whose highest bit is bit 63, of exponent e, to the nearest even.
ulong d_round(ulong sign, int e, ulong m) {
  ulong rest = m & 2047, kept = m >> 11;
  if (rest > 1024 || (rest == 1024 && (kept & 1))) kept++;
  return sign | (((ulong)(e - 1) << 52) + kept);
}

ulong d_mul(ulong a, ulong b) {
  ulong sign = (a ^ b) & D_SIGN;
  if ((a & D_ABS) == 0 || (b & D_ABS) == 0) return sign;
  int e = d_exponent(a) + d_exponent(b) - 1022;
  ulong x = d_mantissa(a) << 11, y = d_mantissa(b) << 11, high = mul_hi(x, y), low = x * y;
  if (!(high >> 63)) {
    high = high << 1 | low >> 63;
    low <<= 1;
    e--;
  }
  return d_round(sign, e, high | (low != 0));
}

ulong d_add(ulong a, ulong b) {
  if ((a & D_ABS) < (b & D_ABS)) {
    ulong c = a;
    a = b;
    b = c;
  }
  if ((b & D_ABS) == 0) return a;
  int e = d_exponent(a), d = e - d_exponent(b);
  ulong x = d_mantissa(a) << 10, y = d_mantissa(b) << 10;
  if (d > 62) y = 1;
  else if (d > 0) y = y >> d | ((y << (64 - d)) != 0);
  x = ((a ^ b) & D_SIGN) ? x - y : x + y;
  if (x == 0) return 0;
  int shift = (int)clz(x);
  return d_round(a & D_SIGN, e + 1 - shift, x << shift);
}

// A float's double; zero or normal.
ulong d_float(float x) {
  uint u = as_uint(x), a = u & 0x7fffffffu;
  return a == 0 ? 0 : (ulong)(u & 0x80000000u) << 32 | (((ulong)a << 29) + ((ulong)896 << 52));
}

ulong d_int(int n) {
  if (n == 0) return 0;
  ulong sign = n < 0 ? D_SIGN : 0, m = (ulong)abs(n);
  int shift = (int)clz(m);
  return d_round(sign, 1023 + 63 - shift, m << shift);
}

// The double of a/b, both normal, a not 0: long division of the mantissas.
ulong d_ratio(float a, float b) {
  uint ua = as_uint(a), ub = as_uint(b);
  ulong n = (ua & 0x7fffffu) | 0x800000u, m = (ub & 0x7fffffu) | 0x800000u;
  ulong high = (n << 39) / m, rest = ((n << 39) - high * m) << 15, low = rest / m, q = high << 15 | low;
  int shift = (int)clz(q), e = (int)(ua >> 23 & 255) - (int)(ub >> 23 & 255) + 1023 + 9 - shift;
  return d_round((ulong)((ua ^ ub) & 0x80000000u) << 32, e, q << shift | (rest != low * m));
}

// arith.Weight of kernels.Weighing.Distance, step by step.
#define WEIGHT_STEPS 64

ulong c_weight(float l, float best, float temperature, __global const ulong *powers) {
  float below = l - best;
  if (!(l <= best) || !c_finite(below)) return 0;
  ulong x = 0;
  if (temperature == 0.0f) x = d_add(d_float(l), d_float(best) ^ D_SIGN);
  else if (below != 0.0f) x = temperature == 1.0f ? d_float(below) : d_ratio(below, temperature);
  if ((x & D_ABS) > 0x403b000000000000ul) return 0; // 27
  ulong v = d_add(d_mul(x, 0x40571547652b82feul), 0xbfe0000000000000ul); // x * 64/ln 2 - 1/2
  int e = d_exponent(v) - 1023, n = e < 0 ? 0 : -(int)(d_mantissa(v) >> (52 - e));
  ulong r = d_add(x, d_mul(d_int(n), 0x3f862e42fefa39eful) ^ D_SIGN); // ln 2 / 64
  ulong p = d_add(d_mul(r, 0x3fa5555555555555ul), 0x3fc5555555555555ul); // 1/24, 1/6
  p = d_add(d_mul(r, p), 0x3fe0000000000000ul);
  p = d_add(d_mul(r, p), 0x3ff0000000000000ul);
  p = d_add(d_mul(r, p), 0x3ff0000000000000ul);
  p = d_mul(powers[n & (WEIGHT_STEPS - 1)], p);
  // To the nearest even integer of p * 2^(40 + n/64), which is at least 2.
  ulong m = d_mantissa(p);
  int shift = 52 - (d_exponent(p) - 1023 + 40 + (n >> 6));
  ulong kept = m >> shift, rest = m & (((ulong)1 << shift) - 1), half_ = (ulong)1 << (shift - 1);
  return kept + (rest > half_ || (rest == half_ && (kept & 1)) ? 1 : 0);
}

// The sum of weights of each WEIGH_BLOCK columns. The list has a row, the best's bits and
// the temperature's for each of y groups.
#define WEIGH_ITEMS 256
#define WEIGH_BLOCK 1024

__kernel __attribute__((reqd_work_group_size(WEIGH_ITEMS, 1, 1)))
void weigh(__global const float *x, __global const int *list, int first, __global const ulong *powers, int cols,
           __global ulong *out, int at, int blocks) {
  __local ulong sums[WEIGH_ITEMS];
  int t = get_local_id(0), block = get_group_id(0), w = get_group_id(1);
  int row = list[first + 3 * w];
  float best = as_float(list[first + 3 * w + 1]), temperature = as_float(list[first + 3 * w + 2]);
  ulong sum = 0;
  int end = min(cols, (block + 1) * WEIGH_BLOCK);
  for (int i = block * WEIGH_BLOCK + t; i < end; i += WEIGH_ITEMS) sum += c_weight(x[row * cols + i], best, temperature, powers);
  sums[t] = sum;
  for (int step = WEIGH_ITEMS / 2; step > 0; step /= 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    if (t < step) sums[t] += sums[t + step];
  }
  if (t == 0) out[at + w * blocks + block] = sums[0];
}
