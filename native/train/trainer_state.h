// What a trainer holds beside the model. Private to native/train.
#pragma once

#include <memory>

#include "model/model.h"
#include "train/trainer.h"

namespace cream {

struct Trainer::State {
  std::shared_ptr<Model> model;
  AdamWOptions options;
  Weights grads;      // float32, the layout of the weights
  at::Tensor master;  // [n] float32; the model's own buffer when that is float32
  at::Tensor m, v;    // [n] float32 moments
  int64_t step = 0;   // optimizer steps taken
  bool grads_are_zero = true;

  // Empties the gradients unless the last update did so in passing.
  void begin_pass();
  // Clips, updates the weights and reports. Changes nothing when the loss or the gradient is not finite.
  void apply(double learning_rate, StepMetrics& metrics);
};

}  // namespace cream
