// The product of bfloat16 tiles on tensor cores, summed in float32. How the 32 lanes of a warp hold them,
// with group = lane / 4 and quad = lane % 4 (PTX ISA, mma.m16n8k16):
//
// a [16, 16]: word 0 is row group, columns 2 quad and the next; word 1 row group + 8; words 2 and 3 the same
// rows, columns + 8.
//
// b [16, 8]: word 0 is column group, rows 2 quad and the next; word 1 rows + 8.
//
// d [16, 8]: values 0 and 1 are row group, columns 2 quad and the next; values 2 and 3 row group + 8.
//
// Of two values in a word the first has the low half.
#pragma once

#include "cuda/device.h"

namespace cream::gpu {

// d += a b; all lanes of the warp take part. For compute capability 8.0 and later.
__device__ __forceinline__ void multiply_tiles(float (&d)[4], const uint32_t (&a)[4],
                                               const uint32_t (&b)[2]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  __trap();
#elif defined(__CUDACC__)
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  simt::multiply_tiles(d, a, b);
#endif
}

// Two values, rounded to nearest, in one word.
__device__ __forceinline__ uint32_t in_word(float low, float high) {
#if defined(__CUDACC__) && (!defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800)
  uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
#else
  return __bfloat16_as_ushort(__float2bfloat16_rn(low)) |
         static_cast<uint32_t>(__bfloat16_as_ushort(__float2bfloat16_rn(high))) << 16;
#endif
}
__device__ __forceinline__ float low_of(uint32_t word) { return __uint_as_float(word << 16); }
__device__ __forceinline__ float high_of(uint32_t word) { return __uint_as_float(word & 0xFFFF0000u); }

// The low or the high halves of two words.
__device__ __forceinline__ uint32_t low_halves(uint32_t first, uint32_t second) {
  return __byte_perm(first, second, 0x5410);
}
__device__ __forceinline__ uint32_t high_halves(uint32_t first, uint32_t second) {
  return __byte_perm(first, second, 0x7632);
}

}  // namespace cream::gpu
