#include <algorithm>
#include <initializer_list>

#include "cuda/kernels/block.cuh"
#include "cuda/kernels/random.cuh"
#include "cuda/kernels/sampler.h"
#include "cuda/kernels/sampler_rows.cuh"

// Passes over the logits: statistics of chunks (all that greedy and plain sampling need, beside one chunk
// that is read again); for a truncated distribution a histogram of ranks, then the tokens near the cut. So a
// row is read once or three times, by as many blocks as it has chunks.

namespace cream::gpu {

namespace {

template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads) chunk_kernel(Call call, const T* logits, bool truncated) {
  const int64_t row = blockIdx.y;
  const int chunk = blockIdx.x;
  if (live_slot(call, row) < 0) return;
  if (truncated) {
    for (int i = chunk * kThreads + threadIdx.x; i < kDigits; i += call.chunks * kThreads) {
      call.scratch.masses[row * kDigits + i] = 0;
      call.scratch.counts[row * kDigits + i] = 0;
    }
    if (chunk == 0 && threadIdx.x == 0) call.scratch.num_entries[row] = 0;
  }
  float x[kPerThread];
  load_chunk<T, kSize>(x, logits_of(call, logits, row), chunk, call.vocab);
  float top = x[0];
  for (int i = 1; i < kPerThread; ++i) top = fmaxf(top, x[i]);
  top = block_reduce(top, [](float a, float b) { return fmaxf(a, b); });

  const float temperature = call.settings->temperature;
  const float inverse = temperature > 0 ? 1.0f / temperature : 1.0f;
  float sum = 0, tempered = 0;
  int32_t best = call.vocab;
  bool is_nan = false;
  for (int i = 0; i < kPerThread; ++i) {
    is_nan = is_nan || x[i] != x[i];
    if (x[i] == -INFINITY) continue;
    const float plain = expf(x[i] - top);
    sum += plain;
    tempered += inverse == 1.0f ? plain : weight_of(x[i], top, inverse);
    const int id = first_id<kSize>(chunk, i / kSize) + i % kSize;
    if (x[i] == top && id < best) best = id;
  }
  const auto add = [](float a, float b) { return a + b; };
  sum = block_reduce(is_nan ? NAN : sum, add);
  tempered = block_reduce(tempered, add);
  best = block_reduce(best, [](int32_t a, int32_t b) { return a < b ? a : b; });
  if (threadIdx.x == 0) call.scratch.partials[row * call.chunks + chunk] = {top, sum, tempered, best};
}

// How many tokens and how much mass each bin of a row holds.
template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads) histogram_kernel(Call call, const T* logits) {
  const int64_t row = blockIdx.y;
  if (live_slot(call, row) < 0) return;
  const Row stats = row_of(call, row);
  if (!stats.finite) return;
  __shared__ u64 masses[kDigits];
  __shared__ uint32_t counts[kDigits];
  for (int i = threadIdx.x; i < kDigits; i += kThreads) {
    masses[i] = 0;
    counts[i] = 0;
  }
  __syncthreads();
  const float inverse = 1.0f / call.settings->temperature;
  for (int chunk = blockIdx.x; chunk < call.chunks; chunk += gridDim.x) {
    float x[kPerThread];
    load_chunk<T, kSize>(x, logits_of(call, logits, row), chunk, call.vocab);
    for (int i = 0; i < kPerThread; ++i) {
      if (x[i] == -INFINITY) continue;
      const int bin = bin_of(x[i], stats.top, inverse);
      atomicAdd(&counts[bin], 1u);
      const u64 mass = mass_of(weight_of(x[i], stats.top, inverse));
      if (mass > 0) atomicAdd(&masses[bin], mass);
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kDigits; i += kThreads) {
    if (counts[i] == 0) continue;
    atomicAdd(&call.scratch.counts[row * kDigits + i], counts[i]);
    if (masses[i] > 0) atomicAdd(&call.scratch.masses[row * kDigits + i], masses[i]);
  }
}

__device__ __forceinline__ u64 share_of(u64 mass, float top_p) {
  const auto share = static_cast<u64>(ceil(static_cast<double>(top_p) * static_cast<double>(mass)));
  return share > 1 ? share : 1;
}

// The bins in which the cuts fall. Where top-k cuts inside a bin, the mass that top-p counts is known within
// that bin's, which bounds the bins among which top-p cuts.
__global__ void __launch_bounds__(kThreads) locate_kernel(Call call) {
  const int64_t row = blockIdx.x;
  if (live_slot(call, row) < 0) return;
  const u64* masses = call.scratch.masses + row * kDigits;
  const SamplerSettings settings = *call.settings;
  Cuts cuts{0, 0, 0, kDigits, kDigits, kDigits};
  const u64 total = block_scan([&] {
                      u64 mine = 0;
                      for (int i = threadIdx.x; i < kDigits; i += kThreads) mine += masses[i];
                      return mine;
                    }())
                        .total;
  u64 least = total, most = total;
  if (settings.top_k > 0 && settings.top_k < call.vocab) {
    const auto k = static_cast<uint32_t>(settings.top_k);
    const auto crossing = find_crossing<uint32_t>(call.scratch.counts + row * kDigits, k);
    cuts.rank_bin = crossing.bin;
    cuts.rank_left = k - crossing.before;
    u64 mine = 0;
    for (int i = threadIdx.x; i < crossing.bin; i += kThreads) mine += masses[i];
    least = cuts.before_rank = block_scan(mine).total;
    most = least + masses[crossing.bin];
    cuts.first_bin = cuts.last_bin = crossing.bin;
    cuts.certain = least;
  }
  if (settings.top_p < 1.0f) {
    const auto first = find_crossing<u64>(masses, share_of(least, settings.top_p));
    cuts.first_bin = first.bin;
    cuts.certain = first.before;
    cuts.last_bin = find_crossing<u64>(masses, share_of(most, settings.top_p)).bin;
  }
  if (threadIdx.x == 0) call.scratch.cuts[row] = cuts;
}

// Sums the mass of the tokens that are certainly kept, by chunk, and lists those that a cut may remove.
template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads) collect_kernel(Call call, const T* logits) {
  const int64_t row = blockIdx.y;
  if (live_slot(call, row) < 0) return;
  const Row stats = row_of(call, row);
  if (!stats.finite) return;
  const Cuts cuts = call.scratch.cuts[row];
  const float inverse = 1.0f / call.settings->temperature;
  for (int chunk = blockIdx.x; chunk < call.chunks; chunk += gridDim.x) {
    float x[kPerThread];
    load_chunk<T, kSize>(x, logits_of(call, logits, row), chunk, call.vocab);
    u64 mass = 0;
    for (int i = 0; i < kPerThread; ++i) {
      if (x[i] == -INFINITY) continue;
      const int bin = bin_of(x[i], stats.top, inverse);
      if (bin < cuts.first_bin) mass += mass_of(weight_of(x[i], stats.top, inverse));
      if ((bin >= cuts.first_bin && bin <= cuts.last_bin) || bin == cuts.rank_bin) {
        const uint32_t place = atomicAdd(&call.scratch.num_entries[row], 1u);
        const int id = first_id<kSize>(chunk, i / kSize) + i % kSize;
        if (place < kListed) call.scratch.entries[row * kListed + place] = {x[i], id};
      }
    }
    mass = block_reduce(mass, [](u64 a, u64 b) { return a + b; });
    if (threadIdx.x == 0) call.scratch.chunk_masses[row * call.chunks + chunk] = mass;
  }
}

// Keeps logits above `key`'s, and of those equal to it the ids up to `id`.
struct Limit {
  uint32_t key = 0xFFFFFFFFu;
  uint32_t id = 0xFFFFFFFFu;
  __device__ bool keeps(uint32_t other, int32_t other_id) const {
    return other < key || (other == key && static_cast<uint32_t>(other_id) <= id);
  }
};

// The limit that keeps the first tokens, in order of (logit descending, id ascending), whose weights reach
// `target`. Equal logits have equal weights.
template <typename Each, typename Weight>
__device__ __forceinline__ Limit limit_at(u64* bins, u64 target, const Each& each, const Weight& weight) {
  const Selected cut = select_key(
      bins, target, [&](const auto& visit) { each([&](float x, int32_t) { visit(key_of(x), weight(x)); }); });
  // The key of a logit, undone.
  const float x = __uint_as_float((cut.key & 0x80000000u) != 0 ? cut.key : ~cut.key & 0x7FFFFFFFu);
  const u64 one = weight(x) > 0 ? weight(x) : 1;
  const u64 missing = target > cut.before ? target - cut.before : 1;
  const Selected last = select_key(bins, (missing + one - 1) / one, [&](const auto& visit) {
    each([&](float y, int32_t id) {
      if (key_of(y) == cut.key) visit(static_cast<uint32_t>(id), 1);
    });
  });
  return {cut.key, last.key};
}

// The first id of a chunk at which the running sum of weight(id) exceeds `target`; where rounding leaves it
// unreached, the last id that has weight. A thread reads consecutive ids.
template <typename Sum, typename Weight>
__device__ __forceinline__ int draw_in_chunk(int chunk, int vocab, Sum target, const Weight& weight) {
  __shared__ int chosen, last;
  if (threadIdx.x == 0) {
    chosen = vocab;
    last = 0;
  }
  const int begin = chunk * kChunk + static_cast<int>(threadIdx.x) * kPerThread;
  Sum weights[kPerThread], mine = 0;
  for (int i = 0; i < kPerThread; ++i) {
    weights[i] = begin + i < vocab ? weight(begin + i) : Sum(0);
    mine += weights[i];
  }
  const Scanned<Sum> scan = block_scan(mine);
  Sum sum = scan.before;
  for (int i = 0; i < kPerThread; ++i) {
    if (weights[i] == 0) continue;
    // Sums over threads and within one round differently, so two threads may see the crossing.
    if (sum <= target && sum + weights[i] > target) atomicMin(&chosen, begin + i);
    sum += weights[i];
    atomicMax(&last, begin + i);
  }
  __syncthreads();
  const int result = chosen < vocab ? chosen : last;
  __syncthreads();
  return result;
}

template <typename T>
__device__ __forceinline__ int draw_plain(const Call& call, const T* logits, const Row& stats, int64_t row,
                                          float uniform, float inverse) {
  __shared__ int chosen;
  __shared__ double left;
  if (threadIdx.x == 0) {
    const Partial* parts = call.scratch.partials + row * call.chunks;
    const auto mass = [&](int c) {
      return parts[c].tempered > 0 ? static_cast<double>(parts[c].tempered) *
                                         static_cast<double>(weight_of(parts[c].top, stats.top, inverse))
                                   : 0.0;
    };
    double total = 0;
    for (int c = 0; c < call.chunks; ++c) total += mass(c);
    const double target = static_cast<double>(uniform) * total;
    double passed = 0;
    chosen = 0;  // where no token has any mass
    left = 0;
    for (int c = 0; c < call.chunks && passed <= target; ++c) {
      if (mass(c) == 0) continue;
      chosen = c;
      left = target - passed;
      passed += mass(c);
    }
  }
  __syncthreads();
  return draw_in_chunk<double>(chosen, call.vocab, left, [&](int id) {
    return static_cast<double>(weight_of(as_float(logits[id]), stats.top, inverse));
  });
}

template <typename T>
__device__ __forceinline__ int draw_truncated(const Call& call, const T* logits, const Row& stats,
                                              int64_t row, float uniform, float inverse) {
  __shared__ u64 bins[kDigits];
  __shared__ u64 chunk_masses[kMaxChunks];
  const Cuts cuts = call.scratch.cuts[row];
  const uint32_t listed = call.scratch.num_entries[row];
  const Entry* entries = call.scratch.entries + row * kListed;
  const float top_p = call.settings->top_p;

  const auto mass = [&](float x) { return mass_of(weight_of(x, stats.top, inverse)); };
  const auto bin = [&](float x) { return bin_of(x, stats.top, inverse); };
  // visit(x, id) for this thread's share of the tokens that a cut may remove.
  const auto each = [&](const auto& visit) {
    if (listed <= kListed) {
      for (uint32_t i = threadIdx.x; i < listed; i += kThreads) visit(entries[i].x, entries[i].id);
      return;
    }
    for (int id = threadIdx.x; id < call.vocab; id += kThreads) {
      const float x = as_float(logits[id]);
      if (x == -INFINITY) continue;
      const int b = bin(x);
      if ((b >= cuts.first_bin && b <= cuts.last_bin) || b == cuts.rank_bin) visit(x, id);
    }
  };
  const auto mass_where = [&](const auto& condition) {
    u64 mine = 0;
    each([&](float x, int32_t id) { mine += condition(x, id) ? mass(x) : 0; });
    return block_scan(mine).total;
  };

  Limit by_rank, by_mass;
  if (cuts.rank_bin < kDigits) {
    by_rank = limit_at(
        bins, cuts.rank_left,
        [&](const auto& visit) {
          each([&](float x, int32_t id) {
            if (bin(x) == cuts.rank_bin) visit(x, id);
          });
        },
        [](float) { return u64{1}; });
  }
  const auto ranked = [&](float x, int32_t id) { return by_rank.keeps(key_of(x), id); };
  if (top_p < 1.0f) {
    u64 total = 0;
    if (cuts.rank_bin < kDigits) {
      total = cuts.before_rank +
              mass_where([&](float x, int32_t id) { return bin(x) == cuts.rank_bin && ranked(x, id); });
    } else {
      u64 mine = 0;
      for (int i = threadIdx.x; i < kDigits; i += kThreads) mine += call.scratch.masses[row * kDigits + i];
      total = block_scan(mine).total;
    }
    const u64 share = share_of(total, top_p);
    by_mass = limit_at(
        bins, share > cuts.certain ? share - cuts.certain : 1,
        [&](const auto& visit) {
          each([&](float x, int32_t id) {
            const int b = bin(x);
            if (b >= cuts.first_bin && b <= cuts.last_bin && ranked(x, id)) visit(x, id);
          });
        },
        mass);
  }
  const auto kept = [&](float x, int32_t id) { return ranked(x, id) && by_mass.keeps(key_of(x), id); };

  for (int c = threadIdx.x; c < call.chunks; c += kThreads)
    chunk_masses[c] = call.scratch.chunk_masses[row * call.chunks + c];
  __syncthreads();
  each([&](float x, int32_t id) {
    if (bin(x) >= cuts.first_bin && kept(x, id)) atomicAdd(&chunk_masses[id / kChunk], mass(x));
  });
  __syncthreads();
  __shared__ int chosen;
  __shared__ u64 left;
  if (threadIdx.x == 0) {
    u64 total = 0;
    for (int c = 0; c < call.chunks; ++c) total += chunk_masses[c];
    const auto target = static_cast<u64>(static_cast<double>(uniform) * static_cast<double>(total));
    u64 passed = 0;
    chosen = 0;
    left = 0;
    for (int c = 0; c < call.chunks && passed <= target; ++c) {
      if (chunk_masses[c] == 0) continue;
      chosen = c;
      left = target - passed;
      passed += chunk_masses[c];
    }
  }
  __syncthreads();
  return draw_in_chunk<u64>(chosen, call.vocab, left, [&](int id) -> u64 {
    const float x = as_float(logits[id]);
    return x != -INFINITY && kept(x, id) ? mass(x) : 0;
  });
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    choose_kernel(Call call, const T* all_logits, SamplerMode mode, Slots slots, const uint32_t* stops) {
  const int64_t row = blockIdx.x;
  const int slot = live_slot(call, row);
  if (slot < 0) return;
  const Row stats = row_of(call, row);
  if (!stats.finite) {
    __syncthreads();
    if (threadIdx.x == 0) slots.state[slot] = static_cast<int32_t>(SlotState::kNotFinite);
    return;
  }
  const T* logits = logits_of(call, all_logits, row);
  const SamplerSettings settings = *call.settings;
  const int count = slots.count[slot];
  int id = stats.best;
  if (mode != SamplerMode::kGreedy) {
    const float inverse = 1.0f / settings.temperature;
    const uint32_t* key = slots.key + 3 * slot;
    const Bits4 bits = random_bits({{key[0], key[1], key[2], static_cast<uint32_t>(count)}}, settings.seed[0],
                                   settings.seed[1]);
    // In (0, 1), as uniform_open of ops/philox.h.
    const float uniform = (static_cast<float>(bits.at[0] >> 8) + 0.5f) * (1.0f / 16777216.0f);
    id = mode == SamplerMode::kPlain ? draw_plain(call, logits, stats, row, uniform, inverse)
                                     : draw_truncated(call, logits, stats, row, uniform, inverse);
  }
  __syncthreads();  // every thread has read the slot's state
  if (threadIdx.x != 0) return;
  const double exact = static_cast<double>(as_float(logits[id])) - static_cast<double>(stats.top);
  const auto logprob = static_cast<float>(exact - log(stats.sum));
  slots.ids[slot * slots.capacity + count] = id;
  slots.logprobs[slot * slots.capacity + count] = logprob;
  slots.logprob_sum[slot] += static_cast<double>(logprob);
  slots.token[slot] = id;
  slots.count[slot] = count + 1;
  const bool stopped = (stops[id / 32] >> (id % 32) & 1u) != 0;
  const bool full = count + 1 >= slots.limit[slot];
  if (stopped || full) {
    slots.state[slot] = static_cast<int32_t>(stopped ? SlotState::kStopped : SlotState::kFull);
  }
}

int64_t chunks_of(int64_t vocab) { return (vocab + kChunk - 1) / kChunk; }

// Hands out consecutive arrays; with a null base it only counts.
struct Carver {
  char* base;
  int64_t used = 0;
  template <typename T>
  T* take(int64_t count) {
    T* const result = reinterpret_cast<T*>(base + used);
    used += (count * static_cast<int64_t>(sizeof(T)) + 15) / 16 * 16;
    return result;
  }
};

Scratch carve(Carver& carver, int64_t rows, int64_t vocab, SamplerMode mode) {
  const bool truncated = mode == SamplerMode::kTruncated;
  const int64_t cut_rows = truncated ? rows : 0;
  Scratch scratch;
  scratch.partials = carver.take<Partial>(rows * chunks_of(vocab));
  scratch.masses = carver.take<u64>(cut_rows * kDigits);
  scratch.cuts = carver.take<Cuts>(cut_rows);
  scratch.chunk_masses = carver.take<u64>(cut_rows * chunks_of(vocab));
  scratch.entries = carver.take<Entry>(cut_rows * kListed);
  scratch.counts = carver.take<uint32_t>(cut_rows * kDigits);
  scratch.num_entries = carver.take<uint32_t>(cut_rows);
  return scratch;
}

}  // namespace

int64_t sampler_scratch(int64_t rows, int64_t vocab, SamplerMode mode) {
  Carver carver{nullptr};
  carve(carver, rows, vocab, mode);
  return carver.used;
}

void sample(const SamplerRows& rows, SamplerMode mode, const SamplerSettings* settings, const Slots& slots,
            const uint32_t* stops, void* scratch, Stream stream) {
  if (rows.rows == 0) return;
  Carver carver{static_cast<char*>(scratch)};
  const auto chunks = static_cast<unsigned>(chunks_of(rows.vocab));
  const auto num_rows = static_cast<unsigned>(rows.rows);
  const Call call{rows.slots,
                  rows.sources,
                  slots.state,
                  settings,
                  carve(carver, rows.rows, rows.vocab, mode),
                  static_cast<int32_t>(rows.vocab),
                  static_cast<int32_t>(chunks)};
  const bool truncated = mode == SamplerMode::kTruncated;
  const bool aligned = is_aligned({rows.logits}, {rows.vocab}, bytes_of(rows.dtype));
  with_access(rows.dtype, aligned, [&](auto zero, auto size) {
    using T = decltype(zero);
    constexpr int kSize = decltype(size)::value;
    const T* logits = static_cast<const T*>(rows.logits);
    launch(&chunk_kernel<T, kSize>, dim3(chunks, num_rows), kThreads, 0, stream, call, logits, truncated);
    if (truncated) {
      const dim3 spans(std::min<unsigned>(chunks, kSpans), num_rows);
      launch(&histogram_kernel<T, kSize>, spans, kThreads, 0, stream, call, logits);
      launch(&locate_kernel, num_rows, kThreads, 0, stream, call);
      launch(&collect_kernel<T, kSize>, spans, kThreads, 0, stream, call, logits);
    }
    launch(&choose_kernel<T>, num_rows, kThreads, 0, stream, call, logits, mode, slots, stops);
  });
}

}  // namespace cream::gpu
