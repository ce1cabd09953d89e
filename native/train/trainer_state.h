// What a trainer holds beside the model. Private to native/train.
#pragma once

#include <memory>

#include "model/adapter.h"
#include "model/model.h"
#include "model/transformer.h"
#include "train/trainer.h"

namespace cream {

// One computation of a batch's gradient.
struct Pass {
  const Weights& weights;
  Gradients grads;
  uint64_t dropout_key;
  int64_t max_tokens_per_batch;
  CancelFlag cancelled;
};

struct Trainer::State {
  std::shared_ptr<Model> model;
  AdamWOptions options;
  Weights grads;            // float32, the layout of the weights; empty when an adapter is trained
  Adapter adapter_grads;    // float32, the layout of the adapter; empty when the weights are trained
  at::Tensor gradient;      // [n] float32, the flat buffer of either
  at::Tensor working;       // [n] what is trained, in the model's dtype
  int64_t decay_size = 0;   // weight decay acts on [0, decay_size)
  int64_t num_trained = 0;  // parameters, without gaps
  at::Tensor master;        // [n] float32; `working` itself when that is float32
  at::Tensor m, v;          // [n] float32 moments
  int64_t step = 0;         // optimizer steps taken
  bool grads_are_zero = true;

  Gradients gradients() {
    return adapter_grads.flat.defined() ? Gradients{.adapter = &adapter_grads} : Gradients{.weights = &grads};
  }
  Pass pass(int64_t max_tokens_per_batch, CancelFlag cancelled);
  std::vector<NamedTensor> named_gradients() const;
  // Empties the gradients unless the last update did so in passing.
  void begin_pass();
  // Clips, updates the weights and reports. Changes nothing when the loss or the gradient is not finite.
  void apply(double learning_rate, StepMetrics& metrics);
};

}  // namespace cream
