// Loads, stores and reductions that the kernels share. Arithmetic is float32.
#pragma once

#include "cuda/device.h"

namespace cream::gpu {

constexpr int kThreads = 256;
constexpr int kLanes = 32;
constexpr uint32_t kAllLanes = 0xFFFFFFFFu;

__device__ __forceinline__ float as_float(float x) { return x; }
__device__ __forceinline__ float as_float(bf16 x) { return __bfloat162float(x); }
template <typename T>
__device__ __forceinline__ T rounded(float x);
template <>
__device__ __forceinline__ float rounded<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ bf16 rounded<bf16>(float x) {
  return __float2bfloat16_rn(x);
}

// kSize consecutive values: 16 bytes where the layout allows it, else one value.
template <typename T, int kSize>
struct alignas(sizeof(T) * kSize) Values {
  T at[kSize];
};
template <typename T, int kSize>
__device__ __forceinline__ Values<T, kSize> load(const T* from) {
  return *reinterpret_cast<const Values<T, kSize>*>(from);
}
// To device memory, in one access: nvcc takes the assignment of a struct apart, into stores of 2 and 4 bytes.
template <typename T, int kSize>
__device__ __forceinline__ void store(T* to, const Values<T, kSize>& values) {
#ifdef __CUDACC__
  if constexpr (sizeof values == 16) {
    uint4 w;
    memcpy(&w, &values, sizeof w);
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(w.x), "r"(w.y), "r"(w.z), "r"(w.w)
                 : "memory");
    return;
  } else if constexpr (sizeof values == 8) {
    uint2 w;
    memcpy(&w, &values, sizeof w);
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(to), "r"(w.x), "r"(w.y) : "memory");
    return;
  }
#endif
  *reinterpret_cast<Values<T, kSize>*>(to) = values;
}

// A pointer that was itself read from memory, known to point to device memory: loads need not find out.
template <typename T>
__device__ __forceinline__ T* in_device_memory(void* pointer) {
#ifdef __CUDACC__
  __builtin_assume(__isGlobal(pointer));
#endif
  return static_cast<T*>(pointer);
}

__device__ __forceinline__ float warp_sum(float x) {
  for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(kAllLanes, x, lanes);
  return x;
}
__device__ __forceinline__ float warp_max(float x) {
  for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, lanes));
  return x;
}

// The sum over the kWarps warps that work together, in every thread and always in the same order.
template <int kWarps>
__device__ __forceinline__ float group_sum(float x) {
  x = warp_sum(x);
  if constexpr (kWarps > 1) {
    __shared__ float sums[kWarps];
    if (threadIdx.x % kLanes == 0) sums[threadIdx.x / kLanes] = x;
    __syncthreads();
    x = 0;
    for (int w = 0; w < kWarps; ++w) x += sums[w];
    __syncthreads();
  }
  return x;
}

// True when 16-byte accesses may be used: pointers and row strides are multiples of 16 bytes.
inline bool is_aligned(std::initializer_list<const void*> pointers, std::initializer_list<int64_t> strides,
                       size_t element) {
  uintptr_t bits = 0;
  for (const void* pointer : pointers) bits |= reinterpret_cast<uintptr_t>(pointer);
  for (const int64_t stride : strides) bits |= static_cast<uintptr_t>(stride) * element;
  return bits % 16 == 0;
}

template <int kValue>
struct Constant {
  static constexpr int value = kValue;
};

// body(a value of the dtype's type, Constant<elements per access>)
template <typename Body>
void with_access(Dtype dtype, bool aligned, const Body& body) {
  if (dtype == Dtype::kFloat32) {
    aligned ? body(float{}, Constant<4>{}) : body(float{}, Constant<1>{});
  } else {
    aligned ? body(bf16{}, Constant<8>{}) : body(bf16{}, Constant<1>{});
  }
}

inline unsigned blocks_for(int64_t items, int64_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}
inline size_t bytes_of(Dtype dtype) { return dtype == Dtype::kFloat32 ? 4 : 2; }

}  // namespace cream::gpu
