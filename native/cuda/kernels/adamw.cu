#include <initializer_list>

#include "cuda/kernels/adamw.h"
#include "cuda/kernels/common.cuh"

namespace cream::gpu {

namespace {

constexpr int kWarpsPerBlock = kThreads / kLanes;
constexpr int kSpan = 4;  // float32 values per access

// The sum over the block, in thread 0 and always in the same order.
template <typename T>
__device__ __forceinline__ T block_total(T x) {
  for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(kAllLanes, x, lanes);
  __shared__ T sums[kWarpsPerBlock];
  if (threadIdx.x % kLanes == 0) sums[threadIdx.x / kLanes] = x;
  __syncthreads();
  x = 0;
  for (int w = 0; w < kWarpsPerBlock; ++w) x += sums[w];
  return x;
}

__global__ void __launch_bounds__(kThreads) norm_kernel(double* sums, const float* gradient, int64_t size) {
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kAdamWBlock;
  double sum = 0;
  for (int64_t i = begin + threadIdx.x; i < begin + kAdamWBlock && i < size; i += kThreads) {
    const double g = gradient[i];
    sum += g * g;
  }
  sum = block_total(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// A float32 master beside its working weights.
template <typename T>
struct WholeMaster {
  T* weights;
  float* master;
  __device__ float read(int64_t i) const { return master[i]; }
  __device__ bool write(int64_t i, float exact) const {
    const T after = rounded<T>(exact);
    const bool moved = as_float(after) != as_float(weights[i]);
    master[i] = exact;
    weights[i] = after;
    return moved;
  }
};

// weight << 16 is the master's bits + 0x8000, its low half cut off; `low` holds the master's own low half.
struct SplitMaster {
  bf16* weights;
  uint16_t* low;
  __device__ float read(int64_t i) const {
    const uint32_t high = static_cast<uint32_t>(__bfloat16_as_ushort(weights[i])) << 16;
    const uint32_t rest = low[i];
    return __uint_as_float((rest & 0x8000u) != 0 ? high - 0x10000u + rest : high + rest);
  }
  __device__ bool write(int64_t i, float exact) const {
    const uint32_t bits = __float_as_uint(exact);
    const auto after = static_cast<uint16_t>((bits + 0x8000u) >> 16);
    const bool moved = after != __bfloat16_as_ushort(weights[i]);
    weights[i] = __ushort_as_bfloat16(after);
    low[i] = static_cast<uint16_t>(bits);
    return moved;
  }
};

template <typename Master>
__global__ void __launch_bounds__(kThreads) adamw_kernel(Master master, float* gradient, float* m, float* v,
                                                         int64_t* moved, int64_t size, AdamWFactors f) {
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kAdamWBlock;
  int count = 0;
  for (int64_t first = begin + static_cast<int64_t>(threadIdx.x) * kSpan; first < begin + kAdamWBlock;
       first += kThreads * kSpan) {
    const int span = static_cast<int>(size - first < kSpan ? size - first : kSpan);
    for (int j = 0; j < span; ++j) {
      const int64_t i = first + j;
      const float g = gradient[i] * f.gradient_scale;
      const float mean = f.beta1 * m[i] + f.one_minus_beta1 * g;
      const float square = f.beta2 * v[i] + f.one_minus_beta2 * (g * g);
      const float keep = i < f.decay_size ? f.decayed : 1.0f;
      const float exact =
          master.read(i) * keep - f.step_size * mean / (sqrtf(square) * f.root_correction + f.epsilon);
      m[i] = mean;
      v[i] = square;
      gradient[i] = 0;
      count += master.write(i, exact);
    }
  }
  count = block_total(count);
  if (threadIdx.x == 0) moved[blockIdx.x] = count;
}

template <typename Master>
void update(const Master& master, float* gradient, float* m, float* v, int64_t* moved, int64_t size,
            const AdamWFactors& factors, Stream stream) {
  if (size == 0) return;
  launch(&adamw_kernel<Master>, blocks_for(size, kAdamWBlock), kThreads, 0, stream, master, gradient, m, v,
         moved, size, factors);
}

}  // namespace

void squared_norms(double* sums, const float* gradient, int64_t size, Stream stream) {
  if (size == 0) return;
  launch(&norm_kernel, blocks_for(size, kAdamWBlock), kThreads, 0, stream, sums, gradient, size);
}

void adamw(void* weights, Dtype dtype, float* master, float* gradient, float* m, float* v, int64_t* moved,
           int64_t size, const AdamWFactors& factors, Stream stream) {
  with_access(dtype, false, [&](auto zero, auto) {
    using T = decltype(zero);
    update(WholeMaster<T>{static_cast<T*>(weights), master}, gradient, m, v, moved, size, factors, stream);
  });
}

void adamw_split(void* weights, uint16_t* low, float* gradient, float* m, float* v, int64_t* moved,
                 int64_t size, const AdamWFactors& factors, Stream stream) {
  update(SplitMaster{static_cast<bf16*>(weights), low}, gradient, m, v, moved, size, factors, stream);
}

}  // namespace cream::gpu
