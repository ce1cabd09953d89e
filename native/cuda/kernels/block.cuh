// Reductions and scans over a block of kThreads threads, in a fixed order, and a select without sorting.
#pragma once

#include "cuda/kernels/common.cuh"

namespace cream::gpu {

using u64 = unsigned long long;
constexpr int kWarps = kThreads / kLanes;

// The result of combining every thread's value, in every thread.
template <typename T, typename Combine>
__device__ __forceinline__ T block_reduce(T x, Combine combine) {
  __shared__ T parts[kWarps];
  for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) x = combine(x, __shfl_xor_sync(kAllLanes, x, lanes));
  if (threadIdx.x % kLanes == 0) parts[threadIdx.x / kLanes] = x;
  __syncthreads();
  x = parts[0];
  for (int w = 1; w < kWarps; ++w) x = combine(x, parts[w]);
  __syncthreads();
  return x;
}

template <typename T>
struct Scanned {
  T before;  // sum of the threads before this one
  T total;
};

template <typename T>
__device__ __forceinline__ Scanned<T> block_scan(T x) {
  __shared__ T parts[kWarps];
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  T sum = x;
  for (int lanes = 1; lanes < kLanes; lanes *= 2) {
    const T other = __shfl_sync(kAllLanes, sum, lane >= lanes ? lane - lanes : lane);
    if (lane >= lanes) sum += other;
  }
  if (lane == kLanes - 1) parts[warp] = sum;
  __syncthreads();
  Scanned<T> result{0, 0};
  for (int w = 0; w < kWarps; ++w) {
    if (w == warp) result.before = result.total;
    result.total += parts[w];
  }
  result.before += sum - x;
  __syncthreads();
  return result;
}

constexpr int kDigits = 2048;  // values of an 11-bit digit
constexpr int kDigitsPerThread = kDigits / kThreads;

template <typename Weight>
struct Crossing {
  int bin;        // the first at which the running sum reaches the target; the last with weight if none does
  Weight before;  // sum of the bins before it
};

// bins [kDigits] in shared or global memory.
template <typename Weight>
__device__ __forceinline__ Crossing<Weight> find_crossing(const Weight* bins, Weight target) {
  __shared__ int found, last;
  __shared__ Weight before, before_last;
  Weight mine = 0;
  const int first = threadIdx.x * kDigitsPerThread;
  for (int i = 0; i < kDigitsPerThread; ++i) mine += bins[first + i];
  if (threadIdx.x == 0) {
    found = kDigits;
    last = 0;
    before_last = 0;
  }
  const Scanned<Weight> scan = block_scan(mine);
  Weight sum = scan.before;
  for (int i = 0; i < kDigitsPerThread; ++i) {
    const Weight next = sum + bins[first + i];
    if (sum < target && next >= target) {
      found = first + i;
      before = sum;
    }
    if (sum < scan.total && next == scan.total) {
      last = first + i;
      before_last = sum;
    }
    sum = next;
  }
  __syncthreads();
  const Crossing<Weight> result{found < kDigits ? found : last, found < kDigits ? before : before_last};
  __syncthreads();
  return result;
}

struct Selected {
  uint32_t key;
  u64 before;  // weight of all smaller keys
};

// The smallest key at which the weight of the keys up to it reaches `target` (>= 1), or the largest key.
// each(visit) calls visit(key, weight) for this thread's share of the items; bins is shared [kDigits].
template <typename Each>
__device__ __forceinline__ Selected select_key(u64* bins, u64 target, const Each& each) {
  uint32_t prefix = 0;
  u64 before = 0;
  for (int level = 0; level < 3; ++level) {
    const int shift = level == 0 ? 21 : level == 1 ? 10 : 0;
    const int width = level == 2 ? 10 : 11;
    for (int i = threadIdx.x; i < kDigits; i += kThreads) bins[i] = 0;
    __syncthreads();
    each([&](uint32_t key, u64 weight) {
      const bool same = level == 0 || (key >> (shift + width)) == prefix;
      if (same && weight > 0) atomicAdd(&bins[(key >> shift) & ((1u << width) - 1)], weight);
    });
    __syncthreads();
    const Crossing<u64> crossing = find_crossing<u64>(bins, target - before);
    prefix = prefix << width | static_cast<uint32_t>(crossing.bin);
    before += crossing.before;
  }
  return {prefix, before};
}

}  // namespace cream::gpu
