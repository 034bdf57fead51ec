// Embedding: a work-item unpacks 32 columns of a row, or one element of a float type.

__kernel void embed(WEIGHT_PARAMS, __global const int *ids, __global float *dst, int type, int cols, uint group_scales,
                    int n) {
  int i = get_global_id(0), blocks = cols / 32;
  if (i >= n * blocks) return;
  int token = i / blocks, b = i % blocks, id = ids[token];
  uint g = (uint)id >> 4, r = (uint)id & 15u, w[8], raw[8], scales[2];
  float d, dmin, s[2], m[2];
  uint at = g * group_scales + (uint)(b >> 3) * segment_scales(type);
  load_block(type, quants, (g * blocks + b) * block_words(type) + r, raw);
  open_block(type, raw, w);
  segment_factors(type, halves, at, r, &d, &dmin);
  load_scales(type, halves, bytes, at, b & 7, r, scales);
  open_scales(type, scales, d, dmin, s, m);
  int offset = weight_offset(type), two = has_halves(type), minimum = has_minimum(type);
  for (int k = 0; k < 32; k++) {
    int h = two && k >= 16;
    float q = (float)((int)(char)(w[k >> 2] >> (8 * (k & 3))) - offset);
    float y = minimum ? fma(s[h], q, m[h]) : MUL(s[h], q);
    dst[token * cols + 32 * b + k] = c_floor(y);
  }
}

__kernel void embed_floats(WEIGHT_PARAMS, __global const int *ids, __global float *dst, int type, int cols, uint group_elements,
                           int n) {
  int i = get_global_id(0);
  if (i >= n * cols) return;
  int token = i / cols, k = i % cols, id = ids[token];
  uint at = ((uint)id >> 4) * group_elements + 16u * k + ((uint)id & 15u);
  dst[i] = c_floor(open_float(type, load_float(type, quants, halves, at)));
}
