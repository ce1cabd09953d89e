#include <initializer_list>

#include "cuda/kernels/adamw.h"
#include "cuda/kernels/common.cuh"
#include "cuda/kernels/random.cuh"

namespace cream::gpu {

namespace {

constexpr int kWarpsPerBlock = kThreads / kLanes;
constexpr int kSpan = 4;                     // elements per access, and of a block of random bits
constexpr uint32_t kMomentsStream = 0x5C0D;  // as in ops/stochastic_rounding.h

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

// Squares of floats are exact in float64, and the order of a thread's sum is that of its elements.
template <typename T>
__global__ void __launch_bounds__(kThreads) norm_kernel(double* sums, const T* gradient, int64_t size) {
  constexpr int kLoads = 8;  // in flight at a time
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kAdamWBlock;
  double sum = 0;
  for (int64_t first = begin + threadIdx.x; first < begin + kAdamWBlock; first += kLoads * kThreads) {
    float g[kLoads];
    for (int n = 0; n < kLoads; ++n) {
      const int64_t i = first + n * kThreads;
      g[n] = i < size ? as_float(gradient[i]) : 0.0f;
    }
    for (int n = 0; n < kLoads; ++n) sum += static_cast<double>(g[n]) * g[n];
  }
  sum = block_total(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// A float32 master beside its working weights.
template <typename T>
struct WholeMaster {
  static constexpr int kBlocks = 3;  // on a multiprocessor, without spilling registers
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
  static constexpr int kBlocks = 4;
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

// How a moment is kept: exactly, or in bfloat16 by stochastic rounding.
__device__ __forceinline__ void keep(float& to, float x, uint32_t) { to = x; }
__device__ __forceinline__ void keep(bf16& to, float x, uint32_t noise) {
  to = __ushort_as_bfloat16(static_cast<uint16_t>((__float_as_uint(x) + noise) >> 16));
}

template <typename Gradient, typename Moment>
struct Optimizer {
  const Gradient* gradient;
  Moment *m, *v;
};

__device__ __forceinline__ Bits4 noise_of(const float*, int64_t, const AdamWFactors&) { return {}; }
__device__ __forceinline__ Bits4 noise_of(const bf16*, int64_t element, const AdamWFactors& f) {
  const auto block = static_cast<uint64_t>(element) / 4;
  return random_bits(
      {{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), f.step, kMomentsStream}}, f.key[0],
      f.key[1]);
}

// Elements [first, first + kSize): load, update, then store.
template <int kSize, typename Master, typename Gradient, typename Moment>
struct Span {
  Values<typename Master::Weight, kSize> weights;
  Values<typename Master::Other, kSize> others;
  Values<Gradient, kSize> g;
  Values<Moment, kSize> means, squares;

  __device__ __forceinline__ Span(const Master& master, const Optimizer<Gradient, Moment>& o, int64_t first)
      : weights(load<typename Master::Weight, kSize>(master.weights + first)),
        others(load<typename Master::Other, kSize>(master.other + first)),
        g(load<Gradient, kSize>(o.gradient + first)),
        means(load<Moment, kSize>(o.m + first)),
        squares(load<Moment, kSize>(o.v + first)) {}

  // Returns how many working weights changed.
  __device__ __forceinline__ int update(int64_t first, const AdamWFactors& f) {
    const Bits4 noise = noise_of(static_cast<const Moment*>(nullptr), f.first + first, f);
    int moved = 0;
    for (int i = 0; i < kSize; ++i) {
      const float d = as_float(g.at[i]) * f.gradient_scale;
      // fmaf by name: no compiler may choose, so both kinds of master take the same bits.
      const float mean = fmaf(f.beta1, as_float(means.at[i]), f.one_minus_beta1 * d);
      const float square = fmaf(f.beta2, as_float(squares.at[i]), f.one_minus_beta2 * (d * d));
      const float decayed = first + i < f.decay_size ? f.decayed : 1.0f;
      const float change = f.step_size * mean / fmaf(sqrtf(square), f.root_correction, f.epsilon);
      const float exact = fmaf(Master::joined(weights.at[i], others.at[i]), decayed, -change);
      moved += Master::split(exact, weights.at[i], others.at[i]);
      // A span of four begins at a multiple of four; a single element picks its own word.
      const uint32_t word = noise.at[kSize == kSpan ? i : (f.first + first) % kSpan];
      keep(means.at[i], mean, word & 0xFFFFu);
      keep(squares.at[i], square, word >> 16);
    }
    return moved;
  }

  __device__ __forceinline__ void put(const Master& master, const Optimizer<Gradient, Moment>& o,
                                      int64_t first) const {
    store(o.m + first, means);
    store(o.v + first, squares);
    store(master.weights + first, weights);
    store(master.other + first, others);
  }
};

// A thread takes two spans at a time, whose loads are in flight together; neighbours of a warp are neighbours
// in memory, so that no access of either type leaves a part of its sectors unused.
template <typename Master, typename Gradient, typename Moment, int kSize>
__global__ void __launch_bounds__(kThreads, Master::kBlocks)
    adamw_kernel(Master master, Optimizer<Gradient, Moment> o, int64_t* moved, int64_t size, AdamWFactors f) {
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kAdamWBlock;
  const int64_t end = begin + kAdamWBlock < size ? begin + kAdamWBlock : size;
  constexpr int64_t kStep = kThreads * kSize;
  int count = 0;
  for (int64_t i = begin + static_cast<int64_t>(threadIdx.x) * kSize; i < end; i += 2 * kStep) {
    if (i + kStep + kSize <= end) {
      Span<kSize, Master, Gradient, Moment> a(master, o, i), b(master, o, i + kStep);
      count += a.update(i, f) + b.update(i + kStep, f);
      a.put(master, o, i);
      b.put(master, o, i + kStep);
      continue;
    }
    for (int64_t first = i; first < end; first += kStep) {
      for (int64_t j = first; j < end && j < first + kSize; ++j) {
        Span<1, Master, Gradient, Moment> single(master, o, j);
        count += single.update(j, f);
        single.put(master, o, j);
      }
    }
  }
  count = block_total(count);
  if (threadIdx.x == 0) moved[blockIdx.x] = count;
}

template <typename Master>
void update(const Master& master, const AdamWBuffers& b, const AdamWFactors& factors, Stream stream) {
  const bool aligned =
      is_aligned({master.weights, master.other, b.gradient, b.m, b.v}, {}, 1) && factors.first % kSpan == 0;
  with_access(b.gradient_dtype, false, [&](auto gradient, auto) {
    with_access(b.moment_dtype, false, [&](auto moment, auto) {
      using Gradient = decltype(gradient);
      using Moment = decltype(moment);
      const Optimizer<Gradient, Moment> optimizer{static_cast<const Gradient*>(b.gradient),
                                                  static_cast<Moment*>(b.m), static_cast<Moment*>(b.v)};
      const auto kernel = aligned ? &adamw_kernel<Master, Gradient, Moment, kSpan>
                                  : &adamw_kernel<Master, Gradient, Moment, 1>;
      launch(kernel, blocks_for(b.size, kAdamWBlock), kThreads, 0, stream, master, optimizer, b.moved, b.size,
             factors);
    });
  });
}

}  // namespace

void squared_norms(double* sums, const void* gradient, Dtype dtype, int64_t size, Stream stream) {
  if (size == 0) return;
  with_access(dtype, false, [&](auto zero, auto) {
    using T = decltype(zero);
    launch(&norm_kernel<T>, blocks_for(size, kAdamWBlock), kThreads, 0, stream, sums,
           static_cast<const T*>(gradient), size);
  });
}

void adamw(const AdamWBuffers& b, const AdamWFactors& factors, Stream stream) {
  if (b.size == 0) return;
  if (b.low != nullptr) {
    return update(SplitMaster{static_cast<bf16*>(b.weights), b.low}, b, factors, stream);
  }
  with_access(b.weight_dtype, false, [&](auto zero, auto) {
    using T = decltype(zero);
    update(WholeMaster<T>{static_cast<T*>(b.weights), b.master}, b, factors, stream);
  });
}

}  // namespace cream::gpu
