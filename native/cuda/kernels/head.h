// The head's softmax over chunks of logits.
#pragma once

#include <cstdint>

#include "cuda/types.h"

namespace cream::gpu {

// lse [rows] = log-sum-exp of each row of logits [rows, vocab], in one pass; and for the targets
// starts[r] ... starts[r + 1] - 1 of row r: logprobs[i] = logits[r, tokens[i]] - lse[r]. starts, tokens and
// logprobs count from the first target of the whole batch.
void lse_and_gather(float* lse, float* logprobs, const float* logits, int64_t rows, int64_t vocab,
                    const int64_t* starts, const int32_t* tokens, Stream stream);

// logits becomes the gradient of sum_i weights[i] logprobs[i], computed in float32 and rounded once to the
// type `gradient`: in place, row r of it at the beginning of row r of logits. So the gradients' row stride is
// vocab elements of float32, or 2 vocab of bfloat16.
void dlogits(float* logits, Dtype gradient, int64_t rows, int64_t vocab, const float* lse,
             const int64_t* starts, const int32_t* tokens, const float* weights, Stream stream);

}  // namespace cream::gpu
