// The contract's scalar functions (package arith).

// F: below 2^-40 counts as +0.
float c_floor(float x) { return (as_uint(x) & 0x7fffffffu) < 0x2b800000u ? 0.0f : x; }

bool c_finite(float x) { return (as_uint(x) & 0x7fffffffu) < 0x7f800000u; }

// RN(1/b) for b in [1, 2): Newton by FMA from an integer seed. Its one exception among all
// mantissas is the one of all ones.
float recip_unit(float b) {
  if (as_uint(b) == 0x3fffffffu) return FB(0x3f000001u);
  float y = as_float(0x7EF311C7u - as_uint(b));
  float e = fma(-b, y, 1.0f);
  y = fma(y, e, y);
  e = fma(-b, y, 1.0f);
  y = fma(y, e, y);
  e = fma(-b, y, 1.0f);
  y = fma(y, e, y);
  e = fma(-b, y, 1.0f);
  return fma(y, e, y);
}

// RN(a/b) for a normal b: both are scaled to [1, 2), so that no step leaves the normal
// range, and the residual corrects the quotient (Markstein). A quotient below the normal
// numbers becomes a zero: the contract's floor makes it one anyway. Infinities and NaN in a
// stay what they are.
float c_div(float a, float b) {
  uint ua = as_uint(a), ub = as_uint(b), sign = (ua ^ ub) & 0x80000000u;
  int ea = (int)((ua >> 23) & 255u), eb = (int)((ub >> 23) & 255u);
  if (ea == 0) return as_float(sign);
  if (ea == 255) return as_float(sign | (ua & 0x7fffffffu));
  float m = as_float((ua & 0x7fffffu) | 0x3f800000u), n = as_float((ub & 0x7fffffu) | 0x3f800000u);
  float y = recip_unit(n);
  float q = MUL(m, y);
  float r = fma(-n, q, m);
  q = fma(r, y, q);
  r = fma(-n, q, m);
  q = fma(r, y, q);
  int eq = (int)(as_uint(q) >> 23) + ea - eb;
  if (eq <= 0) return as_float(sign);
  if (eq >= 255) return as_float(sign | 0x7f800000u);
  return as_float((as_uint(q) & 0x7fffffu) | ((uint)eq << 23) | sign);
}

// RN(sqrt(x)) for a normal positive x, scaled to [1, 4).
float c_sqrt(float x) {
  uint u = as_uint(x);
  int e = (int)(u >> 23) - 127, o = e & 1;
  float m = as_float((u & 0x7fffffu) | (uint)((127 + o) << 23));
  float y = as_float(0x5f375a86u - (as_uint(m) >> 1));
  float h = MUL(0.5f, m);
  float t = MUL(y, y);
  t = fma(-h, t, 1.5f);
  y = MUL(y, t);
  t = MUL(y, y);
  t = fma(-h, t, 1.5f);
  y = MUL(y, t);
  t = MUL(y, y);
  t = fma(-h, t, 1.5f);
  y = MUL(y, t);
  float g = MUL(m, y), k = MUL(0.5f, y);
  float d = fma(-g, g, m);
  g = fma(d, k, g);
  d = fma(-g, g, m);
  g = fma(d, k, g);
  return as_float(as_uint(g) + (uint)(((e - o) >> 1) * (1 << 23)));
}

// The integer nearest to x, ties to even, for |x| up to 2^22.
int c_round(float x) {
  float y = x + 12582912.0f;
  return (int)(y - 12582912.0f);
}

float c_exp(float x) {
  if (!(x >= -27.0f)) return 0.0f;
  if (x > 88.0f) x = 88.0f;
  int n = c_round(MUL(x, FB(0x3fb8aa3b)));
  float k = (float)n;
  float r = fma(-k, FB(0x3f317200), x);
  r = fma(-k, FB(0x35bfbe8e), r);
  float p = FB(0x3ab511e8);
  p = fma(p, r, FB(0x3c091d10));
  p = fma(p, r, FB(0x3d2aac79));
  p = fma(p, r, FB(0x3e2aaa49));
  p = fma(p, r, FB(0x3efffffe));
  p = fma(p, r, 1.0f);
  p = fma(p, r, 1.0f);
  return as_float(as_uint(p) + ((uint)n << 23));
}

float c_tanh(float x) {
  float a = as_float(as_uint(x) & 0x7fffffffu), y;
  if (a < 0.625f) {
    float z = MUL(a, a);
    float p = FB(0xbbc7b4d5);
    p = fma(p, z, FB(0x3cabff2a));
    p = fma(p, z, FB(0xbd5c9271));
    p = fma(p, z, FB(0x3e08870d));
    p = fma(p, z, FB(0xbeaaaaa9));
    y = fma(MUL(a, z), p, a);
  } else {
    y = 1.0f - c_div(2.0f, c_exp(MUL(2.0f, a)) + 1.0f);
  }
  return as_float(as_uint(y) | (as_uint(x) & 0x80000000u));
}

// f16 to f32, exact. On NVIDIA the conversion is an exact instruction.
float c_h2f(ushort h) {
  uint s = ((uint)h & 0x8000u) << 16, e = (uint)h & 0x7c00u, m = ((uint)h & 0x7fffu) << 13;
  // A denormal half is put beside 2^-14 as a mantissa; the subtraction is exact.
  float f = e == 0 ? as_float(m + 0x38800000u) - 6.103515625e-5f : as_float(m + 0x38000000u);
  if (e == 0x7c00u) f = as_float(m | 0x7f800000u);
  return as_float(as_uint(f) | s);
}
#ifdef __NVPTX__
float half_float(ushort h) {
  float f;
  __asm__("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
  return f;
}
#define LOAD_HALF(p, i) vload_half((i), (__global const half *)(p))
#else
float half_float(ushort h) { return c_h2f(h); }
#define LOAD_HALF(p, i) c_h2f((p)[i])
#endif

// f32 to f16, nearest even; what rounds to 65536 or more becomes an infinity.
ushort c_f2h(float f) {
  uint u = as_uint(f), s = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
  if (a > 0x7f800000u) return (ushort)(s | 0x7e00u);
  if (a >= 0x477ff000u) return (ushort)(s | 0x7c00u);
  if (a >= 0x38800000u) {
    a += 0xfffu + ((a >> 13) & 1u);
    return (ushort)(s | ((a - 0x38000000u) >> 13));
  }
  if (a < 0x33000000u) return (ushort)s;
  uint shift = 126u - (a >> 23), m = (a & 0x7fffffu) | 0x800000u;
  uint q = m >> shift, rest = m & ((1u << shift) - 1u), half_ = 1u << (shift - 1u);
  if (rest > half_ || (rest == half_ && (q & 1u))) q++;
  return (ushort)(s | q);
}

// The contract's sum of sixteen lanes.
float c_tree(__local const float *l) {
  float a0 = l[0] + l[8], a1 = l[1] + l[9], a2 = l[2] + l[10], a3 = l[3] + l[11];
  float a4 = l[4] + l[12], a5 = l[5] + l[13], a6 = l[6] + l[14], a7 = l[7] + l[15];
  a0 = a0 + a4;
  a1 = a1 + a5;
  a2 = a2 + a6;
  a3 = a3 + a7;
  a0 = a0 + a2;
  a1 = a1 + a3;
  return a0 + a1;
}
