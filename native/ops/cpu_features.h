// What this CPU can do, as far as the addon may use it: the only place where the choice of a kernel asks for
// the machine. Every predicate is limited by
//   - what the addon was compiled for (-march) and what the CPU has and the operating system grants;
//   - the environment variables by which LibTorch (ATEN_CPU_CAPABILITY), oneDNN (ONEDNN_MAX_CPU_ISA,
//     DNNL_MAX_CPU_ISA) and MKL (MKL_ENABLE_INSTRUCTIONS) are limited, so that a process keeps to one level;
//   - CREAM_CPU=baseline|avx2|avx512|avx512_bf16|amx_bf16, which limits those libraries too.
// CREAM_CPU_VENDOR=intel|other stands for the maker. All is read once, so one process computes one way.
#pragma once

#include <string>

namespace cream::cpu {

#ifdef __x86_64__
inline constexpr bool kIsX86 = true;
#else
inline constexpr bool kIsX86 = false;
#endif

bool has_avx2();         // with FMA and F16C
bool has_avx512();       // F, BW, CD, DQ and VL
bool has_avx512_bf16();  // dot products of bfloat16 pairs with float32 sums
bool has_amx_bf16();     // tiles of bfloat16, which Linux has granted to this process
bool is_intel();

// The highest level, as CREAM_CPU names it, and the maker: "avx512_bf16 intel", "avx2 other".
std::string path();

// Reads the environment, before any library has: to be called when the addon loads. Throws
// std::invalid_argument where CREAM_CPU or CREAM_CPU_VENDOR names nothing known or more than there is.
void configure();

}  // namespace cream::cpu
