#include "generate/gpu_plan.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <string_view>

#include "generate/generate_plan.h"
#include "generate/kv_cache.h"
#include "ops/device.h"

namespace cream {

namespace {

constexpr int64_t kPieceTokens = 256;  // of keys and values that one block attends to
constexpr int64_t kMaxPieces = 16;     // per prompt and per response; longer ones have longer pieces
constexpr int64_t kLogitsBytes = int64_t{512} << 20;
constexpr int64_t kMaxSlots = 16384;  // one row of blocks each
constexpr int64_t kPositions = 8192;  // of the rotation table at least, so that it seldom moves
// Of the free memory; the rest is for cuBLAS, recorded graphs and fragmentation.
constexpr double kUsable = 0.92;

int64_t power_of_two(int64_t x) {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(x, 1))));
}

// Beyond these many rows a step is bound by arithmetic; a small model needs more of them to fill the GPU.
int64_t default_slots(const Model& model) {
  return model.weights.num_parameters > 2'000'000'000 ? 512 : 1024;
}

bool can_ring(const Model& model) {
  const ModelConfig& config = model.weights.config;
  return model.dtype == at::kBFloat16 &&
         gpu::has_ring_attention(
             {gpu::Dtype::kBFloat16, 1, config.num_heads, config.num_kv_heads, config.head_dim, 0, 0});
}

// Where few rows have long contexts, the pieces of tiles keep more of a GPU busy than one warp a row does.
// The numbers are those of the request, whatever memory leaves for slots.
bool is_long_and_narrow(const Model& model, int64_t rows, int64_t context) {
  constexpr int64_t kWarps = 128, kContext = 2048;
  return rows * model.weights.config.num_kv_heads < kWarps && context > kContext;
}

gpu::AttentionKernel chosen_attention(const Model& model, int64_t rows, int64_t context) {
  const char* value = std::getenv("CREAM_DECODE_ATTENTION");
  const std::string_view name = value == nullptr ? "auto" : value;
  if (name == "plain") return gpu::AttentionKernel::kPlain;
  if (name == "tiles") return gpu::AttentionKernel::kTiles;
  if (name == "ring") {
    TORCH_CHECK_VALUE(
        can_ring(model),
        "CREAM_DECODE_ATTENTION=ring is for compute capability 9.0 and later, bfloat16, head_dim "
        "64 or 128 and at most 8 heads per key/value head; this model has ",
        model.dtype, ", ", model.weights.config.head_dim, " and ",
        model.weights.config.num_heads / model.weights.config.num_kv_heads, "; use auto, or tiles");
    return gpu::AttentionKernel::kRing;
  }
  TORCH_CHECK_VALUE(name == "auto", "CREAM_DECODE_ATTENTION must be auto, plain, tiles or ring, got '", name,
                    "'");
  const bool is_ring = can_ring(model) && !is_long_and_narrow(model, rows, context);
  return is_ring ? gpu::AttentionKernel::kRing : gpu::AttentionKernel::kAuto;
}

void set_pieces(int64_t longest, int64_t& tokens, int64_t& count) {
  const int64_t rounded = power_of_two(longest);
  tokens = std::max(kPieceTokens, rounded / kMaxPieces);
  count = (rounded + tokens - 1) / tokens;
}

// The widest tensors that a forward over `rows` rows holds at once.
int64_t forward_bytes(const Model& model, int64_t rows) {
  const ModelConfig& config = model.weights.config;
  const int64_t width =
      4 * config.hidden_size + 2 * config.qkv_size() + config.q_size() + 3 * config.intermediate_size;
  return rows * width * static_cast<int64_t>(c10::elementSize(model.dtype));
}

// Memory for tensors: what is free, and what the allocator holds without use.
int64_t free_bytes(const Model& model) {
  if (!model.device.is_cuda()) return machine_memory() / 4;
  const DeviceMemory memory = device_memory(model.device);
  return memory.free + memory.reserved - memory.allocated;
}

int64_t usable(int64_t bytes) { return static_cast<int64_t>(kUsable * static_cast<double>(bytes)); }

struct Prompts {
  int64_t count = 0, longest = 0, longest_index = 0, total = 0;  // tokens, in whole blocks
};

Prompts measure(const std::vector<GeneratePrompt>& prompts) {
  Prompts result;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const int64_t tokens = round_up(static_cast<int64_t>(prompts[i].ids.size()), kArenaBlock);
    if (tokens > result.longest) {
      result.longest = tokens;
      result.longest_index = static_cast<int64_t>(i);
    }
    result.total += tokens;
  }
  result.count = static_cast<int64_t>(prompts.size());
  return result;
}

// Room for the prompts of all slots twice over, for stragglers hold on to theirs.
int64_t wanted_arena(const Prompts& prompts, int64_t slots, int64_t num_samples) {
  const int64_t resident = 2 * ((slots + num_samples - 1) / num_samples) + 1;
  const int64_t mean = round_up(prompts.total / prompts.count + 1, kArenaBlock);
  return std::min(prompts.total, prompts.longest + resident * mean);
}

}  // namespace

// The length of pieces decides where sums are cut; the rest is room.
bool GpuStepShape::covers(const GpuStepShape& wanted) const {
  return slots >= wanted.slots && max_new_tokens >= wanted.max_new_tokens &&
         logits_rows >= wanted.logits_rows && pieces.prompt_tokens == wanted.pieces.prompt_tokens &&
         pieces.prompt_count >= wanted.pieces.prompt_count &&
         pieces.response_tokens == wanted.pieces.response_tokens &&
         pieces.response_count >= wanted.pieces.response_count;
}

int64_t fewer_slots(int64_t slots) {
  if (slots <= 16) return slots - 1;
  const int64_t fewer = slots * 7 / 8;
  const int64_t grain = slots > kFineRows ? kRowGrain : slots > 32 ? 8 : 1;
  return fewer - fewer % grain;
}

int64_t kv_token_bytes(const Model& model) {
  const ModelConfig& config = model.weights.config;
  return config.num_layers * 2 * config.kv_size() * static_cast<int64_t>(c10::elementSize(model.dtype));
}

int64_t step_bytes(const Model& model, const GpuStepShape& shape) {
  const ModelConfig& config = model.weights.config;
  const gpu::DecodeShape decode{
      gpu::Dtype::kFloat32, shape.slots, config.num_heads, config.num_kv_heads, config.head_dim, 0, 0};
  return forward_bytes(model, shape.slots) + shape.logits_rows * config.vocab_size * int64_t{sizeof(float)} +
         gpu::decode_scratch(decode, shape.pieces) +
         gpu::sampler_scratch(shape.logits_rows, config.vocab_size, gpu::SamplerMode::kTruncated) +
         shape.slots * (shape.max_new_tokens * 8 + 64);
}

GpuPlan plan_gpu_generation(const Model& model, const std::vector<GeneratePrompt>& prompts,
                            const GenerateOptions& options, const GpuStepBuffers* kept) {
  const ModelConfig& config = model.weights.config;
  check_request(config, prompts, options);
  TORCH_CHECK_VALUE(config.head_dim <= gpu::kMaxDecodeHead, "generate: heads on the GPU have at most ",
                    gpu::kMaxDecodeHead, " columns, this model's have ", config.head_dim);
  TORCH_CHECK_VALUE(config.vocab_size <= gpu::kSamplerMaxVocab, "generate: the GPU samples from at most ",
                    gpu::kSamplerMaxVocab, " tokens, this model has ", config.vocab_size);
  GpuPlan plan;
  if (prompts.empty()) return plan;
  const Prompts measured = measure(prompts);
  const int64_t rows = measured.count * options.num_samples;
  const int64_t longest = static_cast<int64_t>(prompts[measured.longest_index].ids.size());
  plan.num_positions =
      std::min(std::max(longest + options.max_new_tokens, kPositions), config.max_position_embeddings);
  plan.slot_tokens = round_up(std::max<int64_t>(options.max_new_tokens - 1, 1), kArenaBlock);
  plan.step.max_new_tokens = options.max_new_tokens;
  plan.kind.attention = chosen_attention(model, rows, longest + options.max_new_tokens);
  if (plan.kind.attention == gpu::AttentionKernel::kRing)
    plan.kind.group_rows =
        static_cast<int32_t>(std::clamp<int64_t>(options.num_samples, 1, gpu::kMaxGroupRows));
  plan.kind.mode = gpu::sampler_mode(
      {static_cast<float>(options.temperature), static_cast<float>(options.top_p), options.top_k},
      config.vocab_size);
  set_pieces(longest, plan.step.pieces.prompt_tokens, plan.step.pieces.prompt_count);
  set_pieces(options.max_new_tokens, plan.step.pieces.response_tokens, plan.step.pieces.response_count);
  const int64_t limit =
      std::min(options.max_live_sequences > 0 ? options.max_live_sequences : default_slots(model), kMaxSlots);
  const int64_t token_bytes = kv_token_bytes(model);
  const int64_t needed = measured.longest + plan.slot_tokens;

  if (options.max_live_tokens > 0) {
    TORCH_CHECK_VALUE(needed <= round_up(options.max_live_tokens, kArenaBlock), "generate: prompt ",
                      measured.longest_index, " (", longest, " tokens) with maxNewTokens ",
                      options.max_new_tokens, " needs ", needed,
                      " tokens of keys and values, maxLiveTokens is ", options.max_live_tokens);
  }
  // Fewer slots, until keys, values and buffers fit.
  const int64_t total_free = free_bytes(model);
  const int64_t prefill =
      forward_bytes(model, std::max(std::min(measured.total, kGpuPrefillTokens), longest));
  for (int64_t slots = std::min(limit, power_of_two(rows));; slots = fewer_slots(slots)) {
    plan.step.slots = slots;
    plan.step.logits_rows =
        std::min(slots, std::max<int64_t>(16, kLogitsBytes / (config.vocab_size * int64_t{sizeof(float)})));
    const bool are_there = kept != nullptr && kept->shape.covers(plan.step);
    const int64_t room = usable(total_free + (kept != nullptr && !are_there ? kept->bytes : 0));
    const int64_t buffers = prefill + (are_there ? 0 : step_bytes(model, plan.step));
    const int64_t fitting = (room - buffers) / token_bytes / kArenaBlock * kArenaBlock;
    const int64_t tokens = options.max_live_tokens > 0
                               ? std::min(fitting, round_up(options.max_live_tokens, kArenaBlock))
                               : fitting;
    const int64_t wanted = slots == 1 ? measured.longest : wanted_arena(measured, slots, options.num_samples);
    if (tokens - slots * plan.slot_tokens >= wanted) {
      plan.arena_tokens = std::min(measured.total, std::max(wanted, tokens - slots * plan.slot_tokens));
      if (options.max_live_tokens == 0) plan.arena_tokens = wanted;
      return plan;
    }
    TORCH_CHECK_WITH(OutOfMemoryError, slots > 1, "generate: prompt ", measured.longest_index, " (", longest,
                     " tokens) with maxNewTokens ", options.max_new_tokens, " needs ",
                     mebibytes(needed * token_bytes), " MiB for keys and values and ", mebibytes(buffers),
                     " MiB for buffers beside the weights; ", mebibytes(room),
                     " MiB are free; shorten it, or free memory of the GPU");
  }
}

}  // namespace cream
