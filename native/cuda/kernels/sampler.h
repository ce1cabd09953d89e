// One token per row of logits, without sorting: greedy, or by temperature, top-k and top-p with the random
// numbers of the CPU's sampler. Selection sums are integers, so they do not depend on the order of threads.
#pragma once

#include <cstdint>

#include "cuda/types.h"

namespace cream::gpu {

// In device memory, so that a recorded graph outlives a change of settings.
struct SamplerSettings {
  float temperature;  // 0 = greedy
  float top_p;        // 1 = off
  int32_t top_k;      // 0 = off
  uint32_t seed[2];
};

enum class SlotState : int32_t { kIdle, kLive, kStopped, kFull, kNotFinite };

// Responses in their slots; every array has one entry per slot.
struct Slots {
  int32_t* state;          // SlotState
  int32_t* count;          // tokens sampled so far
  int32_t* token;          // the last of them
  int32_t* prompt_length;  // tokens of the prompt
  int32_t* limit;          // tokens that the response may have
  uint32_t* key;           // [slots, 3] prompt key, low and high half, and the sample's number
  double* logprob_sum;     // of the tokens so far
  int32_t* ids;            // [slots, capacity]
  float* logprobs;         // [slots, capacity]
  int64_t capacity;        // tokens per slot
};

// What the kernels must do; fixed when a graph is recorded.
enum class SamplerMode { kGreedy, kPlain, kTruncated };

constexpr int64_t kSamplerMaxVocab = int64_t{1} << 21;

// Bytes of scratch memory for `rows` rows, at an address that is a multiple of 16.
int64_t sampler_scratch(int64_t rows, int64_t vocab, SamplerMode mode);

struct SamplerRows {
  const void* logits;  // [*, vocab]
  Dtype dtype;
  int64_t vocab;
  int64_t rows;
  const int32_t* slots;    // [rows] slot of each row, -1 = none
  const int32_t* sources;  // [rows] row of logits that each row reads; null: its own
};

// For each row whose slot is live: draws the token number `count` of its response, stores it with its
// log-prob under temperature 1 and no truncation, and sets the slot's state. stops: one bit per token id.
void sample(const SamplerRows& rows, SamplerMode mode, const SamplerSettings* settings, const Slots& slots,
            const uint32_t* stops, void* scratch, Stream stream);

}  // namespace cream::gpu
