// CUDA's execution model on a CPU, so that kernels can be tested where there is no GPU: the threads of a
// block are fibers of one system thread, and blocks run one after another. Barriers and warp exchanges are
// real: a kernel that lacks one reads stale values, for the order of the threads changes from block to block;
// a barrier that not all threads reach, or a phase that nobody ends, ends the launch with an error. Dynamic
// shared memory begins as NaN. What this cannot show: data races within a warp's lock step, alignment faults,
// speed.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>

#include "cuda/types.h"

namespace cream::gpu {

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace simt {

constexpr int kWarp = 32;
constexpr int kMaxThreads = 1024;

// A lane's part of the factors of a product of tiles.
struct TileWords {
  uint32_t a[4], b[2];
};

// Of the thread that runs now.
struct Context {
  dim3 thread_index, block_index, block_size, grid_size;
  int lane;
  uint64_t* exchange;      // [kWarp], one per warp
  TileWords* tiles;        // [kWarp], one per warp
  const void** addresses;  // [kWarp], one per warp
  void* shared;
};
extern constinit thread_local Context context;

void run(dim3 grid, dim3 block, size_t shared, const std::function<void()>& thread);
void wait_for_block();
void wait_for_warp(uint32_t mask);

template <typename T>
T exchange(uint32_t mask, T value, int source) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  std::memcpy(&context.exchange[context.lane], &value, sizeof(T));
  wait_for_warp(mask);
  T result;
  std::memcpy(&result, &context.exchange[source & (kWarp - 1)], sizeof(T));
  wait_for_warp(mask);
  return result;
}

// mma.m16n8k16 (cuda/kernels/mma.cuh): d += a b, for this lane's four values of d.
void multiply_tiles(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

// Barriers, bulk copies and loads of matrices (cuda/kernels/bulk.cuh). In every other block copies arrive
// only when nothing else can go on, the last first; in the others at once.
void init_barrier(uint64_t* barrier, int arrivals);
void arrive(uint64_t* barrier, uint32_t bytes);
void wait_for_phase(const uint64_t* barrier, uint32_t parity);
void copy_bulk(void* to, const void* from, uint32_t bytes, uint64_t* barrier);
void load_matrices(uint32_t (&words)[4], const void* row, bool transposed);

}  // namespace simt

// Rounds to nearest, ties to even, as the hardware does.
struct bf16 {
  uint16_t bits;
};
inline float __bfloat162float(bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }
inline bf16 __float2bfloat16_rn(float x) {
  if (x != x) return {0x7FFF};
  const auto bits = std::bit_cast<uint32_t>(x);
  return {static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)};
}
inline bf16 __ushort_as_bfloat16(uint16_t bits) { return {bits}; }
inline uint16_t __bfloat16_as_ushort(bf16 x) { return x.bits; }
inline float __uint_as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t __float_as_uint(float x) { return std::bit_cast<uint32_t>(x); }
// Byte i of the result is byte (selector >> 4 i) & 7 of first, then second.
inline uint32_t __byte_perm(uint32_t first, uint32_t second, uint32_t selector) {
  const uint64_t bytes = uint64_t{second} << 32 | first;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const auto byte = static_cast<uint32_t>(bytes >> (8 * ((selector >> (4 * i)) & 7)) & 0xFF);
    result |= byte << (8 * i);
  }
  return result;
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

inline void __syncthreads() { simt::wait_for_block(); }
inline void __syncwarp(uint32_t mask = 0xFFFFFFFFu) { simt::wait_for_warp(mask); }
template <typename T>
T __shfl_sync(uint32_t mask, T value, int source) {
  return simt::exchange(mask, value, source);
}
template <typename T>
T __shfl_xor_sync(uint32_t mask, T value, int lanes) {
  return simt::exchange(mask, value, simt::context.lane ^ lanes);
}
// Blocks run one after another and fibers change only at barriers, so every access is atomic.
template <typename T>
T atomicAdd(T* address, T value) {
  const T before = *address;
  *address = before + value;
  return before;
}

template <typename T>
T atomicMin(T* address, T value) {
  const T before = *address;
  if (value < before) *address = value;
  return before;
}
template <typename T>
T atomicMax(T* address, T value) {
  const T before = *address;
  if (value > before) *address = value;
  return before;
}

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, Stream,
            Arguments... arguments) {
  const std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
  simt::run(grid, block, shared, [&] { std::apply(kernel, values); });
}

}  // namespace cream::gpu

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define CREAM_NO_UNROLL
#define __shared__ static thread_local
#define threadIdx (::cream::gpu::simt::context.thread_index)
#define blockIdx (::cream::gpu::simt::context.block_index)
#define blockDim (::cream::gpu::simt::context.block_size)
#define gridDim (::cream::gpu::simt::context.grid_size)
#define CREAM_DYNAMIC_SHARED(type, name) \
  type* const name = static_cast<type*>(::cream::gpu::simt::context.shared)
