// Training of a resident model, all of its weights or its adapter: SFT and preference steps with AdamW over
// float32 master weights. On a GPU the master of a bfloat16 model is its weights and another 16 bits of each.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model/model.h"
#include "model/transformer.h"
#include "train/loss.h"
#include "train/parameter_groups.h"

namespace cream {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0.01;
  double max_grad_norm = 1.0;  // 0 = no clipping
  uint64_t seed = 0;           // of an adapter's dropout and of the rounding of bfloat16 moments
  RateFactors rates;
  at::ScalarType moments = at::kFloat;  // or bfloat16: half of their memory
  // What is summed over the micro-batches of a step. bfloat16, for the matrices of a bfloat16 model on a GPU:
  // half of the memory, and a rounding per micro-batch. Norms and biases are summed in float32.
  at::ScalarType gradients = at::kFloat;
  RecomputePlan recompute;
  bool deterministic = false;  // on a GPU, a fixed order of every sum; the CPU's is fixed
};

struct SftExample {
  std::vector<int32_t> prompt_ids, response_ids;  // loss on response tokens only; neither is empty
  std::vector<int32_t>
      trained;  // 1 for a response token that carries loss, 0 for others; empty: all carry it
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
  // The bound that micro-batches kept to: the caller's, or less where they did not fit in memory.
  int64_t max_tokens_per_batch = 0;
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
  // over pairs. When a micro-batch does not fit in memory, the bound is halved and the step taken again, with
  // the same result up to rounding; the smaller bound is kept for the steps that follow.
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

  // For tests: micro-batches of more rows fail as if memory had run out half way. 0 = off.
  void simulate_memory_of(int64_t rows);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cream
