// A model on a device: its weights, and the verbs on them that need nothing else.
#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/weights.h"

namespace cream {

// Thrown by long verbs when `cancelled` becomes true.
struct Cancelled : std::exception {
  const char* what() const noexcept override { return "the operation was aborted"; }
};
using CancelFlag = std::shared_ptr<std::atomic<bool>>;

struct Model {
  Weights weights;
  at::ScalarType dtype;
  at::Device device;
  bool in_training = false;  // a trainer holds it
  // What generation on a GPU keeps from call to call (generate/gpu_decoder.h): buffers and recorded steps.
  mutable std::shared_ptr<void> generation{};
};

// Reads Hugging Face safetensors files into a model. Every tensor of the architecture must be there once with
// its exact shape, and nothing else may be ("lm_head.weight" of a tied model and rotary inv_freq buffers are
// tolerated); float32, bfloat16 and float16 are converted to dtype. NaN or infinite weights are refused by
// name.
std::shared_ptr<Model> load_model(const ModelConfig& config, const std::vector<std::string>& files,
                                  at::ScalarType dtype, at::Device device, bool emulated = false);
std::shared_ptr<Model> random_model(const ModelConfig& config, uint64_t seed, at::ScalarType dtype,
                                    at::Device device, bool emulated = false);
std::shared_ptr<Model> clone_model(const Model& model);

// Writes the weights in their dtype as one file "model.safetensors" or shards
// "model-0000i-of-0000n.safetensors" of at most max_shard_bytes, plus "model.safetensors.index.json" if
// sharded, each flushed to disk, metadata
// {"format": "pt"}. Returns the file names. `directory` exists and is not published before the caller renames
// it.
std::vector<std::string> save_model(const Model& model, const std::string& directory,
                                    uint64_t max_shard_bytes);

struct ScoreGroup {
  std::vector<int32_t> prompt_ids;
  std::vector<std::vector<int32_t>> responses;
};
struct ScoreResult {
  std::vector<std::vector<double>> logprobs;                    // [group][response] sum over response tokens
  std::vector<std::vector<std::vector<float>>> token_logprobs;  // [group][response][token]
};

// log pi(response | prompt) for every response, prompts computed once per group, packed by a token budget. An
// empty response has log-prob 0 and no tokens. Groups larger than the budget are split between responses.
// share_prompts false is the definition: every response is a sequence of its own with its prompt before it.
ScoreResult score(const Model& model, const std::vector<ScoreGroup>& groups, int64_t max_tokens_per_batch,
                  const CancelFlag& cancelled, bool share_prompts = true);

// The one label's logit of prompt + response for every response, of a sequence classifier (num_labels 1): the
// head applied to the final hidden state of the last token that is not `pad_id` (-1: the last token), as
// transformers does; float32 from the weights' dtype by a float64 product. Prompts are computed once per
// group. Returns [group][response].
std::vector<std::vector<double>> sequence_rewards(const Model& model, const std::vector<ScoreGroup>& groups,
                                                  int64_t pad_id, int64_t max_tokens_per_batch,
                                                  const CancelFlag& cancelled);

}  // namespace cream
