// What a trainer holds beside the model. Private to native/train.
#pragma once

#include <memory>

#include "model/adapter.h"
#include "model/model.h"
#include "model/transformer.h"
#include "ops/adamw.h"
#include "train/trainer.h"

namespace cream {

// One computation of a batch's gradient.
struct Pass {
  const Weights& weights;
  Gradients grads;
  uint64_t dropout_key;
  int64_t max_tokens_per_batch;
  CancelFlag cancelled;
  RecomputePlan recompute;
  int64_t simulated_rows = 0;
};

struct Trainer::State {
  std::shared_ptr<Model> model;
  AdamWOptions options;
  std::vector<ParameterRange> ranges;
  Weights grads;          // the layout of the weights; empty when an adapter is trained
  Adapter adapter_grads;  // float32, the layout of the adapter; empty when the weights are trained
  // [n] what is trained, in the model's dtype, its master, float32 gradients and moments. With bfloat16
  // gradients those beyond decay_size (norms and biases) are in `gradient_tail`, float32 [n - decay_size].
  AdamWTensors tensors;
  at::Tensor gradient_tail;
  int64_t decay_size = 0;      // weight decay acts on [0, decay_size)
  int64_t num_trained = 0;     // parameters, without gaps
  int64_t step = 0;            // optimizer steps taken
  int64_t max_tokens = 0;      // lower bound of micro-batches that memory asked for; 0 = none yet
  int64_t simulated_rows = 0;  // of Trainer::simulate_memory_of
  bool grads_are_zero = true;

  Gradients gradients() {
    if (adapter_grads.flat.defined()) return {.adapter = &adapter_grads};
    return {.weights = &grads, .overwrite_matrices = overwrites()};
  }
  // Whether the first micro-batch of a step writes the gradients of matrices, so that nothing has to clear
  // them (on a GPU). It always does: a step that is taken again, or after a pause, has the same products.
  bool overwrites() const;
  bool is_split() const { return tensors.low.defined(); }
  // Elements [begin, begin + size) of the float32 master on the CPU; a copy unless they are there.
  at::Tensor master_on_cpu(int64_t begin, int64_t size) const;
  // Takes over elements of a float32 master on the CPU from `begin` on, working weights included.
  void set_master(int64_t begin, const at::Tensor& values);
  Pass pass(int64_t max_tokens_per_batch, CancelFlag cancelled);
  std::vector<NamedTensor> named_gradients() const;
  // Empties what is added to, unless the last update did so in passing.
  void begin_pass();
  // run(pass) with the bound halved until its micro-batches fit in memory.
  template <typename Run>
  StepMetrics fitting_pass(int64_t max_tokens_per_batch, const CancelFlag& cancelled, const Run& run);
  // Clips, updates the weights and reports. Changes nothing when the loss or the gradient is not finite.
  void apply(double learning_rate, StepMetrics& metrics);
};

}  // namespace cream
