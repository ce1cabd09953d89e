// A decode step on a GPU: every token, position, random number and stop is decided on the device, so that
// steps follow each other without the host. Steps are recorded once per number of rows.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "generate/gpu_plan.h"
#include "model/model.h"
#include "ops/step_graph.h"

namespace cream {

// A copy of the slots' states and tokens on the host, once `mark` is reached.
struct SlotSnapshot {
  at::Tensor values;
  int64_t slots, capacity;
  gpu::StreamMark mark;

  gpu::SlotState state(int64_t slot) const;
  int64_t count(int64_t slot) const;
  const int32_t* ids(int64_t slot) const;
  const float* logprobs(int64_t slot) const;
};

class GpuDecoder {
 public:
  GpuDecoder(const Model& model, const GpuPlan& plan);

  // False where recorded steps would read memory that is no longer the model's.
  bool is_current(const Model& model) const;
  // Whether it can do what a plan asks.
  bool serves(const GpuPlan& plan) const;
  GpuStepBuffers buffers() const;

  // Keys and values for a run of generate, and its settings.
  void begin(const GpuPlan& plan, const GenerateOptions& options);
  // Gives the keys and values back; what is recorded stays.
  void end();

  // Computes prompts, each to its place in the arena; returns the final hidden state of each one's last
  // token.
  at::Tensor prefill(const std::vector<const std::vector<int32_t>*>& prompts,
                     const std::vector<int64_t>& places);

  // Responses begin in slots and get their first token; response i continues the prompt whose last hidden
  // state is row rows[i] of hidden. rows ascend.
  void start(const std::vector<gpu::SlotStart>& starts, const at::Tensor& hidden,
             const std::vector<int64_t>& rows);

  // Which slots the next steps decode: rows of a prompt together.
  void schedule(const std::vector<int32_t>& row_slots, const std::vector<gpu::PromptItem>& items);
  void step();

  SlotSnapshot snapshot() const;

 private:
  // The first `rows` rows of a step.
  void run_step(int64_t rows);
  void upload_schedule(const std::vector<int32_t>& row_slots, const std::vector<gpu::PromptItem>& items);
  gpu::StepGraph& graph(int64_t rows);
  gpu::Schedule schedule_view() const;

  const Weights& weights_;  // of the model that keeps this decoder
  const at::Device device_;
  const GpuStepShape shape_;
  const void *const flat_, *const adapter_;  // addresses in recorded steps
  const at::Tensor angles_;
  gpu::Slots slots_{};
  // Per slot: state, count, ids and log-probs (what a snapshot copies), then what only the device reads.
  at::Tensor visible_, hidden_, logprob_sums_;
  at::Tensor schedule_, settings_, memory_, stops_;
  at::Tensor residual_, qkv_, attended_, mixed_, gate_up_, logits_, decode_scratch_, sampler_scratch_;
  at::Tensor keys_values_;
  GpuStepKind kind_;       // of this run
  int64_t most_rows_ = 0;  // its slots
  int64_t rows_ = 0;       // of the next steps
  gpu::GraphPool pool_;
  std::map<std::pair<GpuStepKind, int64_t>, std::unique_ptr<gpu::StepGraph>> graphs_;  // by rows
};

// Rows of a recorded step that `rows` responses use.
int64_t bucket_of(int64_t rows, int64_t most);

}  // namespace cream
