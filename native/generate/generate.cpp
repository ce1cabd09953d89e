#include "generate/generate.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

#include "generate/decoder.h"
#include "generate/generate_plan.h"
#include "generate/gpu_generate.h"
#include "model/transformer.h"
#include "ops/device.h"
#include "ops/dispatch.h"
#include "ops/linear.h"
#include "ops/linear_rows.h"
#include "ops/philox.h"
#include "ops/sampler.h"

namespace cream {

namespace {

constexpr int64_t kPrefillTokens = 2048;  // rows of one prefill pack, unless a single prompt is longer

// The same where a product's rows depend on each other: a prompt is computed alone, so that its keys and
// values do not depend on what is asked beside it.
int64_t prefill_tokens(at::ScalarType dtype) { return rows_are_independent(dtype) ? kPrefillTokens : 1; }

constexpr int64_t kLogitsBytes = int64_t{64} << 20;  // of one chunk of logits

// A response that is being written.
struct Sequence {
  int64_t sample;
  std::vector<int32_t> ids;
  std::vector<float> logprobs;
};

// Continuous batching: a launch starts when rows and cache blocks are free for all of its responses; a
// response leaves as soon as it ends. A response's bits do not depend on what runs beside it.
class Scheduler {
 public:
  Scheduler(const Model& model, const std::vector<GeneratePrompt>& prompts, const GenerateOptions& options,
            const std::function<void(Response&&)>& on_response, const CancelFlag& cancelled)
      : weights_(model.weights),
        config_(model.weights.config),
        prompts_(prompts),
        options_(options),
        sampler_{static_cast<float>(options.temperature), static_cast<float>(options.top_p), options.top_k,
                 static_cast<float>(options.min_p)},
        on_response_(on_response),
        cancelled_(cancelled),
        plan_(plan_generation(model, prompts, options)),
        prefill_tokens_(prefill_tokens(model.dtype)),
        is_stop_(config_.vocab_size),
        cache_(config_, model.dtype, plan_.num_blocks) {
    for (const int32_t id : options.stop_ids) is_stop_[id] = true;
    logits_rows_ =
        std::clamp<int64_t>(kLogitsBytes / (config_.vocab_size * int64_t{sizeof(float)}), 16, 4096);
  }

  void run() {
    if (plan_.launches.empty()) return;
    int64_t longest = 0;
    for (const auto& prompt : prompts_) longest = std::max(longest, static_cast<int64_t>(prompt.ids.size()));
    const int64_t positions = std::min(longest + options_.max_new_tokens, config_.max_position_embeddings);
    Decoder decoder(weights_, plan_.max_rows, positions);
    logits_rows_ = std::min(logits_rows_, plan_.max_rows);
    logits_ = at::empty({logits_rows_, config_.vocab_size}, at::kFloat);

    while (next_launch_ < plan_.launches.size() || !groups_.empty()) {
      while (prefill()) check_cancelled();
      check_cancelled();
      if (groups_.empty()) continue;
      tokens_.clear();
      for (size_t g = 0; g < groups_.size(); ++g) {
        ++groups_[g].new_length;
        for (const Sequence& sequence : sequences_[g]) tokens_.push_back(sequence.ids.back());
      }
      const at::Tensor hidden = decoder.step(tokens_, groups_, cache_);
      rows_.resize(tokens_.size());
      for (size_t r = 0; r < rows_.size(); ++r) rows_[r] = static_cast<int64_t>(r);
      sample_next(hidden, 0);
    }
  }

 private:
  void check_cancelled() const {
    if (cancelled_ && cancelled_->load(std::memory_order_relaxed)) throw Cancelled();
  }

  int64_t live_rows() const {
    return groups_.empty() ? 0
                           : groups_.back().first_row + static_cast<int64_t>(groups_.back().responses.size());
  }

  // Claims rows and cache blocks for the next launch, all or nothing.
  bool admit() {
    if (next_launch_ == plan_.launches.size()) return false;
    const Launch& launch = plan_.launches[next_launch_];
    const int64_t first_row = live_rows();
    if (first_row + launch.num_samples > plan_.max_rows) return false;

    DecodeGroup group;
    group.first_row = first_row;
    group.prompt_length = static_cast<int64_t>(prompts_[launch.prompt_index].ids.size());
    const auto prompt = cache_.allocate(kv_blocks(group.prompt_length));
    bool complete = prompt.has_value();
    while (complete && static_cast<int64_t>(group.responses.size()) < launch.num_samples) {
      const auto region = cache_.allocate(plan_.response_blocks);
      complete = region.has_value();
      if (complete) group.responses.push_back(*region);
    }
    if (!complete) {
      if (prompt) cache_.release(*prompt);
      for (const KvRegion region : group.responses) cache_.release(region);
      return false;
    }
    group.prompt = *prompt;
    auto& sequences = sequences_.emplace_back();
    for (int64_t i = 0; i < launch.num_samples; ++i) sequences.push_back({launch.first_sample + i, {}, {}});
    groups_.push_back(std::move(group));
    prompt_indices_.push_back(launch.prompt_index);
    ++next_launch_;
    return true;
  }

  // Starts as many launches as fit into one pack and samples their first tokens. False if none was started.
  bool prefill() {
    // A few free rows are not worth the interruption: wait until an eighth of the batch is free.
    if (!groups_.empty() && !filling_ &&
        live_rows() > plan_.max_rows - std::max<int64_t>(1, plan_.max_rows / 8)) {
      return false;
    }
    const size_t first_group = groups_.size();
    Pack pack;
    while (next_launch_ < plan_.launches.size()) {
      const auto& ids = prompts_[plan_.launches[next_launch_].prompt_index].ids;
      const int64_t length = static_cast<int64_t>(ids.size());
      if (pack.num_rows() > 0 && pack.num_rows() + length > prefill_tokens_) break;
      if (!admit()) break;
      pack.add_trunk(ids.data(), length);
      pack.head_rows.push_back(pack.num_rows() - 1);
    }
    filling_ = first_group < groups_.size();
    if (!filling_) return false;

    const at::Tensor hidden =
        forward(weights_, pack, nullptr, [&](int64_t layer, const at::Tensor& k, const at::Tensor& v) {
          store_prompts(pack, first_group, layer, k, v);
        });
    rows_.clear();
    for (size_t g = first_group; g < groups_.size(); ++g) {
      rows_.insert(rows_.end(), groups_[g].responses.size(), static_cast<int64_t>(g - first_group));
    }
    sample_next(hidden, first_group);
    return true;
  }

  void store_prompts(const Pack& pack, size_t first_group, int64_t layer, const at::Tensor& k_RHD,
                     const at::Tensor& v_RHD) const {
    const int64_t heads = config_.num_kv_heads;
    const int64_t tasks = static_cast<int64_t>(pack.segments.size()) * heads;
    with_dtype(k_RHD.scalar_type(), "generate", [&](auto zero) {
      using T = decltype(zero);
      at::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
        for (int64_t task = begin; task < end; ++task) {
          const Segment& segment = pack.segments[task / heads];
          const int64_t head = task % heads;
          const T* key = k_RHD.const_data_ptr<T>() + segment.row * k_RHD.stride(0) + head * k_RHD.stride(1);
          const T* value = v_RHD.const_data_ptr<T>() + segment.row * v_RHD.stride(0) + head * v_RHD.stride(1);
          for (int64_t token = 0; token < segment.length; ++token) {
            cache_.write(groups_[first_group + task / heads].prompt, layer, head, token,
                         key + token * k_RHD.stride(0), value + token * v_RHD.stride(0));
          }
        }
      });
    });
  }

  // Samples one token for every response of the groups from first_group on; response i takes row rows_[i] of
  // hidden.
  void sample_next(const at::Tensor& hidden, size_t first_group) {
    uniforms_.clear();
    for (size_t g = first_group; g < groups_.size(); ++g) {
      const uint64_t key = prompts_[prompt_indices_[g]].key;
      for (const Sequence& sequence : sequences_[g]) {
        uniforms_.push_back(uniform_open(philox(
            {uint32_t(key), uint32_t(key >> 32), uint32_t(sequence.sample), uint32_t(sequence.ids.size())},
            {uint32_t(options_.seed), uint32_t(options_.seed >> 32)})[0]));
      }
    }
    sampled_.ids.clear();
    sampled_.logprobs.clear();
    size_t draw = 0;
    for (int64_t begin = 0; begin < hidden.size(0); begin += logits_rows_) {
      const int64_t size = std::min(logits_rows_, hidden.size(0) - begin);
      at::Tensor logits = logits_.narrow(0, 0, size);  // float32 also for bfloat16 weights: the sums are
      linear_rows(logits, hidden.narrow(0, begin, size), weights_.head);
      std::vector<int64_t> rows;
      std::vector<float> uniforms;
      for (; draw < rows_.size() && rows_[draw] < begin + size; ++draw) {
        rows.push_back(rows_[draw] - begin);
        uniforms.push_back(uniforms_[draw]);
      }
      const Sampled chunk = options_.processors.are_on()
                                ? sample_processed(logits, rows, uniforms, first_group, draw - rows.size())
                                : sample_rows(logits, rows, uniforms, sampler_);
      sampled_.ids.insert(sampled_.ids.end(), chunk.ids.begin(), chunk.ids.end());
      sampled_.logprobs.insert(sampled_.logprobs.end(), chunk.logprobs.begin(), chunk.logprobs.end());
    }
    accept(first_group);
  }

  // As sample_rows, from logits that the request's processors have changed, for the draws from `first` on.
  Sampled sample_processed(const at::Tensor& logits, const std::vector<int64_t>& rows,
                           const std::vector<float>& uniforms, size_t first_group, size_t first) {
    std::vector<std::pair<size_t, size_t>> draws;  // group and sequence of every draw of this step
    for (size_t g = first_group; g < groups_.size(); ++g) {
      for (size_t i = 0; i < sequences_[g].size(); ++i) draws.emplace_back(g, i);
    }
    Sampled all;
    const auto count = static_cast<int64_t>(rows.size()), vocab = config_.vocab_size;
    for (int64_t begin = 0; begin < count; begin += logits_rows_) {
      const int64_t size = std::min(logits_rows_, count - begin);
      const at::Tensor changed = at::empty({size, vocab}, at::kFloat);
      std::vector<int64_t> own(static_cast<size_t>(size));
      at::parallel_for(0, size, 1, [&](int64_t from, int64_t to) {
        for (int64_t i = from; i < to; ++i) {
          own[i] = i;
          float* row = changed.data_ptr<float>() + i * vocab;
          std::copy_n(logits.const_data_ptr<float>() + rows[begin + i] * vocab, vocab, row);
          const auto [g, s] = draws[first + begin + i];
          const GeneratePrompt& prompt = prompts_[prompt_indices_[g]];
          process_logits(
              row, vocab, options_.processors, options_.stop_ids,
              {prompt.ids, sequences_[g][s].ids, length_limit(prompt, sequences_[g][s].sample, options_)});
          TORCH_CHECK_VALUE(
              std::any_of(row, row + vocab, [](float logit) { return logit != -INFINITY; }),
              "generate: no token is left for prompt ", prompt_indices_[g], ", sample ",
              sequences_[g][s].sample, ", token ", sequences_[g][s].ids.size(),
              ": every one is banned by noRepeatNgramSize, badWordsIds, minNewTokens or suppressTokens");
        }
      });
      const std::vector<float> numbers(uniforms.begin() + begin, uniforms.begin() + begin + size);
      const Sampled some = sample_rows(changed, own, numbers, sampler_);
      all.ids.insert(all.ids.end(), some.ids.begin(), some.ids.end());
    }
    all.logprobs = logprobs_of(logits, rows, all.ids);
    return all;
  }

  // Appends the sampled tokens, delivers the responses that end with them, and closes the gaps they leave.
  void accept(size_t first_group) {
    size_t draw = 0;
    size_t kept_groups = first_group;
    int64_t row = first_group > 0 ? groups_[first_group - 1].first_row +
                                        static_cast<int64_t>(groups_[first_group - 1].responses.size())
                                  : 0;
    for (size_t g = first_group; g < groups_.size(); ++g) {
      auto& sequences = sequences_[g];
      auto& regions = groups_[g].responses;
      const GeneratePrompt& prompt = prompts_[prompt_indices_[g]];
      size_t kept = 0;
      for (size_t i = 0; i < sequences.size(); ++i, ++draw) {
        Sequence& sequence = sequences[i];
        const int32_t id = sampled_.ids[draw];
        sequence.ids.push_back(id);
        sequence.logprobs.push_back(sampled_.logprobs[draw]);
        const bool full =
            static_cast<int64_t>(sequence.ids.size()) == length_limit(prompt, sequence.sample, options_);
        if (is_stop_[id] || full) {
          cache_.release(regions[i]);
          on_response_({prompt_indices_[g], sequence.sample, std::move(sequence.ids),
                        std::move(sequence.logprobs),
                        is_stop_[id] ? FinishReason::kStop : FinishReason::kLength});
          continue;
        }
        if (kept < i) {
          sequences[kept] = std::move(sequence);
          regions[kept] = regions[i];
        }
        ++kept;
      }
      sequences.resize(kept);
      regions.resize(kept);
      if (kept == 0) {
        cache_.release(groups_[g].prompt);
        continue;
      }
      groups_[g].first_row = row;
      row += static_cast<int64_t>(kept);
      if (kept_groups < g) {
        groups_[kept_groups] = std::move(groups_[g]);
        sequences_[kept_groups] = std::move(sequences);
        prompt_indices_[kept_groups] = prompt_indices_[g];
      }
      ++kept_groups;
    }
    groups_.resize(kept_groups);
    sequences_.resize(kept_groups);
    prompt_indices_.resize(kept_groups);
  }

  const Weights& weights_;
  const ModelConfig& config_;
  const std::vector<GeneratePrompt>& prompts_;
  const GenerateOptions& options_;
  const SamplerOptions sampler_;
  const std::function<void(Response&&)>& on_response_;
  const CancelFlag& cancelled_;
  const GeneratePlan plan_;
  const int64_t prefill_tokens_;
  std::vector<bool> is_stop_;
  KvCache cache_;
  int64_t logits_rows_;
  at::Tensor logits_;

  size_t next_launch_ = 0;
  bool filling_ = false;
  // The live groups in row order; the three lists run in parallel.
  std::vector<DecodeGroup> groups_;
  std::vector<std::vector<Sequence>> sequences_;
  std::vector<int64_t> prompt_indices_;
  // Reused from step to step.
  std::vector<int32_t> tokens_;
  std::vector<int64_t> rows_;
  std::vector<float> uniforms_;
  Sampled sampled_;
};

}  // namespace

void generate(const Model& model, const std::vector<GeneratePrompt>& prompts, const GenerateOptions& options,
              const std::function<void(Response&&)>& on_response, const CancelFlag& cancelled) {
  const c10::InferenceMode no_grad;
  const DeviceScope scope(model.device, model.weights.emulated);
  if (model.device.is_cuda() || model.weights.emulated) {
    TORCH_CHECK_VALUE(
        !options.processors.are_on() && options.min_p == 0,
        "generate: repetitionPenalty, noRepeatNgramSize, badWordsIds, minNewTokens, forcedEosId, "
        "suppressTokens, beginSuppressTokens and minP are computed on the CPU only; leave them out, "
        "or load the model with device cpu");
    return generate_on_gpu(model, prompts, options, on_response, cancelled);
  }
  Scheduler(model, prompts, options, on_response, cancelled).run();
}

}  // namespace cream
