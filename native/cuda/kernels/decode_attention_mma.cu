#include <initializer_list>

#include "cuda/kernels/decode_attention.cuh"
#include "cuda/kernels/mma.cuh"

// Attention of bfloat16 queries by products of tiles: 16 queries (rows that share a prompt times heads that
// share a key head) by 16 tokens. Keys and values go from memory to the registers in which the products want
// them, without shared memory, because the order of the summed dimension and of the output's columns is free:
// a lane's 16 bytes of a key are two of its four-value shares, a column of an output tile is every 8th of 64.
// Weights of tokens are split into two bfloat16 numbers, so that values are weighted with 16 bits.

namespace cream::gpu {

namespace {

constexpr int kWarps = kAttentionThreads / kLanes;
constexpr int kTokens = 16;  // of a tile
constexpr int kQueries = 16;

// Shares of a lane: 16 bytes of each key for every 32 columns, four lanes a key; of each value 16 bytes for
// every 64 columns, eight lanes a value, and 8 bytes of 32 columns that are left.
template <int kDim>
struct Share {
  static constexpr int kKeyVectors = kDim / 32;
  static constexpr int kWideVectors = kDim / 64;
  static constexpr bool kNarrow = kDim % 64 != 0;
  static constexpr int kWords = kDim / 16;  // of a value
};

__device__ __forceinline__ const uint32_t* words_at(const bf16* x) {
  return reinterpret_cast<const uint32_t*>(x);
}

template <int kDim>
__device__ __forceinline__ void load_keys(Values<uint32_t, 4> (&key)[2][kDim / 32], const bf16* keys, int t0,
                                          int end, int group, int quad) {
  for (int n = 0; n < 2; ++n) {
    const int t = t0 + 8 * n + group;
    for (int v = 0; v < kDim / 32; ++v) {
      key[n][v] = {};
      if (t < end)
        key[n][v] = load<uint32_t, 4>(words_at(keys + static_cast<int64_t>(t) * kDim + 32 * v + 8 * quad));
    }
  }
}

// Zeros past the end: what was never written may be anything, and a weight of zero does not make it zero.
template <int kDim>
__device__ __forceinline__ void load_values(uint32_t (&value)[4][kDim / 16], const bf16* values, int t0,
                                            int end, int group, int quad) {
  using Mine = Share<kDim>;
  for (int i = 0; i < 4; ++i) {
    const int t = t0 + i / 2 * 8 + 2 * quad + i % 2;
    const bf16* from = values + static_cast<int64_t>(t) * kDim;
    for (int v = 0; v < Mine::kWideVectors; ++v) {
      Values<uint32_t, 4> loaded{};
      if (t < end) loaded = load<uint32_t, 4>(words_at(from + 64 * v + 8 * group));
      for (int w = 0; w < 4; ++w) value[i][4 * v + w] = loaded.at[w];
    }
    if constexpr (Mine::kNarrow) {
      Values<uint32_t, 2> loaded{};
      if (t < end) loaded = load<uint32_t, 2>(words_at(from + 64 * Mine::kWideVectors + 4 * group));
      for (int w = 0; w < 2; ++w) value[i][4 * Mine::kWideVectors + w] = loaded.at[w];
    }
  }
}

__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
  return fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
}
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(kAllLanes, x, 1);
  return x + __shfl_xor_sync(kAllLanes, x, 2);
}

// A pass takes up to kWarps tiles of an item's queries; warps that have the same tile share its tokens.
template <int kDim>
__global__ void __launch_bounds__(kAttentionThreads, kDim <= 32   ? 4
                                                     : kDim <= 96 ? 3
                                                                  : 2)
    tile_attention_kernel(AttentionCall call, const bf16* qkv) {
  using Mine = Share<kDim>;
  constexpr int kWidth = kDim + 2;  // of a query in shared memory: mixed values, maximum, sum
  CREAM_DYNAMIC_SHARED(float, shared);
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes, group = lane / 4, quad = lane % 4;
  const int kv_head = blockIdx.y;
  const int num_items = *call.schedule.num_items;
  const int64_t total = num_items + call.rows * call.pieces.response_count;

  for (int64_t index = blockIdx.x; index < total; index += gridDim.x) {
    const AttentionItem item = item_at(call, index, num_items);
    if (item.begin == item.end) continue;
    const bool own = index >= num_items;
    const int64_t head_begin =
        ((call.layer * call.kv_heads + kv_head) * call.memory->tokens + item.place) * kDim;
    const bf16* keys = in_device_memory<const bf16>(call.memory->keys) + head_begin;
    const bf16* values = in_device_memory<const bf16>(call.memory->values) + head_begin;

    const int num_queries = item.num_rows * (call.heads / call.kv_heads);
    for (int q0 = 0; q0 < num_queries; q0 += kWarps * kQueries) {
      const int tiles = (num_queries - q0 + kQueries - 1) / kQueries;
      const int ways = tiles == 1 ? kWarps : tiles == 2 ? kWarps / 2 : 1;  // warps of a tile
      const int tile = warp / ways;

      uint32_t query[2 * Mine::kKeyVectors][4];
      int from[2];  // first visible token of queries `group` and `group` + 8 of the tile
      for (int half = 0; half < 2; ++half) {
        const int q = q0 + tile * kQueries + 8 * half + group;
        const AttentionQuery at = query_at(call, item, kv_head, q);
        const int slot = q < num_queries ? live_slot(call, at.row) : -1;
        from[half] = visible_from(call, item, slot, own);
        const int64_t row_begin = static_cast<int64_t>(at.row) * (call.heads + 2 * call.kv_heads) * kDim;
        for (int v = 0; v < Mine::kKeyVectors; ++v) {
          Values<uint32_t, 4> loaded{};
          if (slot >= 0)
            loaded = load<uint32_t, 4>(words_at(qkv + row_begin + at.head * kDim + 32 * v + 8 * quad));
          query[2 * v][half] = loaded.at[0];
          query[2 * v][2 + half] = loaded.at[1];
          query[2 * v + 1][half] = loaded.at[2];
          query[2 * v + 1][2 + half] = loaded.at[3];
        }
      }
      int first = from[0] < from[1] ? from[0] : from[1];
      for (int lanes = 4; lanes < kLanes; lanes *= 2) {
        const int other = __shfl_xor_sync(kAllLanes, first, lanes);
        first = other < first ? other : first;
      }

      float mixed[2 * Mine::kWords][4], top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
      for (int o = 0; o < 2 * Mine::kWords; ++o) {
        for (int i = 0; i < 4; ++i) mixed[o][i] = 0;
      }
      // Tiles begin at multiples of their length, wherever a window begins.
      const int end = first < item.end ? item.end : item.begin;
      int t0 = item.begin + ((first - item.begin) / kTokens + warp % ways) * kTokens;
      Values<uint32_t, 4> key[2][Mine::kKeyVectors];
      load_keys<kDim>(key, keys, t0, end, group, quad);
      for (; t0 < end; t0 += ways * kTokens) {
        uint32_t value[4][Mine::kWords];
        load_values<kDim>(value, values, t0, end, group, quad);
        float score[2][4];
        for (int n = 0; n < 2; ++n) {
          for (int i = 0; i < 4; ++i) score[n][i] = 0;
          for (int v = 0; v < Mine::kKeyVectors; ++v) {
            const uint32_t even[2] = {key[n][v].at[0], key[n][v].at[1]};
            const uint32_t odd[2] = {key[n][v].at[2], key[n][v].at[3]};
            multiply_tiles(score[n], query[2 * v], even);
            multiply_tiles(score[n], query[2 * v + 1], odd);
          }
        }
        load_keys<kDim>(key, keys, t0 + ways * kTokens, end, group, quad);

        float kept[2];
        for (int half = 0; half < 2; ++half) {
          float best = top[half];
          for (int n = 0; n < 2; ++n) {
            for (int i = 2 * half; i < 2 * half + 2; ++i) {
              const int t = t0 + 8 * n + 2 * quad + i % 2;
              score[n][i] = t >= from[half] && t < end ? score[n][i] * call.scale : -INFINITY;
              best = fmaxf(best, score[n][i]);
            }
          }
          best = quad_max(best);
          const float base = best == -INFINITY ? 0.0f : best;
          kept[half] = expf(top[half] - base);
          top[half] = best;
          sum[half] *= kept[half];
          for (int n = 0; n < 2; ++n) {
            for (int i = 2 * half; i < 2 * half + 2; ++i) {
              score[n][i] = expf(score[n][i] - base);
              sum[half] += score[n][i];
            }
          }
        }
        uint32_t weight[4], rest[4];
        for (int n = 0; n < 2; ++n) {
          for (int half = 0; half < 2; ++half) {
            const float low = score[n][2 * half], high = score[n][2 * half + 1];
            const uint32_t word = in_word(low, high);
            weight[2 * n + half] = word;
            rest[2 * n + half] = in_word(low - low_of(word), high - high_of(word));
          }
        }
        for (int w = 0; w < Mine::kWords; ++w) {
          const uint32_t low[2] = {low_halves(value[0][w], value[1][w]),
                                   low_halves(value[2][w], value[3][w])};
          const uint32_t high[2] = {high_halves(value[0][w], value[1][w]),
                                    high_halves(value[2][w], value[3][w])};
          for (int i = 0; i < 4; ++i) {
            mixed[2 * w][i] *= kept[i / 2];
            mixed[2 * w + 1][i] *= kept[i / 2];
          }
          multiply_tiles(mixed[2 * w], weight, low);
          multiply_tiles(mixed[2 * w], rest, low);
          multiply_tiles(mixed[2 * w + 1], weight, high);
          multiply_tiles(mixed[2 * w + 1], rest, high);
        }
      }

      for (int half = 0; half < 2; ++half) {
        float* to = shared + (warp * kQueries + 8 * half + group) * kWidth;
        // Columns 2 quad + i of output tiles 2 word and 2 word + 1.
        const auto put = [&](int column, int word, int i) {
          to[column] = mixed[2 * word][2 * half + i];
          to[column + 1] = mixed[2 * word + 1][2 * half + i];
        };
        for (int i = 0; i < 2; ++i) {
          for (int w = 0; w < 4 * Mine::kWideVectors; ++w)
            put(w / 4 * 64 + 8 * (2 * quad + i) + w % 4 * 2, w, i);
          for (int w = 4 * Mine::kWideVectors; w < Mine::kWords; ++w)
            put(Mine::kWideVectors * 64 + 4 * (2 * quad + i) + w % 4 * 2, w, i);
        }
        const float all = quad_sum(sum[half]);
        if (quad == 0) {
          to[kDim] = top[half];
          to[kDim + 1] = all;
        }
      }
      __syncthreads();
      const int left = num_queries - q0, here = left < kWarps * kQueries ? left : kWarps * kQueries;
      for (int i = threadIdx.x; i < here * kDim; i += kAttentionThreads) {
        const int m = i / kDim;
        const float* parts = shared + (m / kQueries * ways * kQueries + m % kQueries) * kWidth;
        merge_parts(call, item, kv_head, q0 + m, i % kDim, parts, ways, kQueries * kWidth);
      }
      __syncthreads();
    }
  }
}

template <typename Body>
bool with_dim(int64_t head_dim, const Body& body) {
  switch (head_dim) {
    case 32:
      return body(Constant<32>{}), true;
    case 64:
      return body(Constant<64>{}), true;
    case 96:
      return body(Constant<96>{}), true;
    case 128:
      return body(Constant<128>{}), true;
    default:
      return false;
  }
}

bool device_multiplies_tiles() {
#ifdef __CUDACC__
  int device = 0, major = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
         major >= 8;
#else
  return true;
#endif
}

}  // namespace

bool has_tile_attention(const DecodeShape& shape, bool aligned) {
  return aligned && device_multiplies_tiles() && shape.dtype == Dtype::kBFloat16 &&
         with_dim(shape.head_dim, [](auto) {});
}

void start_tile_attention(const AttentionCall& call, const void* qkv, dim3 grid, Stream stream) {
  with_dim(call.head_dim, [&](auto dim) {
    constexpr int kDim = decltype(dim)::value;
    constexpr size_t kShared = sizeof(float) * kWarps * kQueries * (kDim + 2);
    launch(&tile_attention_kernel<kDim>, grid, kAttentionThreads, kShared, stream, call,
           static_cast<const bf16*>(qkv));
  });
}

}  // namespace cream::gpu
