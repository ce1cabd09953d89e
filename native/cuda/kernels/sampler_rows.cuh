// What the passes of the sampler share: their scratch memory, a row's statistics, and the measures of a
// logit.
#pragma once

#include "cuda/kernels/block.cuh"
#include "cuda/kernels/sampler.h"

namespace cream::gpu {

namespace {

constexpr int kPerThread = 16;
constexpr int kChunk = kThreads * kPerThread;  // ids that a block reads at once
constexpr int kMaxChunks = static_cast<int>(kSamplerMaxVocab / kChunk);
constexpr int kSpans = 8;      // blocks per row that walk over chunks
constexpr int kListed = 8192;  // tokens near the cut that are kept aside; beyond it the row is read again

// Of one chunk; the sums count from its own maximum.
struct Partial {
  float top, sum, tempered;
  int32_t best;  // the lowest id with the maximum
};

// Of one row, relative to its maximum.
struct Row {
  float top;
  double sum;  // of exp(x - top)
  int32_t best;
  bool finite;
};

struct Entry {
  float x;
  int32_t id;
};

// Where the cuts of a row fall in its histogram. Bins count away from the maximum.
struct Cuts {
  u64 certain;                  // mass of the bins before first_bin
  u64 before_rank;              // mass of the bins before rank_bin
  u64 rank_left;                // tokens that top-k keeps of rank_bin
  int32_t rank_bin;             // that top-k cuts; kDigits: none
  int32_t first_bin, last_bin;  // among which top-p cuts
};

// Scratch memory of all rows.
struct Scratch {
  Partial* partials;      // [rows, chunks]
  u64* masses;            // [rows, kDigits]
  Cuts* cuts;             // [rows]
  u64* chunk_masses;      // [rows, chunks] certain mass
  Entry* entries;         // [rows, kListed]
  uint32_t* counts;       // [rows, kDigits]
  uint32_t* num_entries;  // [rows]
};

struct Call {
  const int32_t* slots;
  const int32_t* sources;
  const int32_t* states;
  const SamplerSettings* settings;
  Scratch scratch;
  int32_t vocab, chunks;
};

// The slot of a row whose response is live, else -1.
__device__ __forceinline__ int live_slot(const Call& call, int64_t row) {
  const int slot = call.slots[row];
  return slot >= 0 && call.states[slot] == static_cast<int32_t>(SlotState::kLive) ? slot : -1;
}

template <typename T>
__device__ __forceinline__ const T* logits_of(const Call& call, const T* logits, int64_t row) {
  return logits + (call.sources != nullptr ? call.sources[row] : row) * static_cast<int64_t>(call.vocab);
}

// This thread's share of a chunk: vector v begins at id first_id(v). Ids past the vocabulary are -inf.
template <int kSize>
__device__ __forceinline__ int first_id(int chunk, int v) {
  return chunk * kChunk + (v * kThreads + static_cast<int>(threadIdx.x)) * kSize;
}
template <typename T, int kSize>
__device__ __forceinline__ void load_chunk(float (&x)[kPerThread], const T* row, int chunk, int vocab) {
  for (int v = 0; v < kPerThread / kSize; ++v) {
    const int id = first_id<kSize>(chunk, v);
    if (id < vocab) {
      const auto values = load<T, kSize>(row + id);
      for (int i = 0; i < kSize; ++i) x[v * kSize + i] = as_float(values.at[i]);
    } else {
      for (int i = 0; i < kSize; ++i) x[v * kSize + i] = -INFINITY;
    }
  }
}

// Unnormalised probability under the temperature, in (0, 1], and as a whole number of 2^-42: whole numbers
// add up to the same sum in any order.
__device__ __forceinline__ float weight_of(float x, float top, float inverse_temperature) {
  return expf((x - top) * inverse_temperature);
}
__device__ __forceinline__ u64 mass_of(float weight) { return static_cast<u64>(weight * 4398046511104.0f); }

// Steps of 1/128 of 1 + the distance from the maximum, in units of the temperature.
__device__ __forceinline__ int bin_of(float x, float top, float inverse_temperature) {
  // fmaf by name: every pass must find the same bin, however the compiler would round.
  const float from_one = fmaf(top - x, inverse_temperature, 1.0f);
  const uint32_t steps = (__float_as_uint(from_one) - __float_as_uint(1.0f)) >> 16;
  return steps < kDigits ? static_cast<int>(steps) : kDigits - 1;
}

// Smaller for larger logits; one key for both zeros.
__device__ __forceinline__ uint32_t key_of(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0f);
  return (bits & 0x80000000u) != 0 ? bits : ~bits & 0x7FFFFFFFu;
}

__device__ __forceinline__ Row row_of(const Call& call, int64_t row) {
  const Partial* parts = call.scratch.partials + row * call.chunks;
  const int lane = threadIdx.x % kLanes;
  float top = -INFINITY;
  for (int c = lane; c < call.chunks; c += kLanes) top = fmaxf(top, parts[c].top);
  top = warp_max(top);
  double sum = 0;
  int32_t best = call.vocab;
  for (int c = lane; c < call.chunks; c += kLanes) {
    if (parts[c].sum == 0) continue;
    sum += static_cast<double>(parts[c].sum) * static_cast<double>(expf(parts[c].top - top));
    if (parts[c].top == top && parts[c].best < best) best = parts[c].best;
  }
  for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) {
    sum += __shfl_xor_sync(kAllLanes, sum, lanes);
    const int32_t other = __shfl_xor_sync(kAllLanes, best, lanes);
    best = other < best ? other : best;
  }
  // A NaN or +inf anywhere makes the sum NaN; a row of -inf alone leaves it 0.
  return {top, sum, best, sum > 0 && sum < 1e30};
}

}  // namespace

}  // namespace cream::gpu
