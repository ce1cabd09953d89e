// Packed attention on the GPU: LibTorch's flash kernels over variable-length sequences. A leaf's keys are its
// trunk's, repeated, and its own; the matrix products around it see the trunk once.
#pragma once

#include "ops/packed_attention.h"

namespace cream::gpu {

// As cream::packed_attention; lse is a view of [Hq, R] memory. Flash kernels: bfloat16 and a head_dim that is
// a multiple of 8; anything else, and every dtype under emulation, runs on the plain kernels of
// cuda/kernels/attention.cu. head_dim is at most 256.
AttentionResult packed_attention(const at::Tensor& qkv, const Pack& pack, const AttentionShape& shape);

// A trunk's key and value gradients are summed over its leaves in float32, in a fixed order.
at::Tensor packed_attention_backward(const at::Tensor& d_out, const at::Tensor& qkv,
                                     const AttentionResult& forward, const Pack& pack,
                                     const AttentionShape& shape);

// While one lives, this thread's flash backwards add up in a fixed order, somewhat slower.
class DeterministicScope {
 public:
  explicit DeterministicScope(bool on);
  ~DeterministicScope();
  DeterministicScope(const DeterministicScope&) = delete;
  DeterministicScope& operator=(const DeterministicScope&) = delete;

 private:
  bool before_;
};

}  // namespace cream::gpu
