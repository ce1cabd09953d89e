#include "generate/generate_plan.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <limits>
#include <string>

#include "generate/kv_cache.h"
#include "ops/sampler.h"

namespace cream {

namespace {

constexpr int64_t kUnknown = std::numeric_limits<int64_t>::max();

// A line "name:  number kB" of /proc/meminfo, in bytes.
int64_t memory_info(const std::string& name) {
  std::ifstream file("/proc/meminfo");
  std::string word;
  int64_t kilobytes = 0;
  while (file >> word) {
    if (word == name && file >> kilobytes) return kilobytes * 1024;
  }
  return kUnknown;
}

// A cgroup v2 file with one number; "max" and a missing file mean no limit.
int64_t cgroup_number(const char* path) {
  std::ifstream file(path);
  int64_t bytes = 0;
  return file >> bytes ? bytes : kUnknown;
}

int64_t available_memory() {
  const int64_t limit = cgroup_number("/sys/fs/cgroup/memory.max");
  const int64_t used = cgroup_number("/sys/fs/cgroup/memory.current");
  const int64_t room = limit == kUnknown || used == kUnknown ? kUnknown : std::max<int64_t>(0, limit - used);
  return std::min(memory_info("MemAvailable:"), room);
}

// Live sequences: enough to amortise reading the weights and the fixed cost of a step. With more of them the
// activations of a small model leave the caches (docs/log.md).
constexpr int64_t kDefaultRows = 256;

void check_options(const GenerateOptions& options, const ModelConfig& config) {
  check_sampler_options({static_cast<float>(options.temperature), static_cast<float>(options.top_p),
                         options.top_k, static_cast<float>(options.min_p)});
  check_logits_processors(options.processors, config.vocab_size);
  TORCH_CHECK_VALUE(options.num_samples >= 1, "generate: n must be >= 1, got ", options.num_samples);
  TORCH_CHECK_VALUE(options.max_new_tokens >= 1, "generate: maxNewTokens must be >= 1, got ",
                    options.max_new_tokens);
  TORCH_CHECK_VALUE(options.max_live_tokens >= 0,
                    "generate: maxLiveTokens must be >= 0 (0 = automatic), got ", options.max_live_tokens);
  TORCH_CHECK_VALUE(options.max_live_sequences >= 0,
                    "generate: maxLiveSequences must be >= 0 (0 = automatic), got ",
                    options.max_live_sequences);
  for (const int32_t id : options.stop_ids) {
    TORCH_CHECK_VALUE(id >= 0 && id < config.vocab_size, "generate: stop id ", id,
                      " is outside of the vocabulary [0, ", config.vocab_size, ")");
  }
}

void check_prompt(const GeneratePrompt& prompt, size_t index, const GenerateOptions& options,
                  const ModelConfig& config) {
  const int64_t length = static_cast<int64_t>(prompt.ids.size());
  TORCH_CHECK_VALUE(length > 0, "generate: prompt ", index, " is empty; start from the BOS token instead");
  const auto own_limits = static_cast<int64_t>(prompt.max_new_tokens.size());
  TORCH_CHECK_VALUE(own_limits <= 1 || own_limits == options.num_samples, "generate: prompt ", index,
                    ": maxNewTokens must be one number, or one for each of ", options.num_samples,
                    " responses, got ", own_limits, " numbers");
  int64_t limit = length_limit(prompt, 0, options);
  for (int64_t sample = 1; sample < own_limits; ++sample) {
    limit = std::max(limit, length_limit(prompt, sample, options));
  }
  TORCH_CHECK_VALUE(limit <= config.max_position_embeddings - length, "generate: prompt ", index, " has ",
                    length, " tokens; with maxNewTokens ", limit,
                    " it exceeds the model's max_position_embeddings ", config.max_position_embeddings);
  for (size_t i = 0; i < prompt.ids.size(); ++i) {
    TORCH_CHECK_VALUE(prompt.ids[i] >= 0 && prompt.ids[i] < config.vocab_size, "generate: prompt ", index,
                      ", token ", i, ": id ", prompt.ids[i], " is outside of the vocabulary [0, ",
                      config.vocab_size, ")");
  }
}

}  // namespace

int64_t machine_memory() {
  return std::min(memory_info("MemTotal:"), cgroup_number("/sys/fs/cgroup/memory.max"));
}

void check_request(const ModelConfig& config, const std::vector<GeneratePrompt>& prompts,
                   const GenerateOptions& options) {
  check_options(options, config);
  for (size_t i = 0; i < prompts.size(); ++i) check_prompt(prompts[i], i, options, config);
}

GeneratePlan plan_generation(const Model& model, const std::vector<GeneratePrompt>& prompts,
                             const GenerateOptions& options) {
  const ModelConfig& config = model.weights.config;
  check_request(config, prompts, options);

  GeneratePlan plan;
  plan.max_rows = options.max_live_sequences > 0 ? options.max_live_sequences : kDefaultRows;
  // The last token of a response is never fed back, so its key and value are not stored.
  plan.response_blocks = kv_blocks(options.max_new_tokens - 1);

  const int64_t block_bytes = KvCache::block_bytes(config, model.dtype);
  const bool automatic = options.max_live_tokens == 0;
  const int64_t most = automatic ? std::max<int64_t>(1, machine_memory() / 4 / block_bytes)
                                 : kv_blocks(options.max_live_tokens);
  int64_t least = 1;  // what the longest prompt and one response to it take
  for (size_t i = 0; i < prompts.size(); ++i) {
    const int64_t length = static_cast<int64_t>(prompts[i].ids.size());
    const int64_t needed = kv_blocks(length) + plan.response_blocks;
    least = std::max(least, needed);
    if (automatic) {
      TORCH_CHECK_WITH(OutOfMemoryError, needed <= most, "generate: prompt ", i, " (", length,
                       " tokens) with maxNewTokens ", options.max_new_tokens, " needs ",
                       mebibytes(needed * block_bytes),
                       " MiB for keys and values, a quarter of this machine's memory is ",
                       mebibytes(most * block_bytes), " MiB; shorten it or set maxLiveTokens");
    } else {
      TORCH_CHECK_VALUE(needed <= most, "generate: prompt ", i, " (", length, " tokens) with maxNewTokens ",
                        options.max_new_tokens, " needs ", needed * kBlockTokens,
                        " tokens of keys and values, maxLiveTokens is ", options.max_live_tokens);
    }
  }
  // Fewer rows where other things have taken the memory: it changes no bit of a response.
  const int64_t available = available_memory();
  const int64_t free_blocks = available / 10 * 9 / block_bytes;
  const int64_t budget = automatic ? std::clamp(free_blocks, least, most) : most;

  std::vector<int64_t> prompt_blocks;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const int64_t blocks = kv_blocks(static_cast<int64_t>(prompts[i].ids.size()));
    int64_t together = plan.max_rows;
    if (plan.response_blocks > 0) together = std::min(together, (budget - blocks) / plan.response_blocks);
    for (int64_t first = 0; first < options.num_samples; first += together) {
      plan.launches.push_back(
          {static_cast<int64_t>(i), first, std::min(together, options.num_samples - first)});
      prompt_blocks.push_back(blocks);
    }
  }

  const int64_t num_rows = static_cast<int64_t>(prompts.size()) * options.num_samples;
  plan.max_rows = std::min(plan.max_rows, num_rows);
  std::sort(prompt_blocks.begin(), prompt_blocks.end(), std::greater<>());
  plan.num_blocks = plan.max_rows * plan.response_blocks;
  for (size_t i = 0; i < prompt_blocks.size() && static_cast<int64_t>(i) < plan.max_rows; ++i) {
    plan.num_blocks += prompt_blocks[i];
  }
  plan.num_blocks = std::min(plan.num_blocks, budget);
  const int64_t bytes = plan.num_blocks * block_bytes;
  TORCH_CHECK_WITH(OutOfMemoryError, bytes <= available, "generate: keys and values of ", plan.max_rows,
                   " live sequences need ", mebibytes(bytes), " MiB, ", mebibytes(available),
                   " MiB are available; lower maxLiveTokens or maxLiveSequences");
  return plan;
}

}  // namespace cream
