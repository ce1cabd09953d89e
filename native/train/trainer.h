// Training of a resident model, all of its weights or its adapter: SFT and preference steps with AdamW over
// float32 master weights.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model/model.h"
#include "train/loss.h"

namespace cream {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0.01;
  double max_grad_norm = 1.0;  // 0 = no clipping
  uint64_t seed = 0;           // of an adapter's dropout
};

struct SftExample {
  std::vector<int32_t> prompt_ids, response_ids;  // loss on response tokens only; neither is empty
};

struct PairExample {
  std::vector<int32_t> prompt_ids, chosen_ids, rejected_ids;
  double consistency;                           // C of the loss, in [0, 1]
  double reference_chosen, reference_rejected;  // frozen sequence log-probs
  double implicit_margin, judge_margin;         // of the agreement term: train/loss.h
};

// Means over the examples of the step (sums for counts).
struct StepMetrics {
  double loss = 0;
  double grad_norm = 0;       // before clipping
  bool applied = false;       // false: loss or gradient was not finite, nothing changed
  int64_t tokens = 0;         // rows computed
  int64_t target_tokens = 0;  // tokens that carried loss
  int64_t micro_batches = 0;
  double weights_moved = 0;  // fraction of parameters whose working-precision value changed
  // preference only
  double rewards_chosen = 0, rewards_rejected = 0, rewards_margins = 0, rewards_accuracies = 0;
  double logps_chosen = 0, logps_rejected = 0;
};

class Trainer {
 public:
  // Marks the model as in training; its weights are the initial master weights.
  Trainer(std::shared_ptr<Model> model, const AdamWOptions& options);
  ~Trainer();

  // One optimizer step on the whole batch, split into micro-batches of at most max_tokens_per_batch rows by a
  // rule that depends on the batch alone. SFT loss: mean over the batch's response tokens. Preference: mean
  // over pairs.
  StepMetrics sft_step(const std::vector<SftExample>& batch, double learning_rate,
                       int64_t max_tokens_per_batch, const CancelFlag& cancelled);
  StepMetrics preference_step(const std::vector<PairExample>& batch, const PreferenceOptions& options,
                              double learning_rate, int64_t max_tokens_per_batch,
                              const CancelFlag& cancelled);

  // Float32 gradients of the last step's loss by Hugging Face names (tests): computed, not applied.
  std::vector<NamedTensor> sft_gradients(const std::vector<SftExample>& batch, int64_t max_tokens_per_batch);
  std::vector<NamedTensor> preference_gradients(const std::vector<PairExample>& batch,
                                                const PreferenceOptions& options,
                                                int64_t max_tokens_per_batch);

  // Master weights, moments and step count in one safetensors file, flushed to disk; load restores bit by bit
  // (working weights too) and refuses another architecture, dtype or optimizer setting.
  void save_state(const std::string& path) const;
  void load_state(const std::string& path);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cream
