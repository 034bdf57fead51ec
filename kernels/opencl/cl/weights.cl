// Packed weights (package quant, layout.go): how a work-item reads its row.
//
// The functions here take the type as an argument that is constant wherever products call
// them: once they are inlined, what is left of a switch is one case.
#define INLINE __attribute__((always_inline))

#define T_F32 0
#define T_F16 1
#define T_Q4_0 2
#define T_Q4_1 3
#define T_Q5_0 6
#define T_Q5_1 7
#define T_Q8_0 8
#define T_Q2_K 10
#define T_Q3_K 11
#define T_Q4_K 12
#define T_Q5_K 13
#define T_Q6_K 14
#define T_IQ4_NL 20
#define T_IQ4_XS 23
#define T_BF16 30
#define T_MXFP4 39

// A matrix's three views: words of the quants; the scales as halves and as bytes.
#define WEIGHT_PARAMS __global const uint *quants, __global const ushort *halves, __global const uchar *bytes
#define WEIGHT_ARGS quants, halves, bytes

// Columns that are summed in one chain, and the blocks of 32 among them.
#define SEGMENT 256
#define SEGMENT_BLOCKS 8

// Words of a block of 32 columns of 16 rows.
INLINE uint block_words(int type) {
  switch (type) {
  case T_Q2_K: return 32u;
  case T_Q3_K: return 48u;
  case T_Q5_0: case T_Q5_1: case T_Q5_K: return 80u;
  case T_Q6_K: return 96u;
  case T_Q8_0: return 128u;
  default: return 64u;
  }
}

// Bytes of 16 rows' scales of 256 columns.
INLINE uint segment_scales(int type) {
  switch (type) {
  case T_Q4_1: case T_Q5_1: return 512u;
  case T_Q4_K: case T_Q5_K: case T_Q2_K: return 320u;
  case T_Q6_K: case T_Q3_K: return 288u;
  case T_IQ4_XS: return 160u;
  case T_MXFP4: return 128u;
  default: return 256u;
  }
}

// Whether each 16 columns have a scale.
INLINE int has_halves(int type) { return type == T_Q6_K || type == T_Q3_K || type == T_Q2_K; }

INLINE int has_minimum(int type) {
  return type == T_Q4_1 || type == T_Q5_1 || type == T_Q4_K || type == T_Q5_K || type == T_Q2_K;
}

// What is to be subtracted from an unpacked integer. Products subtract it from the sum, by
// the sum of the activations.
INLINE int weight_offset(int type) {
  switch (type) {
  case T_Q4_0: return 8;
  case T_Q5_0: return 16;
  case T_Q6_K: return 32;
  case T_Q3_K: return 4;
  default: return 0;
  }
}

#if defined(__NVPTX__)
// The codebooks, four entries a word.
#define BOOK_IQ4 0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u
#define BOOK_MX 0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu

uint byte_perm(uint a, uint b, uint selector) {
  uint r;
  __asm__("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(selector));
  return r;
}
// Codebook values of the four nibbles of the lower half of n, from the lowest on.
uint book_quad(uint b0, uint b1, uint b2, uint b3, uint n) {
  uint low = byte_perm(b0, b1, n & 0x7777u), high = byte_perm(b2, b3, n & 0x7777u);
  return byte_perm(low, high, 0x3210u | ((n & 0x8888u) >> 1));
}
#else
__constant char book_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
__constant char book_mx[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
// Codebook values of four bytes below 16.
uint book_bytes(__constant const char *book, uint n) {
  return as_uint((char4)(book[n & 15u], book[(n >> 8) & 15u], book[(n >> 16) & 15u], book[(n >> 24) & 15u]));
}
#endif

// Turns a word of nibbles into integers: low ones are 4 columns, high ones the columns 16
// further on.
INLINE void open_nibbles(int type, uint v, uint *low, uint *high) {
  if (type == T_IQ4_NL || type == T_IQ4_XS || type == T_MXFP4) {
#if defined(__NVPTX__)
    uint a, b;
    if (type == T_MXFP4) {
      a = book_quad(BOOK_MX, v);
      b = book_quad(BOOK_MX, v >> 16);
    } else {
      a = book_quad(BOOK_IQ4, v);
      b = book_quad(BOOK_IQ4, v >> 16);
    }
    *low = byte_perm(a, b, 0x6420u);
    *high = byte_perm(a, b, 0x7531u);
#else
    __constant const char *book = type == T_MXFP4 ? book_mx : book_iq4;
    *low = book_bytes(book, v & 0x0f0f0f0fu);
    *high = book_bytes(book, (v >> 4) & 0x0f0f0f0fu);
#endif
    return;
  }
  *low = v & 0x0f0f0f0fu;
  *high = (v >> 4) & 0x0f0f0f0fu;
}

// Reading is apart from opening, so that what is to be used next is on its way meanwhile. A
// row's block is up to 8 words, one of each vector; four of its columns and the four 16
// further on are in up to three of them. pair_vector gives the i-th for j below 4, or -1.
INLINE int pair_vector(int type, int i, int j) {
  switch (type) {
  case T_Q8_0: return i == 0 ? j : i == 1 ? 4 + j : -1;
  case T_Q2_K: return i < 2 ? i : -1;
  case T_Q3_K: return i;
  case T_Q5_0: case T_Q5_1: case T_Q5_K: return i == 0 ? j : i == 1 ? 4 : -1;
  case T_Q6_K: return i == 0 ? j : 3 + i;
  default: return i == 0 ? j : -1;
  }
}

// Makes words j and 4+j of a block of those three: four signed bytes each, before their
// offset.
INLINE void open_pair(int type, const uint *v, int j, uint *low, uint *high) {
  uint a = 0, b = 0;
  if (type == T_Q8_0) {
    *low = v[0] ^ 0x80808080u;
    *high = v[1] ^ 0x80808080u;
    return;
  }
  if (type == T_Q2_K || type == T_Q3_K) {
    a = (v[0] >> (2 * j)) & 0x03030303u;
    b = (v[1] >> (2 * j)) & 0x03030303u;
    if (type == T_Q3_K) {
      a |= ((v[2] >> j) & 0x01010101u) << 2;
      b |= ((v[2] >> (4 + j)) & 0x01010101u) << 2;
    }
    *low = a;
    *high = b;
    return;
  }
  open_nibbles(type, v[0], &a, &b);
  if (type == T_Q5_0 || type == T_Q5_1 || type == T_Q5_K) {
    a |= ((v[1] >> j) & 0x01010101u) << 4;
    b |= ((v[1] >> (4 + j)) & 0x01010101u) << 4;
  }
  if (type == T_Q6_K) {
    a |= ((v[1] >> (2 * j)) & 0x03030303u) << 4;
    b |= ((v[2] >> (2 * j)) & 0x03030303u) << 4;
  }
  *low = a;
  *high = b;
}

// Reads a row's words of a block. at is the word of the block's first vector and the row.
INLINE void load_block(int type, __global const uint *quants, uint at, uint *raw) {
  UNROLL for (int i = 0; i < 8; i++)
    if (16u * i < block_words(type)) raw[i] = quants[at + 16u * i];
}

// Makes the 8 words of 32 columns of it.
INLINE void open_block(int type, const uint *raw, uint *w) {
  UNROLL for (int j = 0; j < 4; j++) {
    uint v[3] = {0u, 0u, 0u}, low, high;
    UNROLL for (int i = 0; i < 3; i++)
      if (pair_vector(type, i, j) >= 0) v[i] = raw[pair_vector(type, i, j)];
    open_pair(type, v, j, &low, &high);
    w[j] = low;
    w[4 + j] = high;
  }
}

// 2^(e-128), +0 below 2^-24. Other types' scales are multiples of that.
float mx_scale(uint e) { return e < 104u ? 0.0f : as_float((e - 1u) << 23); }

// The factors of a segment's scales: d, and dmin where the type has one. at is the byte of
// the segment's scales of 16 rows, r the row among them.
INLINE void segment_factors(int type, __global const ushort *halves, uint at, uint r, float *d, float *dmin) {
  *d = *dmin = 0.0f;
  if (type == T_Q4_K || type == T_Q5_K || type == T_Q2_K) *dmin = LOAD_HALF(halves, (at >> 1) + 16u + r);
  if (type == T_Q4_K || type == T_Q5_K || type == T_Q2_K || type == T_Q6_K || type == T_Q3_K || type == T_IQ4_XS)
    *d = LOAD_HALF(halves, (at >> 1) + r);
}

// Reads the scales of block b (0 to 7) of a segment: what the block itself has of them.
INLINE void load_scales(int type, __global const ushort *halves, __global const uchar *bytes, uint at, uint b, uint r, uint *raw) {
  raw[1] = 0;
  switch (type) {
  case T_Q4_1: case T_Q5_1:
    raw[0] = halves[(at >> 1) + 32u * b + r];
    raw[1] = halves[(at >> 1) + 32u * b + 16u + r];
    return;
  case T_MXFP4:
    raw[0] = bytes[at + 16u * b + r];
    return;
  case T_Q4_K: case T_Q5_K: case T_Q2_K:
    raw[0] = bytes[at + 64u + 32u * b + r];
    raw[1] = bytes[at + 80u + 32u * b + r];
    return;
  case T_IQ4_XS:
    raw[0] = bytes[at + 32u + 16u * b + r];
    return;
  case T_Q6_K: case T_Q3_K:
    raw[0] = bytes[at + 32u + 32u * b + r];
    raw[1] = bytes[at + 48u + 32u * b + r];
    return;
  default:
    raw[0] = halves[(at >> 1) + 16u * b + r];
  }
}

// The scales S and minimums M of a block: of its two halves where the type has them, else the
// first ones.
INLINE void open_scales(int type, const uint *raw, float d, float dmin, float *s, float *m) {
  s[1] = m[0] = m[1] = 0.0f;
  switch (type) {
  case T_Q4_1: case T_Q5_1:
    s[0] = half_float((ushort)raw[0]);
    m[0] = half_float((ushort)raw[1]);
    return;
  case T_MXFP4:
    s[0] = mx_scale(raw[0]);
    return;
  case T_Q4_K: case T_Q5_K:
    s[0] = MUL(d, (float)raw[0]);
    m[0] = -MUL(dmin, (float)raw[1]);
    return;
  case T_Q2_K:
    s[0] = MUL(d, (float)(raw[0] & 15u));
    s[1] = MUL(d, (float)(raw[1] & 15u));
    m[0] = -MUL(dmin, (float)(raw[0] >> 4));
    m[1] = -MUL(dmin, (float)(raw[1] >> 4));
    return;
  case T_IQ4_XS: case T_Q6_K: case T_Q3_K:
    s[0] = MUL(d, (float)(char)raw[0]);
    s[1] = MUL(d, (float)(char)raw[1]);
    return;
  default:
    s[0] = half_float((ushort)raw[0]);
  }
}

// Float weights: what is stored, and what it is, through the floor. Of f16 only zeros are below
// it, and the sign of one changes no sum. at counts elements of the type.
INLINE uint load_float(int type, __global const uint *quants, __global const ushort *halves, uint at) {
  return type == T_F32 ? quants[at] : halves[at];
}

INLINE float open_float(int type, uint raw) {
  if (type == T_F16) return half_float((ushort)raw);
  return c_floor(as_float(type == T_F32 ? raw : raw << 16));
}
