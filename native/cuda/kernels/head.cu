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

template <int kSize>
__global__ void __launch_bounds__(kHeadThreads)
    lse_kernel(float* lse, float* logprobs, const float* logits, int64_t vocab, const int64_t* starts,
               const int32_t* tokens) {
  const int64_t row = blockIdx.x;
  const float* values = logits + row * vocab;
  Sum mine{-INFINITY, 0};
  constexpr int kLoads = 2;  // in flight at a time
  constexpr int64_t kStep = kHeadThreads * kSize;
  for (int64_t v = static_cast<int64_t>(threadIdx.x) * kSize; v < vocab; v += kLoads * kStep) {
    float x[kLoads * kSize];
    for (int n = 0; n < kLoads; ++n) {
      Values<float, kSize> some;
      for (int i = 0; i < kSize; ++i) some.at[i] = -INFINITY;
      if (v + n * kStep < vocab) some = load<float, kSize>(values + v + n * kStep);
      for (int i = 0; i < kSize; ++i) x[n * kSize + i] = some.at[i];
    }
    float top = x[0];
    for (const float value : x) top = fmaxf(top, value);
    const float shift = top == -INFINITY ? 0.0f : top;
    float sum = 0;
    for (const float value : x) sum += expf(value - shift);
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
    logprobs[i] = values[tokens[i]] - result;
}

// A thread takes kSize neighbours at a time, read kRead at a time. The gradients of a type of half the size
// land on floats that the block read in this step or before: the barrier keeps stores behind those reads.
template <typename T, int kSize, int kRead>
__global__ void __launch_bounds__(kHeadThreads)
    dlogits_kernel(float* logits, int64_t vocab, const float* lse, const int64_t* starts,
                   const int32_t* tokens, const float* weights) {
  const int64_t row = blockIdx.x;
  const float* values = logits + row * vocab;
  T* gradients = reinterpret_cast<T*>(logits + row * vocab);
  const int64_t first = starts[row], last = starts[row + 1];
  float total = 0;
  for (int64_t i = first; i < last; ++i) total += weights[i];
  const float shift = lse[row];
  for (int64_t begin = 0; begin < vocab; begin += kHeadThreads * kSize) {
    const int64_t v = begin + static_cast<int64_t>(threadIdx.x) * kSize;
    float x[kSize];
    if (v < vocab) {
      for (int part = 0; part < kSize; part += kRead) {
        const auto some = load<float, kRead>(values + v + part);
        for (int i = 0; i < kRead; ++i) x[part + i] = some.at[i];
      }
    }
    if constexpr (sizeof(T) < sizeof(float)) __syncthreads();
    if (v >= vocab) continue;
    for (int i = 0; i < kSize; ++i) x[i] = -total * expf(x[i] - shift);
    for (int64_t target = first; target < last; ++target) {
      const int64_t offset = tokens[target] - v;
      if (offset < 0 || offset >= kSize) continue;
      const float weight = weights[target];
      for (int i = 0; i < kSize; ++i) x[i] += i == offset ? weight : 0.0f;
    }
    Values<T, kSize> rounded_once;
    for (int i = 0; i < kSize; ++i) rounded_once.at[i] = rounded<T>(x[i]);
    store(gradients + v, rounded_once);
  }
}

}  // namespace

void lse_and_gather(float* lse, float* logprobs, const float* logits, int64_t rows, int64_t vocab,
                    const int64_t* starts, const int32_t* tokens, Stream stream) {
  if (rows == 0) return;
  const auto kernel = is_aligned({logits}, {vocab}, sizeof(float)) ? &lse_kernel<4> : &lse_kernel<1>;
  launch(kernel, static_cast<unsigned>(rows), kHeadThreads, 0, stream, lse, logprobs, logits, vocab, starts,
         tokens);
}

void dlogits(float* logits, Dtype gradient, int64_t rows, int64_t vocab, const float* lse,
             const int64_t* starts, const int32_t* tokens, const float* weights, Stream stream) {
  if (rows == 0) return;
  // The stride of what is stored decides: 8 bfloat16 or 4 float32 are 16 bytes.
  with_access(gradient, is_aligned({logits}, {vocab}, bytes_of(gradient)), [&](auto zero, auto size) {
    constexpr int kSize = decltype(size)::value;
    launch(&dlogits_kernel < decltype(zero), kSize, kSize == 8 ? 4 : kSize >, static_cast<unsigned>(rows),
           kHeadThreads, 0, stream, logits, vocab, lse, starts, tokens, weights);
  });
}

}  // namespace cream::gpu
