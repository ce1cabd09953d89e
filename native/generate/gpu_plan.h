// How a GPU's memory is shared out before anything is computed: slots for responses, an arena for prompts,
// and the buffers of a step.
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

#include "generate/generate.h"
#include "ops/gpu_decode.h"

namespace cream {

// What the shape of a recorded step depends on, beside the addresses of the weights.
struct GpuStepShape {
  int64_t slots = 0;           // live responses
  int64_t max_new_tokens = 0;  // of each
  int64_t logits_rows = 0;     // of one chunk of logits
  gpu::DecodePieces pieces{};

  // True where a step of this shape can do what `wanted` asks, with the same bits.
  bool covers(const GpuStepShape& wanted) const;
};

// Which kernels a step runs.
struct GpuStepKind {
  gpu::SamplerMode mode = gpu::SamplerMode::kPlain;
  gpu::AttentionKernel attention = gpu::AttentionKernel::kAuto;  // CREAM_DECODE_ATTENTION
  int32_t group_rows = 1;                                        // that kRing's blocks take together

  auto operator<=>(const GpuStepKind& other) const = default;
};

// Buffers that a model has for its steps already.
struct GpuStepBuffers {
  GpuStepShape shape;
  int64_t bytes = 0;
};

struct GpuPlan {
  GpuStepShape step;
  GpuStepKind kind;
  int64_t slot_tokens = 0;   // of keys and values per slot; the last token of a response needs none
  int64_t arena_tokens = 0;  // for prompts
  int64_t num_positions = 0;
};

constexpr int64_t kArenaBlock = 16;  // tokens; prompts take whole blocks
constexpr int64_t kFineRows =
    128;  // beyond these many rows of a step their number is a multiple of kRowGrain
constexpr int64_t kRowGrain = 32;
constexpr int64_t kGpuPrefillTokens = 8192;  // rows of one prefill pack, unless a single prompt is longer

// The number of slots to try where `slots` need too much memory. Above 128 it is a multiple of 32, of which
// tiles of matrix products are made.
int64_t fewer_slots(int64_t slots);

// Bytes of one token's keys and values, and of a step's buffers.
int64_t kv_token_bytes(const Model& model);
int64_t step_bytes(const Model& model, const GpuStepShape& shape);

// Refuses bad requests, and what does not fit into the memory that is free, with the numbers. `kept`, if
// given, are used where they cover the plan, and given back where they do not.
GpuPlan plan_gpu_generation(const Model& model, const std::vector<GeneratePrompt>& prompts,
                            const GenerateOptions& options, const GpuStepBuffers* kept);

}  // namespace cream
