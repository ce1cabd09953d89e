#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <stdexcept>
#include <string>

#include "cuda/kernels/decode_attention.cuh"

// A block takes one item (a stretch of a prompt with the rows that share it, or a stretch of one row's own
// tokens) and one key/value head. A group of kGroup lanes walks over every n-th token, with its own running
// softmax; the groups are merged in shared memory, the items of a row by a second kernel. The rows of a
// prompt item beyond kRows walk over the same keys and values again, which are then in the caches.

namespace cream::gpu {

namespace {

constexpr int kUnroll = 4;            // tokens in flight per group
constexpr int64_t kMaxBlocks = 2048;  // beyond it blocks walk over items

// kVectors vectors of kSize columns per lane; queries come kRows at a time.
template <typename T, int kSize, int kGroup, int kVectors, int kRows>
__global__ void __launch_bounds__(kAttentionThreads, kRows * kSize * kVectors <= 32 ? 3 : 2)
    attention_kernel(AttentionCall call, const T* qkv) {
  constexpr int kColumns = kSize * kVectors;
  constexpr int kGroups = kAttentionThreads / kGroup;
  CREAM_DYNAMIC_SHARED(float, shared);
  const int lane = threadIdx.x % kGroup, group = threadIdx.x / kGroup;
  const int kv_head = blockIdx.y, per_kv = call.heads / call.kv_heads, dim = call.head_dim;
  const int num_items = *call.schedule.num_items;
  const int64_t total = num_items + call.rows * call.pieces.response_count;
  const auto column = [&](int v) { return (v * kGroup + lane) * kSize; };

  for (int64_t index = blockIdx.x; index < total; index += gridDim.x) {
    const AttentionItem item = item_at(call, index, num_items);
    if (item.begin == item.end) continue;
    const bool own = index >= num_items;
    const int64_t head_begin =
        ((call.layer * call.kv_heads + kv_head) * call.memory->tokens + item.place) * dim;
    const T* keys = in_device_memory<const T>(call.memory->keys) + head_begin;
    const T* values = in_device_memory<const T>(call.memory->values) + head_begin;

    // Queries q0 .. q0 + kRows - 1 of the item: query q is head q % per_kv of row q / per_kv.
    const int num_queries = item.num_rows * per_kv;
    for (int q0 = 0; q0 < num_queries; q0 += kRows) {
      float query[kRows][kColumns], mixed[kRows][kColumns], top[kRows], sum[kRows];
      int from[kRows];  // first visible token of the item
      for (int m = 0; m < kRows; ++m) {
        top[m] = -INFINITY;
        sum[m] = 0;
        const int row = item.first_row + (q0 + m) / per_kv;
        const int slot = q0 + m < num_queries ? live_slot(call, row) : -1;
        from[m] = visible_from(call, item, slot, own);
        const int head = kv_head * per_kv + (q0 + m) % per_kv;
        const T* q = qkv + (static_cast<int64_t>(row) * (call.heads + 2 * call.kv_heads) + head) * dim;
        for (int v = 0; v < kVectors; ++v) {
          Values<T, kSize> loaded{};
          if (slot >= 0 && column(v) < dim) loaded = load<T, kSize>(q + column(v));
          for (int i = 0; i < kSize; ++i) {
            query[m][v * kSize + i] = as_float(loaded.at[i]) * call.scale;
            mixed[m][v * kSize + i] = 0;
          }
        }
      }
      int first = item.end;
      for (int m = 0; m < kRows; ++m) first = from[m] < first ? from[m] : first;

      // The groups of a warp take part in its exchanges until the last is done.
      for (int t0 = first; t0 < item.end; t0 += kGroups * kUnroll) {
        Values<T, kSize> key[kUnroll][kVectors], value[kUnroll][kVectors];
        for (int u = 0; u < kUnroll; ++u) {
          const int t = t0 + u * kGroups + group;
          for (int v = 0; v < kVectors; ++v) {
            key[u][v] = value[u][v] = Values<T, kSize>{};
            if (t >= item.end || column(v) >= dim) continue;
            key[u][v] = load<T, kSize>(keys + static_cast<int64_t>(t) * dim + column(v));
            value[u][v] = load<T, kSize>(values + static_cast<int64_t>(t) * dim + column(v));
          }
        }
        float score[kUnroll][kRows];
        for (int u = 0; u < kUnroll; ++u) {
          for (int m = 0; m < kRows; ++m) score[u][m] = 0;
          for (int v = 0; v < kVectors; ++v) {
            for (int i = 0; i < kSize; ++i) {
              const float k = as_float(key[u][v].at[i]);
              for (int m = 0; m < kRows; ++m) score[u][m] += query[m][v * kSize + i] * k;
            }
          }
        }
        for (int lanes = kGroup / 2; lanes > 0; lanes /= 2) {
          for (int u = 0; u < kUnroll; ++u) {
            for (int m = 0; m < kRows; ++m) score[u][m] += __shfl_xor_sync(kAllLanes, score[u][m], lanes);
          }
        }
        for (int m = 0; m < kRows; ++m) {
          float best = top[m];
          for (int u = 0; u < kUnroll; ++u) {
            const int t = t0 + u * kGroups + group;
            if (t < from[m] || t >= item.end) score[u][m] = -INFINITY;
            best = fmaxf(best, score[u][m]);
          }
          if (best == -INFINITY) {
            for (int u = 0; u < kUnroll; ++u) score[u][m] = 0;
            continue;
          }
          const float kept = expf(top[m] - best);
          top[m] = best;
          sum[m] *= kept;
          for (int c = 0; c < kColumns; ++c) mixed[m][c] *= kept;
          for (int u = 0; u < kUnroll; ++u) {
            score[u][m] = expf(score[u][m] - best);
            sum[m] += score[u][m];
          }
        }
        for (int u = 0; u < kUnroll; ++u) {
          for (int v = 0; v < kVectors; ++v) {
            for (int i = 0; i < kSize; ++i) {
              const float x = as_float(value[u][v].at[i]);
              for (int m = 0; m < kRows; ++m) mixed[m][v * kSize + i] += score[u][m] * x;
            }
          }
        }
      }

      // shared: per group and query the mixed values, then the maximum and the sum.
      const int width = dim + 2;
      for (int m = 0; m < kRows; ++m) {
        float* to = shared + (group * kRows + m) * width;
        for (int v = 0; v < kVectors; ++v) {
          for (int i = 0; i < kSize; ++i) {
            if (column(v) + i < dim) to[column(v) + i] = mixed[m][v * kSize + i];
          }
        }
        if (lane == 0) {
          to[dim] = top[m];
          to[dim + 1] = sum[m];
        }
      }
      __syncthreads();
      for (int i = threadIdx.x; i < kRows * dim; i += kAttentionThreads) {
        const int m = i / dim, c = i % dim;
        if (q0 + m < num_queries)
          merge_parts(call, item, kv_head, q0 + m, c, shared + m * width, kGroups, kRows * width);
      }
      __syncthreads();
    }
  }
}

// One warp per row and head.
template <typename T>
__global__ void __launch_bounds__(kAttentionThreads) merge_kernel(AttentionCall call, T* out) {
  constexpr int kPerBlock = kAttentionThreads / kLanes;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kPerBlock + threadIdx.x / kLanes;
  if (item >= static_cast<int64_t>(call.rows) * call.heads) return;
  const int row = static_cast<int>(item / call.heads), head = static_cast<int>(item % call.heads);
  const int slot = live_slot(call, row), lane = threadIdx.x % kLanes;
  int prompt_pieces = 0, pieces = 0;
  if (slot >= 0) {
    const auto in = [](int64_t tokens, int64_t each) { return static_cast<int>((tokens + each - 1) / each); };
    prompt_pieces = in(call.slots.prompt_length[slot], call.pieces.prompt_tokens);
    pieces = prompt_pieces + in(call.slots.count[slot], call.pieces.response_tokens);
  }
  const auto place = [&](int p) {
    const int64_t piece = p < prompt_pieces ? p : call.pieces.prompt_count + p - prompt_pieces;
    return (row * call.num_pieces + piece) * call.heads + head;
  };
  float best = -INFINITY;
  for (int p = 0; p < pieces; ++p) best = fmaxf(best, call.sums[place(p) * 2]);
  for (int c = lane; c < call.head_dim; c += kLanes) {
    float mixed = 0, sum = 0;
    for (int p = 0; p < pieces; ++p) {
      const float top = call.sums[place(p) * 2];
      if (top == -INFINITY) continue;
      const float factor = expf(top - best);
      mixed += call.mixed[place(p) * call.head_dim + c] * factor;
      sum += call.sums[place(p) * 2 + 1] * factor;
    }
    out[item * call.head_dim + c] = rounded<T>(sum > 0 ? mixed / sum : 0.0f);
  }
}

// body(value of the type, Constant<columns per access>, Constant<lanes per group>, Constant<accesses per
// lane>)
template <typename Body>
void with_layout(const DecodeShape& shape, bool aligned, const Body& body) {
  with_access(shape.dtype, aligned, [&](auto zero, auto size) {
    constexpr int kSize = decltype(size)::value;
    if constexpr (kSize == 1) {
      body(zero, size, Constant<32>{}, Constant<kMaxDecodeHead / 32>{});
    } else {
      const int64_t vectors = shape.head_dim / kSize;
      if (vectors <= 8) {
        body(zero, size, Constant<8>{}, Constant<1>{});
      } else if (vectors <= 16) {
        body(zero, size, Constant<16>{}, Constant<1>{});
      } else if (vectors <= 32) {
        body(zero, size, Constant<32>{}, Constant<1>{});
      } else {
        body(zero, size, Constant<32>{}, Constant<2>{});
      }
    }
  });
}

void start_plain_attention(const AttentionCall& call, const void* qkv, const DecodeShape& shape, bool aligned,
                           dim3 grid, Stream stream) {
  with_layout(shape, aligned, [&](auto zero, auto size, auto group, auto vectors) {
    using T = decltype(zero);
    constexpr int kSize = decltype(size)::value, kGroup = decltype(group)::value;
    constexpr int kVectors = decltype(vectors)::value;
    const auto start = [&](auto rows) {
      constexpr int kRows = decltype(rows)::value;
      const size_t shared = sizeof(float) * (kAttentionThreads / kGroup) * kRows * (shape.head_dim + 2);
      launch(&attention_kernel<T, kSize, kGroup, kVectors, kRows>, grid, kAttentionThreads, shared, stream,
             call, static_cast<const T*>(qkv));
    };
    const bool many = shape.num_heads / shape.num_kv_heads > 4;
    if constexpr (kSize * kVectors <= 8) {
      many ? start(Constant<8>{}) : start(Constant<4>{});
    } else {
      start(Constant<4>{});
    }
  });
}

int64_t mixed_bytes(const DecodeShape& shape, const DecodePieces& pieces) {
  return (shape.rows * pieces.count() * shape.num_heads * shape.head_dim * 4 + 15) / 16 * 16;
}

}  // namespace

int64_t decode_scratch(const DecodeShape& shape, const DecodePieces& pieces) {
  return mixed_bytes(shape, pieces) + shape.rows * pieces.count() * shape.num_heads * 8;
}

void decode_attention(void* out, const void* qkv, const DecodeShape& shape, const DecodePieces& pieces,
                      const Schedule& schedule, const Slots& slots, const KvMemory* memory, void* scratch,
                      AttentionKernel kernel, Stream stream) {
  if (shape.rows == 0) return;
  if (shape.head_dim > kMaxDecodeHead) throw std::invalid_argument("decode_attention: head_dim above 256");
  const AttentionCall call{schedule,
                           slots,
                           memory,
                           pieces,
                           shape.layer,
                           static_cast<float*>(scratch),
                           reinterpret_cast<float*>(static_cast<char*>(scratch) + mixed_bytes(shape, pieces)),
                           static_cast<int32_t>(shape.rows),
                           static_cast<int32_t>(shape.num_heads),
                           static_cast<int32_t>(shape.num_kv_heads),
                           static_cast<int32_t>(shape.head_dim),
                           static_cast<int32_t>(shape.window),
                           static_cast<int32_t>(pieces.count()),
                           1.0f / std::sqrt(static_cast<float>(shape.head_dim))};
  const bool aligned = is_aligned({qkv}, {shape.head_dim}, bytes_of(shape.dtype));
  if (kernel == AttentionKernel::kRing) {
    if (!has_ring_attention(shape) || !is_aligned({qkv, out}, {shape.head_dim}, 2))
      throw std::invalid_argument(
          "decode_attention: rings are for compute capability 9.0 and later, bfloat16, head_dim 64 or 128 "
          "and "
          "at most 8 heads per key/value head");
    return start_ring_attention(call, qkv, out, stream);
  }
  const auto blocks = static_cast<unsigned>(std::min(shape.rows * pieces.count(), kMaxBlocks));
  const dim3 grid(blocks, static_cast<unsigned>(shape.num_kv_heads));
  const bool can_tile = has_tile_attention(shape, aligned);
  if (kernel == AttentionKernel::kTiles && !can_tile)
    throw std::invalid_argument(
        "decode_attention: tiles are for compute capability 8.0 and later, bfloat16 and head_dim 32, 64, 96 "
        "or 128, not for " +
        std::string(shape.dtype == Dtype::kBFloat16 ? "bfloat16" : "float32") + " and " +
        std::to_string(shape.head_dim));
  if (can_tile && kernel != AttentionKernel::kPlain) {
    start_tile_attention(call, qkv, grid, stream);
  } else {
    start_plain_attention(call, qkv, shape, aligned, grid, stream);
  }
  const unsigned merges = blocks_for(shape.rows * shape.num_heads, kAttentionThreads / kLanes);
  with_access(shape.dtype, false, [&](auto zero, auto) {
    using T = decltype(zero);
    launch(&merge_kernel<T>, merges, kAttentionThreads, 0, stream, call, static_cast<T*>(out));
  });
}

}  // namespace cream::gpu
