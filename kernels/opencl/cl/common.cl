// Kernels of weft's arithmetic contract (package kernels) in OpenCL C 1.2. All files of
// this folder are joined to one program, this one first.
//
// Rules: no images, no printf, no doubles, no 64-bit atomics, no __local arguments, no
// structs by value; a kernel tests its own bounds, since launches are whole work-groups;
// where a product feeds an addition it is MUL(a, b), which leaves nothing to contract;
// division and square root are c_div and c_sqrt, never the device's own.
#pragma OPENCL FP_CONTRACT OFF

#define FB(u) as_float((uint)(u))
// RN(a*b).
#define MUL(a, b) fma((a), (b), -0.0f)

// Loops of fixed length that hold arrays are unrolled, so that the arrays are registers. A
// processor has them in its cache, and compiles faster without.
#if defined(__x86_64__) || defined(__aarch64__)
#define UNROLL
#else
#define UNROLL _Pragma("unroll")
#endif

// The 16 lanes that norms and softmax sum over.
#define LANES 16

// The ints of a batch row's entry in rows: its position, and where its sequence's KV blocks
// begin in the same list.
#define ROW_INTS 2

// A row's faults: the table of words, the first row's word, and what a fault writes.
#define FAULT_PARAMS __global uint *faults, int fault0, uint fault_word
#define FAULT(row) atomic_cmpxchg(faults + fault0 + (row), 0u, fault_word)

// The sum of four products of signed bytes, exact.
#if defined(__NVPTX__) && defined(WEFT_DP4A)
int dot4(uint a, uint b, int c) {
  int r;
  __asm__("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
  return r;
}
#elif defined(__opencl_c_integer_dot_product_input_4x8bit_packed) && !defined(__NVPTX__)
#pragma OPENCL EXTENSION cl_khr_integer_dot_product : enable
int dot4(uint a, uint b, int c) { return c + dot_4x8packed_ss_int(a, b); }
#else
int dot4(uint a, uint b, int c) {
  char4 x = as_char4(a), y = as_char4(b);
  return c + (int)x.x * (int)y.x + (int)x.y * (int)y.y + (int)x.z * (int)y.z + (int)x.w * (int)y.w;
}
#endif
