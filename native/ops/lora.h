// Low-rank adapters (LoRA, Hu et al. 2021, eq. 3): y += scale (drop(x) a^T) b^T on a column range of a matrix
// product, and the gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace cream {

// Adapters of the projections that one merged matrix holds side by side. They read the same input, so their
// first factors are one matrix.
struct LoraSite {
  struct Part {
    at::Tensor b;       // [out, r]; ranks may differ
    int64_t begin = 0;  // first column of the merged product that it adds to
    int64_t row = 0;    // first of its r rows of a
    double scale = 1;
  };
  at::Tensor a;  // [sum of the ranks, in]; undefined when the site has no adapter
  std::vector<Part> parts;
};

// Which inputs of an adapter are zeroed in training: element (row, column) of a site is, or is not, by a
// counter-based random number, so that a split into micro-batches changes nothing.
struct LoraDropout {
  double probability = 0;                      // 0 = none
  uint64_t key = 0;                            // of the seed and the step
  uint32_t site = 0;                           // of the layer and the projection
  int64_t first_row = 0;                       // number of the batch's rows before x's
  const std::vector<int64_t>* rows = nullptr;  // row of x -> row of the pack, where x is a selection
};

// x with elements zeroed and the others divided by 1 - probability. x itself when there is no dropout.
at::Tensor lora_dropout(const at::Tensor& x, const LoraDropout& dropout);

//   y [R, *], x [R, in]
void lora_add_(at::Tensor y, const at::Tensor& x, const LoraSite& site, const LoraDropout& dropout = {});

// For dy [R, *], adds the gradient by x to dx [R, in], and those of a and b to `grads` (float32, same
// layout).
void lora_backward_(at::Tensor dx, const at::Tensor& dy, const at::Tensor& x, const LoraSite& site,
                    LoraSite& grads, const LoraDropout& dropout = {});

}  // namespace cream
