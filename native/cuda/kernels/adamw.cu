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
  using Weight = T;
  using Other = float;
  T* weights;
  float* other;
  __device__ static float joined(T, float master) { return master; }
  __device__ static bool split(float exact, T& weight, float& master) {
    const T after = rounded<T>(exact);
    const bool moved = as_float(after) != as_float(weight);
    weight = after;
    master = exact;
    return moved;
  }
};

// weight << 16 is the master's bits + 0x8000, its low half cut off; `other` holds the master's own low half.
struct SplitMaster {
  using Weight = bf16;
  using Other = uint16_t;
  bf16* weights;
  uint16_t* other;
  __device__ static float joined(bf16 weight, uint16_t low) {
    const uint32_t high = static_cast<uint32_t>(__bfloat16_as_ushort(weight)) << 16;
    const uint32_t rest = low;
    return __uint_as_float((rest & 0x8000u) != 0 ? high - 0x10000u + rest : high + rest);
  }
  __device__ static bool split(float exact, bf16& weight, uint16_t& low) {
    const uint32_t bits = __float_as_uint(exact);
    const auto after = static_cast<uint16_t>((bits + 0x8000u) >> 16);
    const bool moved = after != __bfloat16_as_ushort(weight);
    weight = __ushort_as_bfloat16(after);
    low = static_cast<uint16_t>(bits);
    return moved;
  }
};

// Updates elements [first, first + kSize); returns how many working weights changed.
template <int kSize, typename Master>
__device__ __forceinline__ int update_span(const Master& master, float* gradient, float* m, float* v,
                                           int64_t first, const AdamWFactors& f) {
  auto weights = load<typename Master::Weight, kSize>(master.weights + first);
  auto others = load<typename Master::Other, kSize>(master.other + first);
  auto g = load<float, kSize>(gradient + first);
  auto means = load<float, kSize>(m + first);
  auto squares = load<float, kSize>(v + first);
  int moved = 0;
  for (int i = 0; i < kSize; ++i) {
    const float d = g.at[i] * f.gradient_scale;
    // fmaf by name: no compiler may choose, so both kinds of master take the same bits.
    const float mean = fmaf(f.beta1, means.at[i], f.one_minus_beta1 * d);
    const float square = fmaf(f.beta2, squares.at[i], f.one_minus_beta2 * (d * d));
    const float keep = first + i < f.decay_size ? f.decayed : 1.0f;
    const float change = f.step_size * mean / fmaf(sqrtf(square), f.root_correction, f.epsilon);
    const float exact = fmaf(Master::joined(weights.at[i], others.at[i]), keep, -change);
    moved += Master::split(exact, weights.at[i], others.at[i]);
    means.at[i] = mean;
    squares.at[i] = square;
    g.at[i] = 0;
  }
  store(m + first, means);
  store(v + first, squares);
  store(gradient + first, g);
  store(master.weights + first, weights);
  store(master.other + first, others);
  return moved;
}

template <typename Master, int kSize>
__global__ void __launch_bounds__(kThreads) adamw_kernel(Master master, float* gradient, float* m, float* v,
                                                         int64_t* moved, int64_t size, AdamWFactors f) {
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kAdamWBlock;
  const int64_t end = begin + kAdamWBlock < size ? begin + kAdamWBlock : size;
  int count = 0;
  for (int64_t i = begin + static_cast<int64_t>(threadIdx.x) * kSize; i < end; i += kThreads * kSize) {
    if (i + kSize <= end) {
      count += update_span<kSize>(master, gradient, m, v, i, f);
    } else {
      for (int64_t j = i; j < end; ++j) count += update_span<1>(master, gradient, m, v, j, f);
    }
  }
  count = block_total(count);
  if (threadIdx.x == 0) moved[blockIdx.x] = count;
}

template <typename Master>
void update(const Master& master, float* gradient, float* m, float* v, int64_t* moved, int64_t size,
            const AdamWFactors& factors, Stream stream) {
  if (size == 0) return;
  const bool aligned = is_aligned({master.weights, master.other, gradient, m, v}, {}, 1);
  const auto kernel = aligned ? &adamw_kernel<Master, kSpan> : &adamw_kernel<Master, 1>;
  launch(kernel, blocks_for(size, kAdamWBlock), kThreads, 0, stream, master, gradient, m, v, moved, size,
         factors);
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
