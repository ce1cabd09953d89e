#include <algorithm>

#include "cuda/kernels/bulk.cuh"
#include "cuda/kernels/decode_attention.cuh"
#include "cuda/kernels/mma.cuh"

// Attention of bfloat16 queries at the speed of memory, for compute capability 9.0 and later. A warp takes a
// row: the (at most 8) query heads of one key/value head. A block takes the rows of a group, which share a
// prompt. Keys and values come through rings of stages that the copy engine fills while earlier stages are
// attended: one ring for the prompt, which all warps of the block read, and one per warp for the row's own
// tokens. The softmax stays in registers from the first token to the last, so there are no pieces to merge,
// and what a row gets depends on its own tokens alone. Blocks stay and walk over groups and heads.
//
// Scores are queries (8 of 16 rows of a product) by keys, which leaves the weights where the product of
// transposed values by weights wants them. Weights are split into two bfloat16 numbers, so that values are
// weighted with 16 bits.

namespace cream::gpu {

namespace {

constexpr int kMaxWarps = kMaxGroupRows;
constexpr int kQueries = 8;       // heads of one key/value head
constexpr int kTokens = 16;       // of one product
constexpr int kHalfStage = 4096;  // bytes of a stage's keys, and of its values
constexpr int kStage = 2 * kHalfStage;

struct RingStages {
  int prompt, own;  // of the ring for the prompt, of every warp's own ring
};

// A stage of a ring and the parity of its phase.
struct RingPlace {
  int stage = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance(int stages) {
    if (++stage == stages) {
      stage = 0;
      parity ^= 1;
    }
  }
  __device__ __forceinline__ RingPlace before(int stages) const {
    return stage == 0 ? RingPlace{stages - 1, parity ^ 1} : RingPlace{stage - 1, parity};
  }
};

// A row's softmax so far. Lane: group = lane / 4, quad = lane % 4.
template <int kDim>
struct RowSoftmax {
  uint32_t query[kDim / 16][2];  // head `group`: columns 16 i + 2 quad and the next; the same + 8
  float mixed[kDim / 16][4];     // columns 16 i + group (+ 8 from the third on) of heads 2 quad and the next
  float top, sum;                // head `group`, base 2; the sum of this lane's tokens
};

__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
  return fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
}
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(kAllLanes, x, 1);
  return x + __shfl_xor_sync(kAllLanes, x, 2);
}

// Of a number per head, those of the two heads whose mixed values a lane has.
struct HeadPair {
  float of[2];
};
__device__ __forceinline__ HeadPair of_my_heads(float per_group, int quad) {
  return {{__shfl_sync(kAllLanes, per_group, 8 * quad), __shfl_sync(kAllLanes, per_group, 8 * quad + 4)}};
}

template <int kDim>
__device__ __forceinline__ void begin_row(RowSoftmax<kDim>& row, const bf16* queries, int heads, int lane) {
  const int group = lane / 4, quad = lane % 4;
  for (int i = 0; i < kDim / 16; ++i) {
    for (int half = 0; half < 2; ++half) {
      const bf16* from = queries + group * kDim + 16 * i + 8 * half + 2 * quad;
      row.query[i][half] = group < heads ? *reinterpret_cast<const uint32_t*>(from) : 0;
    }
    for (int j = 0; j < 4; ++j) row.mixed[i][j] = 0;
  }
  row.top = -INFINITY;
  row.sum = 0;
}

// Where chunk c + lane_chunk of a token is, given lane_chunk XOR its turn; c is a multiple of what lanes add.
// Written so that chunks 8 apart are a constant apart.
__device__ __forceinline__ int chunk_at(int c, int turned) {
  return (16 * turned ^ 16 * (c % 8)) + c / 8 * 128;
}

// Attends 16 tokens, of which the row sees first .. last - 1. What lies at others may be anything.
template <int kDim>
__device__ __forceinline__ void attend(RowSoftmax<kDim>& row, const char* keys, const char* values, int first,
                                       int last, int swizzle, float scale, int lane) {
  constexpr int kRowBytes = 2 * kDim;
  const int quad = lane % 4, turn = lane % 8 & swizzle, matrix = lane / 8;
  float score[2][2];
  for (int n = 0; n < 2; ++n) {
    float product[4] = {0, 0, 0, 0};
    const char* key = keys + (8 * n + lane % 8) * kRowBytes;
    for (int v = 0; v < kDim / 32; ++v) {
      uint32_t words[4];
      load_matrices(words, key + chunk_at(4 * v, matrix ^ turn));
      for (int half = 0; half < 2; ++half) {
        const uint32_t query[4] = {row.query[2 * v + half][0], 0, row.query[2 * v + half][1], 0};
        const uint32_t columns[2] = {words[2 * half], words[2 * half + 1]};
        multiply_tiles(product, query, columns);
      }
    }
    for (int i = 0; i < 2; ++i) {
      const int t = 8 * n + 2 * quad + i;
      score[n][i] = t >= first && t < last ? product[i] * scale : -INFINITY;
    }
  }

  const float best =
      quad_max(fmaxf(row.top, fmaxf(fmaxf(score[0][0], score[0][1]), fmaxf(score[1][0], score[1][1]))));
  const float base = best == -INFINITY ? 0.0f : best;
  const float kept = exp2f(row.top - base);
  row.top = best;
  row.sum *= kept;
  uint32_t weight[2], rest[2], seen[2];
  for (int n = 0; n < 2; ++n) {
    const float low = exp2f(score[n][0] - base), high = exp2f(score[n][1] - base);
    row.sum += low + high;
    weight[n] = in_word(low, high);
    rest[n] = in_word(low - low_of(weight[n]), high - high_of(weight[n]));
    // A weight of zero does not make a zero of NaN.
    const int t = 8 * n + 2 * quad;
    seen[n] = (t < last ? 0xFFFFu : 0u) | (t + 1 < last ? 0xFFFF0000u : 0u);
  }

  const HeadPair scaled = of_my_heads(kept, quad);
  const char* value = values + (8 * (matrix / 2) + lane % 8) * kRowBytes;
  for (int m = 0; m < kDim / 16; ++m) {
    uint32_t words[4];
    load_transposed(words, value + chunk_at(2 * m, matrix % 2 ^ turn));
    for (int j = 0; j < 4; ++j) {
      words[j] &= seen[j / 2];
      row.mixed[m][j] *= scaled.of[j % 2];
    }
    multiply_tiles(row.mixed[m], words, weight);
    multiply_tiles(row.mixed[m], words, rest);
  }
}

// Attends a stage: tokens begin .. begin + (tokens of a stage) - 1, of which the row sees first .. last - 1.
template <int kDim>
__device__ __forceinline__ void attend_stage(RowSoftmax<kDim>& row, const char* stage, int begin, int first,
                                             int last, int swizzle, float scale, int lane) {
  CREAM_NO_UNROLL
  for (int t = 0; t < kHalfStage / (2 * kDim); t += kTokens) {
    if (begin + t + kTokens <= first || begin + t >= last) continue;
    const char* keys = stage + t * 2 * kDim;
    attend(row, keys, keys + kHalfStage, first - begin - t, last - begin - t, swizzle, scale, lane);
  }
}

// Writes the heads' mixed values divided by their sums to out [heads, kDim].
template <int kDim>
__device__ __forceinline__ void finish_row(const RowSoftmax<kDim>& row, bf16* out, int heads, int lane) {
  const int group = lane / 4, quad = lane % 4;
  const float sum = quad_sum(row.sum);
  const HeadPair factor = of_my_heads(sum > 0 ? 1 / sum : 0.0f, quad);
  // Lanes of neighbouring columns swap, so that each writes two columns of one head.
  const int odd = group % 2, head = 2 * quad + odd;
  bf16* to = out + head * kDim + group - odd;
  for (int i = 0; i < kDim / 16; ++i) {
    for (int half = 0; half < 2; ++half) {
      const float mine[2] = {row.mixed[i][2 * half] * factor.of[0],
                             row.mixed[i][2 * half + 1] * factor.of[1]};
      const float other = __shfl_xor_sync(kAllLanes, odd ? mine[0] : mine[1], 4);
      const uint32_t word = odd ? in_word(other, mine[1]) : in_word(mine[0], other);
      if (head < heads) *reinterpret_cast<uint32_t*>(to + 16 * i + 8 * half) = word;
    }
  }
}

__device__ __forceinline__ int lanes_min(int x) {
  for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) {
    const int other = __shfl_xor_sync(kAllLanes, x, lanes);
    x = other < x ? other : x;
  }
  return x;
}

template <int kDim>
__global__ void __launch_bounds__(kMaxWarps* kLanes, kDim == 64 ? 2 : 1)
    ring_attention_kernel(AttentionCall call, RingStages stages, const bf16* qkv, bf16* out) {
  constexpr int kStageTokens = kHalfStage / (2 * kDim);
  CREAM_DYNAMIC_SHARED(char, shared);
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes, warps = blockDim.x / kLanes;
  const int per_kv = call.heads / call.kv_heads, row_width = (call.heads + 2 * call.kv_heads) * kDim;
  const float scale = call.scale * 1.44269504088896341f;  // for powers of 2

  char* const own_ring = shared + (stages.prompt + warp * stages.own) * kStage;
  Barrier* const prompt_full =
      reinterpret_cast<Barrier*>(shared + (stages.prompt + warps * stages.own) * kStage);
  Barrier* const prompt_read = prompt_full + stages.prompt;
  Barrier* const own_full = prompt_read + stages.prompt + warp * stages.own;
  if (threadIdx.x == 0) {
    for (int i = 0; i < stages.prompt; ++i) {
      init_barrier(prompt_full + i, 1);
      init_barrier(prompt_read + i, warps);
    }
    for (int i = 0; i < warps * stages.own; ++i) init_barrier(prompt_read + stages.prompt + i, 1);
    publish_barriers();
  }
  __syncthreads();

  const KvMemory& memory = *call.memory;
  const int swizzle = static_cast<int>(memory.swizzle);
  RingPlace prompt_at, own_at;  // to be attended next
  const int units = *call.schedule.num_groups * call.kv_heads;
  CREAM_NO_UNROLL
  for (int unit = blockIdx.x; unit < units; unit += gridDim.x) {
    const RowGroup group = call.schedule.groups[unit / call.kv_heads];
    const int kv_head = unit % call.kv_heads;
    // A lane looks at a row; every warp sees them all.
    int slot = -1, prompt = 0, length = 0, first = 0x7FFFFFFF;
    if (lane < group.num_rows) slot = live_slot(call, group.first_row + lane);
    if (slot >= 0) {
      prompt = call.slots.prompt_length[slot];
      length = prompt + call.slots.count[slot];
      first = call.window > 0 && length > call.window ? length - call.window : 0;
    }
    const int shared_first = lanes_min(first), shared_prompt = -lanes_min(-prompt);
    slot = __shfl_sync(kAllLanes, slot, warp);
    prompt = __shfl_sync(kAllLanes, prompt, warp);
    first = __shfl_sync(kAllLanes, first, warp);
    const int own = __shfl_sync(kAllLanes, length, warp) - prompt;
    const bool live = slot >= 0;

    const auto fill = [&](char* stage, Barrier* full, int64_t place, int tokens) {
      const int count = tokens < kStageTokens ? tokens : kStageTokens;
      const uint32_t bytes = count * 2 * kDim;
      const int64_t from = ((call.layer * call.kv_heads + kv_head) * memory.tokens + place) * kDim;
      arrive_expecting(full, 2 * bytes);
      copy_bulk(stage, static_cast<const bf16*>(memory.keys) + from, bytes, full);
      copy_bulk(stage + kHalfStage, static_cast<const bf16*>(memory.values) + from, bytes, full);
    };
    // Stages begin at multiples of their length, wherever a window begins.
    const int own_first = first > prompt ? (first - prompt) / kStageTokens * kStageTokens : 0;
    const int64_t own_place = memory.arena_tokens + static_cast<int64_t>(slot) * memory.slot_tokens;
    const auto fill_own = [&](int stage, int t) {
      if (lane == 0) fill(own_ring + stage * kStage, own_full + stage, own_place + t, own - t);
    };
    const int prompt_first = shared_first / kStageTokens * kStageTokens;
    // Where all warps have read what is there.
    const auto fill_prompt = [&](RingPlace before, int t) {
      if (threadIdx.x != 0) return;
      wait_for_phase(prompt_read + before.stage, before.parity);
      fill(shared + before.stage * kStage, prompt_full + before.stage, group.arena + t, shared_prompt - t);
    };
    // The warp's own ring is empty here; of the prompt's, others may still read the last group's stages.
    RingPlace at = own_at;
    for (int i = 0, t = own_first; live && i < stages.own && t < own; ++i, t += kStageTokens) {
      fill_own(at.stage, t);
      at.advance(stages.own);
    }
    at = prompt_at;
    for (int i = 0, t = prompt_first; i < stages.prompt && t < shared_prompt; ++i, t += kStageTokens) {
      fill_prompt({at.stage, at.parity ^ 1}, t);
      at.advance(stages.prompt);
    }

    RowSoftmax<kDim> row;
    const int64_t my_row = group.first_row + warp;
    if (live) begin_row(row, qkv + my_row * row_width + kv_head * per_kv * kDim, per_kv, lane);
    CREAM_NO_UNROLL
    for (int t = prompt_first; t < shared_prompt; t += kStageTokens) {
      // What is asked for goes where the stage before this one was.
      const int next = t + (stages.prompt - 1) * kStageTokens;
      if (t > prompt_first && next < shared_prompt) fill_prompt(prompt_at.before(stages.prompt), next);
      __syncwarp();
      wait_for_phase(prompt_full + prompt_at.stage, prompt_at.parity);
      __syncwarp();  // lanes leave a wait one by one, products want them together
      if (live) attend_stage(row, shared + prompt_at.stage * kStage, t, first, prompt, swizzle, scale, lane);
      __syncwarp();
      if (lane == 0) arrive(prompt_read + prompt_at.stage);
      prompt_at.advance(stages.prompt);
    }
    if (!live) continue;
    CREAM_NO_UNROLL
    for (int t = own_first; t < own; t += kStageTokens) {
      wait_for_phase(own_full + own_at.stage, own_at.parity);
      __syncwarp();
      attend_stage(row, own_ring + own_at.stage * kStage, t, first - prompt, own, swizzle, scale, lane);
      __syncwarp();
      const int next = t + stages.own * kStageTokens;
      if (next < own) fill_own(own_at.stage, next);
      own_at.advance(stages.own);
    }
    finish_row(row, out + (my_row * call.heads + kv_head * per_kv) * kDim, per_kv, lane);
  }

  const int width = call.heads * kDim / 8;
  for (int64_t r = static_cast<int64_t>(blockIdx.x) * warps + warp; r < call.rows; r += gridDim.x * warps) {
    if (live_slot(call, static_cast<int>(r)) >= 0) continue;
    for (int c = lane; c < width; c += kLanes) store(out + (r * width + c) * 8, Values<bf16, 8>{});
  }
}

// Blocks that a multiprocessor holds at once, and the stages of each: 224 KB of 228, of which every block
// needs a little more than its stages.
struct RingPlan {
  int blocks;
  RingStages stages;
};
RingPlan plan_rings(int warps) {
  const int blocks = warps > 6 ? 1 : warps > 3 ? 2 : 3;
  const int total = blocks == 1 ? 28 : blocks == 2 ? 14 : 9;
  const int own = std::min(4, (total - 2) / warps);
  return {blocks, {std::min(8, total - own * warps), own}};
}

int device_attribute_of([[maybe_unused]] int attribute, int otherwise) {
#ifdef __CUDACC__
  int device = 0, value = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&value, static_cast<cudaDeviceAttr>(attribute), device) != cudaSuccess)
    return 0;
  return value;
#else
  return otherwise;
#endif
}
#ifdef __CUDACC__
constexpr int kMajor = cudaDevAttrComputeCapabilityMajor, kProcessors = cudaDevAttrMultiProcessorCount;
#else
constexpr int kMajor = 0, kProcessors = 1;
#endif

}  // namespace

bool has_ring_attention(const DecodeShape& shape) {
  return shape.dtype == Dtype::kBFloat16 && (shape.head_dim == 64 || shape.head_dim == 128) &&
         shape.num_heads <= kQueries * shape.num_kv_heads && device_attribute_of(kMajor, 9) >= 9;
}

void start_ring_attention(const AttentionCall& call, const void* qkv, void* out, Stream stream) {
  const int warps = call.schedule.group_rows;
  const RingPlan plan = plan_rings(warps);
  const int stages = plan.stages.prompt + warps * plan.stages.own;
  const size_t shared = static_cast<size_t>(stages) * kStage +
                        sizeof(Barrier) * static_cast<size_t>(stages + plan.stages.prompt);
  // No more groups than rows; the emulation takes few blocks, so that they walk.
  const int64_t places = int64_t{device_attribute_of(kProcessors, 2)} * plan.blocks;
  const auto blocks = static_cast<unsigned>(std::min(int64_t{call.rows} * call.kv_heads, places));
  const auto start = [&](auto dim) {
    launch(&ring_attention_kernel<decltype(dim)::value>, blocks, static_cast<unsigned>(warps * kLanes),
           shared, stream, call, plan.stages, static_cast<const bf16*>(qkv), static_cast<bf16*>(out));
  };
  call.head_dim == 64 ? start(Constant<64>{}) : start(Constant<128>{});
}

}  // namespace cream::gpu
