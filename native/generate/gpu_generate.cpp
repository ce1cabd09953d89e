#include "generate/gpu_generate.h"

#include <ATen/Functions.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <deque>
#include <map>

#include "generate/block_arena.h"
#include "generate/gpu_decoder.h"
#include "generate/kv_cache.h"
#include "ops/device.h"

namespace cream {

namespace {

// Between two looks at the slots. A response that has ended keeps its slot until the look after the next,
// so slow steps are watched more closely; fast ones leave the host no time for that.
constexpr int64_t kStepsPerPoll = 8;
constexpr int64_t kSlowStepsPerPoll = 2;
constexpr int64_t kSlowParameters = 2'000'000'000;
// Free slots are filled again once they are this share of all: each time costs a pass over the weights.
constexpr int64_t kRefillShare = 64;
constexpr int64_t kItemRows = 64;  // rows of one prompt item

// The decoder that a model keeps from an earlier call; null where what it recorded is of no use any more.
std::shared_ptr<GpuDecoder> kept_decoder(const Model& model) {
  const auto kept = std::static_pointer_cast<GpuDecoder>(model.generation);
  if (kept == nullptr || kept->is_current(model)) return kept;
  model.generation.reset();
  return nullptr;
}

GpuPlan plan_with(const Model& model, const std::vector<GeneratePrompt>& prompts,
                  const GenerateOptions& options, const GpuDecoder* kept) {
  if (kept == nullptr) return plan_gpu_generation(model, prompts, options, nullptr);
  const GpuStepBuffers buffers = kept->buffers();
  return plan_gpu_generation(model, prompts, options, &buffers);
}

// A prompt whose keys and values are in the arena.
struct ResidentPrompt {
  KvRegion region;
  at::Tensor hidden;       // [1, C] of its last token; until its last response has begun
  int64_t unfinished = 0;  // responses that have not ended
};

struct LiveSlot {
  int64_t prompt_index, sample;
  int64_t limit;           // tokens that it may have
  int64_t first_snapshot;  // earlier ones show who had the slot before
  int64_t steps = 0;       // that it took part in
};

class GpuScheduler {
 public:
  GpuScheduler(const Model& model, const std::vector<GeneratePrompt>& prompts, const GenerateOptions& options,
               const std::function<void(Response&&)>& on_response, const CancelFlag& cancelled)
      : prompts_(prompts),
        options_(options),
        on_response_(on_response),
        cancelled_(cancelled),
        decoder_(kept_decoder(model)),
        plan_(plan_with(model, prompts, options, decoder_.get())),
        steps_per_poll_(options.steps_per_poll > 0                       ? options.steps_per_poll
                        : model.weights.num_parameters > kSlowParameters ? kSlowStepsPerPoll
                                                                         : kStepsPerPoll),
        arena_(plan_.arena_tokens / kArenaBlock) {
    if (prompts_.empty()) {
      decoder_ = nullptr;
      return;
    }
    if (decoder_ == nullptr || !decoder_->serves(plan_)) {
      decoder_ = nullptr;
      model.generation.reset();
      // The allocator would cut the new buffers from what it keeps of the last call's keys and values, and
      // the next ones need that in one piece.
      release_cached_memory();
      decoder_ = std::make_shared<GpuDecoder>(model, plan_);
      model.generation = decoder_;
    }
    decoder_->begin(plan_, options);
    for (int64_t slot = plan_.step.slots; slot-- > 0;) free_slots_.push_back(slot);
  }

  ~GpuScheduler() {
    if (decoder_ != nullptr) decoder_->end();
  }
  GpuScheduler(const GpuScheduler&) = delete;
  GpuScheduler& operator=(const GpuScheduler&) = delete;

  void run() {
    while (decoder_ != nullptr) {
      check_cancelled();
      refill();
      if (live_.empty() && in_flight_.empty()) return;
      const bool stepped = step();
      in_flight_.push_back({num_snapshots_++, decoder_->snapshot()});
      // One snapshot stays in flight while the next steps run, so that the GPU never waits for the host.
      while (in_flight_.size() > (stepped ? 1u : 0u)) {
        take(in_flight_.front().number, in_flight_.front().slots);
        in_flight_.pop_front();
      }
    }
  }

 private:
  void check_cancelled() const {
    if (cancelled_ && cancelled_->load(std::memory_order_relaxed)) throw Cancelled();
  }

  bool waiting() const { return next_prompt_ < static_cast<int64_t>(prompts_.size()); }

  // Begins as many responses as there are slots and room for prompts. A few free slots are not worth the
  // interruption.
  void refill() {
    const int64_t worth = live_.empty() ? 1 : std::max<int64_t>(1, plan_.step.slots / kRefillShare);
    if (!waiting() || static_cast<int64_t>(free_slots_.size()) < worth) return;
    while (begin_some()) check_cancelled();
  }

  // The next responses in order of prompts and samples, up to one pack of new prompts.
  bool begin_some() {
    std::vector<int64_t> fresh, owners;  // prompts to compute; the prompt of each start
    std::vector<gpu::SlotStart> starts;
    int64_t rows = 0;
    while (waiting() && !free_slots_.empty()) {
      auto resident = residents_.find(next_prompt_);
      if (resident == residents_.end()) {
        const auto length = static_cast<int64_t>(prompts_[next_prompt_].ids.size());
        if (rows > 0 && rows + length > kGpuPrefillTokens) break;
        const auto region = arena_.allocate((length + kArenaBlock - 1) / kArenaBlock);
        if (!region) break;
        rows += length;
        fresh.push_back(next_prompt_);
        resident = residents_.emplace(next_prompt_, ResidentPrompt{*region, {}, options_.num_samples}).first;
      }
      const int64_t slot = free_slots_.back();
      free_slots_.pop_back();
      const GeneratePrompt& prompt = prompts_[next_prompt_];
      const int64_t limit = length_limit(prompt, next_sample_, options_);
      live_.emplace(slot, LiveSlot{next_prompt_, next_sample_, limit, num_snapshots_});
      starts.push_back({static_cast<int32_t>(slot),
                        static_cast<int32_t>(prompt.ids.size()),
                        static_cast<int32_t>(limit),
                        {static_cast<uint32_t>(prompt.key), static_cast<uint32_t>(prompt.key >> 32),
                         static_cast<uint32_t>(next_sample_)}});
      owners.push_back(next_prompt_);
      if (++next_sample_ == options_.num_samples) {
        next_sample_ = 0;
        ++next_prompt_;
      }
    }
    if (starts.empty()) return false;
    rows_changed_ = true;
    compute(fresh);
    decoder_->start(starts, hidden_of(owners), rows_of(owners));
    return true;
  }

  void compute(const std::vector<int64_t>& fresh) {
    if (fresh.empty()) return;
    std::vector<const std::vector<int32_t>*> ids;
    std::vector<int64_t> places;
    for (const int64_t prompt : fresh) {
      ids.push_back(&prompts_[prompt].ids);
      places.push_back(residents_.at(prompt).region.begin * kArenaBlock);
    }
    const at::Tensor hidden = decoder_->prefill(ids, places);
    for (size_t i = 0; i < fresh.size(); ++i) {
      residents_.at(fresh[i]).hidden = hidden.narrow(0, static_cast<int64_t>(i), 1);
    }
  }

  // The last hidden states of the prompts that `owners` (ascending) names, each once.
  at::Tensor hidden_of(const std::vector<int64_t>& owners) {
    std::vector<at::Tensor> rows;
    for (size_t i = 0; i < owners.size(); ++i) {
      if (i > 0 && owners[i] == owners[i - 1]) continue;
      ResidentPrompt& resident = residents_.at(owners[i]);
      rows.push_back(resident.hidden);
      // Kept for the samples that have no slot yet; a view would keep the whole pack's.
      resident.hidden = owners[i] == next_prompt_ ? resident.hidden.clone() : at::Tensor();
    }
    return at::cat(rows);
  }

  static std::vector<int64_t> rows_of(const std::vector<int64_t>& owners) {
    std::vector<int64_t> rows;
    for (size_t i = 0; i < owners.size(); ++i) {
      rows.push_back(i == 0 ? 0 : rows.back() + (owners[i] == owners[i - 1] ? 0 : 1));
    }
    return rows;
  }

  // Decodes a few tokens of every live response. False if none can have any left.
  bool step() {
    int64_t steps = 0;
    for (const auto& [slot, live] : live_) {
      steps = std::max(steps, live.limit - 1 - live.steps);
    }
    steps = std::min(steps, steps_per_poll_);
    if (steps <= 0) return false;
    if (rows_changed_) schedule();
    for (int64_t i = 0; i < steps; ++i) decoder_->step();
    for (auto& [slot, live] : live_) live.steps += steps;
    return true;
  }

  void schedule() {
    std::vector<std::pair<int64_t, int64_t>> order;  // prompt, slot
    for (const auto& [slot, live] : live_) order.emplace_back(live.prompt_index, slot);
    std::sort(order.begin(), order.end());
    std::vector<int32_t> row_slots;
    std::vector<gpu::PromptItem> items;
    const auto piece = plan_.step.pieces.prompt_tokens;
    for (size_t begin = 0; begin < order.size();) {
      size_t end = begin;
      while (end < order.size() && order[end].first == order[begin].first &&
             end - begin < static_cast<size_t>(kItemRows)) {
        row_slots.push_back(static_cast<int32_t>(order[end++].second));
      }
      const int64_t prompt = order[begin].first;
      const auto length = static_cast<int64_t>(prompts_[prompt].ids.size());
      for (int64_t p = 0; p * piece < length; ++p) {
        items.push_back({static_cast<int32_t>(begin), static_cast<int32_t>(end - begin),
                         static_cast<int32_t>(p * piece),
                         static_cast<int32_t>(std::min(length, (p + 1) * piece)),
                         static_cast<int32_t>(residents_.at(prompt).region.begin * kArenaBlock),
                         static_cast<int32_t>(p)});
      }
      begin = end;
    }
    decoder_->schedule(row_slots, items);
    rows_changed_ = false;
  }

  // Delivers the responses that a snapshot shows as ended, and frees what they held.
  void take(int64_t number, SlotSnapshot& snapshot) {
    snapshot.mark.wait();
    for (auto it = live_.begin(); it != live_.end();) {
      const auto [slot, live] = *it;
      const gpu::SlotState state = snapshot.state(slot);
      if (live.first_snapshot > number || state == gpu::SlotState::kLive) {
        ++it;
        continue;
      }
      TORCH_CHECK(state != gpu::SlotState::kNotFinite, "sampler: the logits of prompt ", live.prompt_index,
                  ", sample ", live.sample, " are not finite (NaN or infinite) at token ",
                  snapshot.count(slot), "; the weights may have diverged");
      const int64_t count = snapshot.count(slot);
      Response response{live.prompt_index,
                        live.sample,
                        {snapshot.ids(slot), snapshot.ids(slot) + count},
                        {snapshot.logprobs(slot), snapshot.logprobs(slot) + count},
                        state == gpu::SlotState::kStopped ? FinishReason::kStop : FinishReason::kLength};
      const auto resident = residents_.find(live.prompt_index);
      if (--resident->second.unfinished == 0) {
        arena_.release(resident->second.region);
        residents_.erase(resident);
      }
      free_slots_.push_back(slot);
      it = live_.erase(it);
      rows_changed_ = true;
      on_response_(std::move(response));
    }
  }

  const std::vector<GeneratePrompt>& prompts_;
  const GenerateOptions& options_;
  const std::function<void(Response&&)>& on_response_;
  const CancelFlag& cancelled_;
  std::shared_ptr<GpuDecoder> decoder_;  // null when there is nothing to do
  const GpuPlan plan_;
  const int64_t steps_per_poll_;
  BlockArena arena_;

  int64_t next_prompt_ = 0, next_sample_ = 0;
  std::map<int64_t, ResidentPrompt> residents_;  // by prompt
  std::map<int64_t, LiveSlot> live_;             // by slot
  std::vector<int64_t> free_slots_;
  struct InFlight {
    int64_t number;
    SlotSnapshot slots;
  };
  std::deque<InFlight> in_flight_;
  int64_t num_snapshots_ = 0;
  bool rows_changed_ = false;
};

}  // namespace

void generate_on_gpu(const Model& model, const std::vector<GeneratePrompt>& prompts,
                     const GenerateOptions& options, const std::function<void(Response&&)>& on_response,
                     const CancelFlag& cancelled) {
  const gpu::StreamScope stream(model.device);
  GpuScheduler(model, prompts, options, on_response, cancelled).run();
}

}  // namespace cream
