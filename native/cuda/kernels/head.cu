#include <initializer_list>

#include "cuda/kernels/common.cuh"
#include "cuda/kernels/head.h"

namespace cream::gpu {

namespace {

constexpr int kHeadThreads = 512;
constexpr int kHeadWarps = kHeadThreads / kLanes;

// The sum of exp(x - top) over some values.
struct Sum {
  float top, sum;
};
__device__ __forceinline__ Sum joined(Sum a, Sum b) {
  const float top = fmaxf(a.top, b.top);
  if (top == -INFINITY) return {top, 0};
  return {top, a.sum * expf(a.top - top) + b.sum * expf(b.top - top)};
}

template <typename T, int kSize>
__global__ void __launch_bounds__(kHeadThreads)
    lse_kernel(float* lse, float* logprobs, const T* logits, int64_t vocab, const int64_t* starts,
               const int32_t* tokens) {
  const int64_t row = blockIdx.x;
  const T* values = logits + row * vocab;
  Sum mine{-INFINITY, 0};
  for (int64_t v = static_cast<int64_t>(threadIdx.x) * kSize; v < vocab; v += kHeadThreads * kSize) {
    const auto x = load<T, kSize>(values + v);
    float top = as_float(x.at[0]);
    for (int i = 1; i < kSize; ++i) top = fmaxf(top, as_float(x.at[i]));
    if (top == -INFINITY) continue;
    float sum = 0;
    for (int i = 0; i < kSize; ++i) sum += expf(as_float(x.at[i]) - top);
    mine = joined(mine, {top, sum});
  }
  for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) {
    const Sum other{__shfl_xor_sync(kAllLanes, mine.top, lanes), __shfl_xor_sync(kAllLanes, mine.sum, lanes)};
    mine = joined(mine, other);
  }
  __shared__ Sum sums[kHeadWarps];
  if (threadIdx.x % kLanes == 0) sums[threadIdx.x / kLanes] = mine;
  __syncthreads();
  Sum total = sums[0];
  for (int w = 1; w < kHeadWarps; ++w) total = joined(total, sums[w]);
  const float result = total.top + logf(total.sum);
  if (threadIdx.x == 0) lse[row] = result;
  for (int64_t i = starts[row] + threadIdx.x; i < starts[row + 1]; i += kHeadThreads)
    logprobs[i] = as_float(values[tokens[i]]) - result;
}

template <typename T, int kSize>
__global__ void __launch_bounds__(kHeadThreads)
    dlogits_kernel(T* logits, int64_t vocab, const float* lse, const int64_t* starts, const int32_t* tokens,
                   const float* weights) {
  const int64_t row = blockIdx.x;
  T* values = logits + row * vocab;
  float total = 0;
  for (int64_t i = starts[row]; i < starts[row + 1]; ++i) total += weights[i];
  const float shift = lse[row];
  for (int64_t v = static_cast<int64_t>(threadIdx.x) * kSize; v < vocab; v += kHeadThreads * kSize) {
    auto x = load<T, kSize>(values + v);
    for (int i = 0; i < kSize; ++i) x.at[i] = rounded<T>(-total * expf(as_float(x.at[i]) - shift));
    store(values + v, x);
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int64_t i = starts[row]; i < starts[row + 1]; ++i)
    values[tokens[i]] = rounded<T>(as_float(values[tokens[i]]) + weights[i]);
}

}  // namespace

void lse_and_gather(float* lse, float* logprobs, const void* logits, Dtype dtype, int64_t rows, int64_t vocab,
                    const int64_t* starts, const int32_t* tokens, Stream stream) {
  if (rows == 0) return;
  with_access(dtype, is_aligned({logits}, {vocab}, bytes_of(dtype)), [&](auto zero, auto size) {
    using T = decltype(zero);
    launch(&lse_kernel<T, decltype(size)::value>, static_cast<unsigned>(rows), kHeadThreads, 0, stream, lse,
           logprobs, static_cast<const T*>(logits), vocab, starts, tokens);
  });
}

void dlogits(void* logits, Dtype dtype, int64_t rows, int64_t vocab, const float* lse, const int64_t* starts,
             const int32_t* tokens, const float* weights, Stream stream) {
  if (rows == 0) return;
  with_access(dtype, is_aligned({logits}, {vocab}, bytes_of(dtype)), [&](auto zero, auto size) {
    using T = decltype(zero);
    launch(&dlogits_kernel<T, decltype(size)::value>, static_cast<unsigned>(rows), kHeadThreads, 0, stream,
           static_cast<T*>(logits), vocab, lse, starts, tokens, weights);
  });
}

}  // namespace cream::gpu
