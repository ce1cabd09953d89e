// The GPU's side of native/ops: each function is what the op of the same name does where `active` is true.
// The kernels are in native/cuda; without CUDA they run on CPU tensors through the emulation of cuda/emulate.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "ops/adamw.h"
#include "ops/lora.h"
#include "ops/token_logprobs.h"

namespace cream::gpu {

// While one lives, ops of this thread take the GPU's path with CPU tensors.
class EmulationScope {
 public:
  explicit EmulationScope(bool on);
  ~EmulationScope();
  EmulationScope(const EmulationScope&) = delete;
  EmulationScope& operator=(const EmulationScope&) = delete;

 private:
  bool before_;
};

// Throws where this build cannot emulate: one with CUDA has the kernels for the GPU only.
void check_emulation();

bool active(const at::Tensor& x);

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& w, double eps);
at::Tensor add_rms_norm(at::Tensor& sum, const at::Tensor& residual, const at::Tensor& x, const at::Tensor& w,
                        double eps);
void rms_norm_heads_(at::Tensor& x, int64_t heads, const at::Tensor& w, double eps);
at::Tensor rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& w, double eps,
                             at::Tensor dw, const at::Tensor& add_to);
void rms_norm_heads_backward_(at::Tensor& dy, const at::Tensor& x, int64_t heads, const at::Tensor& w,
                              double eps, at::Tensor dw);

// positions: host memory, one per row of x
void rope_(at::Tensor& x, int64_t heads, int64_t head_dim, const int32_t* positions, const at::Tensor& table,
           bool inverse);
// The same with the positions on the device already: int32 [rows].
void rope_(at::Tensor& x, int64_t heads, int64_t head_dim, const at::Tensor& positions,
           const at::Tensor& table, bool inverse);

at::Tensor swiglu(const at::Tensor& gate_up);
at::Tensor swiglu_backward_(at::Tensor& gate_up, const at::Tensor& dy);

// d_embed[ids[r]] += row r of d, in the order of the rows.
void add_embedding_gradient(at::Tensor& d_embed, const std::vector<int64_t>& ids, const at::Tensor& d_RC);

// sum [M, N] += scale a [M, K] b [K, N], rounded once; sum may be some columns of a wider matrix.
void add_product_(at::Tensor sum, const at::Tensor& a, const at::Tensor& b, double scale);

void linear_backward_weight(const at::Tensor& dy, const at::Tensor& x, at::Tensor dw, at::Tensor dbias,
                            bool overwrite);

// view[i] = deviation times the normal deviate of (seed, first + i); contiguous.
void fill_normal(const at::Tensor& view, int64_t first, uint64_t seed, double deviation);

at::Tensor lora_dropout(const at::Tensor& x, const LoraDropout& dropout);

// starts: first target of each row of the batch, and one past the last target.
TokenLogprobs token_logprobs(const at::Tensor& hidden, const at::Tensor& head,
                             const std::vector<Target>& targets, const std::vector<int64_t>& starts,
                             int64_t chunk_rows);
at::Tensor token_logprobs_backward(const at::Tensor& hidden, const at::Tensor& head,
                                   const std::vector<Target>& targets, const std::vector<int64_t>& starts,
                                   const std::vector<float>& weights, const std::vector<float>& lse,
                                   at::Tensor d_head, int64_t chunk_rows, bool overwrite);

double squared_norm(const at::Tensor& gradient);
int64_t adamw_(const AdamWTensors& tensors, const AdamWUpdate& update);

}  // namespace cream::gpu
