#include "train/trainer.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>

#include "model/residence.h"
#include "model/response_pack.h"
#include "model/transformer.h"
#include "ops/adamw.h"
#include "ops/device.h"
#include "ops/gpu.h"
#include "ops/packed_attention_cuda.h"
#include "ops/philox.h"
#include "ops/token_logprobs.h"
#include "train/batching.h"
#include "train/trainer_state.h"

namespace cream {

namespace {

void check(const AdamWOptions& options) {
  TORCH_CHECK_VALUE(options.beta1 < 1, "trainer: beta1 must be below 1, got ", options.beta1);
  TORCH_CHECK_VALUE(options.beta2 < 1, "trainer: beta2 must be below 1, got ", options.beta2);
  TORCH_CHECK_VALUE(options.epsilon > 0, "trainer: epsilon must be above 0, got ", options.epsilon);
}

size_t num_trained(const SftExample& example) {
  if (example.trained.empty()) return example.response_ids.size();
  return static_cast<size_t>(std::count(example.trained.begin(), example.trained.end(), 1));
}

void check(const ModelConfig& config, const std::vector<SftExample>& batch) {
  for (size_t i = 0; i < batch.size(); ++i) {
    const SftExample& example = batch[i];
    check_length(config, all_positions(example.prompt_ids, example.response_ids), "sftStep: example", i);
    TORCH_CHECK_VALUE(example.trained.empty() || example.trained.size() == example.response_ids.size(),
                      "sftStep: example ", i, " has ", example.response_ids.size(), " response tokens and ",
                      example.trained.size(), " marks of those that are trained");
    TORCH_CHECK_VALUE(num_trained(example) > 0, "sftStep: example ", i, " has no token that is trained");
  }
}

void check(const ModelConfig& config, const std::vector<PairExample>& batch) {
  for (size_t i = 0; i < batch.size(); ++i) {
    check_length(config, all_positions(batch[i].prompt_ids, batch[i].chosen_ids), "preferenceStep: pair", i);
    check_length(config, all_positions(batch[i].prompt_ids, batch[i].rejected_ids), "preferenceStep: pair",
                 i);
  }
}

void check(const PreferenceOptions& options) {
  TORCH_CHECK_VALUE(options.beta > 0, "preferenceStep: beta must be above 0, got ", options.beta);
}

double sequence_logprob(const ResponseTargets& response, const std::vector<float>& logprobs) {
  double sum = 0;
  for (int64_t t = 0; t < response.length; ++t) sum += logprobs[static_cast<size_t>(response.at(t))];
  return sum;
}

void fill_weights(const ResponseTargets& response, double weight, std::vector<float>& weights) {
  for (int64_t t = 0; t < response.length; ++t) {
    weights[static_cast<size_t>(response.at(t))] = static_cast<float>(weight);
  }
}

// Computes a batch's loss and accumulates its gradient, micro-batch by micro-batch. `pack(i, packed)` appends
// example i; `weigh(i, response, logprobs, weights)` returns the example's part of the loss and sets the
// derivative by each of its log-probs. Stops early when the loss is not finite.
template <typename PackExample, typename Weigh>
void accumulate(const Pass& pass, const std::vector<MicroBatch>& parts, StepMetrics& metrics,
                const PackExample& pack, const Weigh& weigh) {
  const Weights& weights = pass.weights;
  const at::Tensor d_head = pass.grads.weights == nullptr ? at::Tensor() : pass.grads.weights->head;
  // Large chunks are for the head's gradient, which every chunk adds to.
  const bool is_small_chunk = gpu::active(weights.flat) && weights.adapter != nullptr;
  const int64_t chunk_rows = is_small_chunk ? 1024 : kAutoChunk;
  Gradients grads = pass.grads;
  for (const MicroBatch& part : parts) {
    if (pass.cancelled && pass.cancelled->load()) throw Cancelled();
    ResponsePack packed;
    for (size_t i = part.begin; i < part.end; ++i) pack(i, packed);
    if (weights.adapter != nullptr) {
      packed.pack.dropout = weights.adapter->options.dropout;
      packed.pack.dropout_key = pass.dropout_key;
      packed.pack.first_row = metrics.tokens;
    }

    Activations saved;
    saved.recompute = pass.recompute;
    const auto hidden_SC = forward(weights, packed.pack, &saved);
    const auto scored = token_logprobs(hidden_SC, weights.head, packed.targets, chunk_rows);

    std::vector<float> token_weights(packed.targets.size());
    const size_t responses_each = packed.responses.size() / (part.end - part.begin);
    for (size_t i = part.begin; i < part.end; ++i) {
      const ResponseTargets* responses = &packed.responses[(i - part.begin) * responses_each];
      metrics.loss += weigh(i, responses, scored.logprobs, token_weights);
    }
    metrics.tokens += packed.pack.num_rows();
    metrics.target_tokens += static_cast<int64_t>(packed.targets.size());
    metrics.micro_batches += 1;
    if (!std::isfinite(metrics.loss)) return;

    const auto d_hidden_SC =
        token_logprobs_backward(hidden_SC, weights.head, packed.targets, token_weights, scored.lse, d_head,
                                chunk_rows, grads.overwrite_matrices);
    TORCH_CHECK_WITH(
        OutOfMemoryError, pass.simulated_rows == 0 || packed.pack.num_rows() <= pass.simulated_rows,
        packed.pack.num_rows(), " rows do not fit in a simulated memory of ", pass.simulated_rows);
    backward(weights, packed.pack, saved, d_hidden_SC, grads);
    grads.overwrite_matrices = false;  // later micro-batches are added
  }
}

StepMetrics sft_pass(const Pass& pass, const std::vector<SftExample>& batch) {
  TORCH_CHECK_VALUE(!batch.empty(), "step: the batch has no examples");
  check(pass.weights.config, batch);
  std::vector<int64_t> rows;
  size_t num_tokens = 0;
  for (const auto& example : batch) {
    rows.push_back(static_cast<int64_t>(example.prompt_ids.size()) +
                   response_rows(example.response_ids.size()));
    num_tokens += num_trained(example);
  }
  const double scale = -1.0 / static_cast<double>(num_tokens);

  StepMetrics metrics;
  accumulate(
      pass, split_batch(rows, pass.max_tokens_per_batch), metrics,
      [&](size_t i, ResponsePack& packed) { packed.add(batch[i].prompt_ids, {&batch[i].response_ids}); },
      [&](size_t i, const ResponseTargets* response, const auto& logprobs, auto& token_weights) {
        const std::vector<int32_t>& trained = batch[i].trained;
        if (trained.empty()) {
          fill_weights(*response, scale, token_weights);
          return scale * sequence_logprob(*response, logprobs);
        }
        double sum = 0;
        for (int64_t t = 0; t < response->length; ++t) {
          if (trained[static_cast<size_t>(t)] == 0) continue;
          const auto at = static_cast<size_t>(response->at(t));
          token_weights[at] = static_cast<float>(scale);
          sum += logprobs[at];
        }
        return scale * sum;
      });
  metrics.target_tokens = static_cast<int64_t>(num_tokens);
  return metrics;
}

StepMetrics preference_pass(const Pass& pass, const std::vector<PairExample>& batch,
                            const PreferenceOptions& options) {
  TORCH_CHECK_VALUE(!batch.empty(), "step: the batch has no examples");
  check(options);
  check(pass.weights.config, batch);
  std::vector<int64_t> rows;
  for (const auto& pair : batch) {
    const int64_t prompts = options.share_prompts ? 1 : 2;
    rows.push_back(prompts * static_cast<int64_t>(pair.prompt_ids.size()) +
                   response_rows(pair.chosen_ids.size()) + response_rows(pair.rejected_ids.size()));
  }
  const double share = 1.0 / static_cast<double>(batch.size());

  StepMetrics metrics;
  accumulate(
      pass, split_batch(rows, pass.max_tokens_per_batch), metrics,
      [&](size_t i, ResponsePack& packed) {
        const PairExample& pair = batch[i];
        if (options.share_prompts) return packed.add(pair.prompt_ids, {&pair.chosen_ids, &pair.rejected_ids});
        packed.add(pair.prompt_ids, {&pair.chosen_ids});
        packed.add(pair.prompt_ids, {&pair.rejected_ids});
      },
      [&](size_t i, const ResponseTargets* responses, const auto& logprobs, auto& token_weights) {
        const PairExample& pair = batch[i];
        const PairLogprobs sums{.chosen = sequence_logprob(responses[0], logprobs),
                                .rejected = sequence_logprob(responses[1], logprobs),
                                .reference_chosen = pair.reference_chosen,
                                .reference_rejected = pair.reference_rejected,
                                .chosen_tokens = responses[0].length,
                                .rejected_tokens = responses[1].length,
                                .implicit_margin = pair.implicit_margin,
                                .judge_margin = pair.judge_margin};
        const PairLoss loss = preference_loss(sums, pair.consistency, options);
        fill_weights(responses[0], share * loss.d_chosen, token_weights);
        fill_weights(responses[1], share * loss.d_rejected, token_weights);
        metrics.logps_chosen += share * sums.chosen;
        metrics.logps_rejected += share * sums.rejected;
        metrics.rewards_chosen += share * loss.chosen_reward;
        metrics.rewards_rejected += share * loss.rejected_reward;
        metrics.rewards_margins += share * (loss.chosen_reward - loss.rejected_reward);
        metrics.rewards_accuracies += share * (loss.chosen_reward > loss.rejected_reward ? 1 : 0);
        return share * loss.loss;
      });
  return metrics;
}

std::vector<NamedTensor> cloned(std::vector<NamedTensor> tensors) {
  for (auto& tensor : tensors) tensor.view = tensor.view.clone();
  return tensors;
}

// Norms and biases of bfloat16 gradients as views of `tail`, float32: kernels add their sums to it.
void move_tail(Weights& grads, const at::Tensor& tail) {
  const auto move = [&](at::Tensor& view) {
    if (!view.defined()) return;
    const int64_t begin = view.storage_offset() - grads.flat.storage_offset() - grads.decay_size;
    view = tail.narrow(0, begin, view.numel()).view(view.sizes());
  };
  move(grads.final_norm);
  for (LayerWeights& layer : grads.layers) {
    for (at::Tensor* view : {&layer.attention_norm, &layer.mlp_norm, &layer.q_norm, &layer.k_norm,
                             &layer.qkv_bias, &layer.o_bias, &layer.gate_up_bias, &layer.down_bias}) {
      move(*view);
    }
  }
}

// LibTorch reports a full GPU by a class of its own where its allocator saw it; the CPU, cuBLAS and the
// driver's own allocations by a plain error. A kernel's code is loaded at its first launch, which can fail
// too.
bool is_out_of_memory(const std::exception& error) {
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr) return true;
  const auto* of_torch = dynamic_cast<const c10::Error*>(&error);
  const std::string message = of_torch == nullptr ? error.what() : of_torch->what_without_backtrace();
  const auto says = [&](const char* words) { return message.find(words) != std::string::npos; };
  return (says("DefaultCPUAllocator") && says("allocate memory")) || says("CUBLAS_STATUS_ALLOC_FAILED") ||
         says("CUDA error: out of memory") || says("a CUDA kernel did not start: out of memory");
}

}  // namespace

Trainer::Trainer(std::shared_ptr<Model> model, const AdamWOptions& options)
    : state_(std::make_unique<State>()) {
  check(options);
  check_resident(model->weights, "createTrainer");
  TORCH_CHECK_VALUE(!model->in_training,
                    "trainer: the model is in training already; dispose of its trainer first");
  const at::NoGradGuard no_grad;
  const DeviceScope scope(model->device, model->weights.emulated);
  State& state = *state_;
  state.options = options;
  const Weights& weights = model->weights;
  const bool is_gpu_bfloat16 = gpu::active(weights.flat) && model->dtype == at::kBFloat16;
  TORCH_CHECK_VALUE(options.gradients == at::kFloat || (is_gpu_bfloat16 && weights.adapter == nullptr),
                    "trainer: bfloat16 gradients are for all weights of a bfloat16 model on a GPU");
  if (weights.adapter != nullptr) {
    state.adapter_grads = make_adapter(weights.config, weights.adapter->options, at::kFloat, model->device);
    state.ranges = parameter_ranges(*weights.adapter, options.rates);
    state.tensors.weights = weights.adapter->flat;
    state.tensors.master = weights.adapter->master;
    state.tensors.gradient = state.adapter_grads.flat;
    state.decay_size = state.tensors.weights.numel();
    state.num_trained = weights.adapter->num_parameters;
  } else {
    forget_host_copy(model->weights);
    state.grads = make_weights(weights.config, options.gradients, model->device);
    state.ranges = parameter_ranges(weights, options.rates);
    state.tensors.weights = weights.flat;
    state.tensors.gradient = state.grads.flat;
    if (is_gpu_bfloat16) {
      state.tensors.low = at::zeros_like(weights.flat, weights.flat.options().dtype(at::kShort));
    } else {
      state.tensors.master = model->dtype == at::kFloat ? weights.flat : weights.flat.to(at::kFloat);
    }
    state.decay_size = weights.decay_size;
    state.num_trained = weights.num_parameters;
    if (options.gradients != at::kFloat) {
      state.gradient_tail =
          at::zeros({weights.flat.numel() - weights.decay_size}, weights.flat.options().dtype(at::kFloat));
      move_tail(state.grads, state.gradient_tail);
    }
  }
  state.tensors.m = at::zeros_like(state.tensors.gradient, options.moments);
  state.tensors.v = at::zeros_like(state.tensors.gradient, options.moments);
  state.model = std::move(model);
  state.model->in_training = true;
}

Trainer::~Trainer() {
  if (state_ && state_->model) state_->model->in_training = false;
}

void Trainer::simulate_memory_of(int64_t rows) { state_->simulated_rows = rows; }

bool Trainer::State::overwrites() const { return grads.flat.defined() && gpu::active(grads.flat); }

void Trainer::State::begin_pass() {
  if (!grads_are_zero) {
    if (overwrites()) {
      grads.flat.narrow(0, decay_size, grads.flat.numel() - decay_size).zero_();
      if (!grads.config.tie_word_embeddings) grads.embed.zero_();
    } else {
      tensors.gradient.zero_();
    }
    if (gradient_tail.defined()) gradient_tail.zero_();
  }
  grads_are_zero = false;
}

Pass Trainer::State::pass(int64_t max_tokens_per_batch, CancelFlag cancelled) {
  // Another mask in every step, and the same in a step that is taken again.
  const auto bits = philox({uint32_t(step), uint32_t(uint64_t(step) >> 32), 0xD809, 0},
                           {uint32_t(options.seed), uint32_t(options.seed >> 32)});
  return {model->weights,       gradients(),          uint64_t{bits[1]} << 32 | bits[0],
          max_tokens_per_batch, std::move(cancelled), options.recompute,
          simulated_rows};
}

template <typename Run>
StepMetrics Trainer::State::fitting_pass(int64_t max_tokens_per_batch, const CancelFlag& cancelled,
                                         const Run& run) {
  const at::NoGradGuard no_grad;
  const DeviceScope scope(model->device, model->weights.emulated);
  const gpu::DeterministicScope order(options.deterministic);
  int64_t bound = max_tokens == 0 ? max_tokens_per_batch : std::min(max_tokens, max_tokens_per_batch);
  while (true) {
    begin_pass();
    try {
      StepMetrics metrics = run(pass(bound, cancelled));
      metrics.max_tokens_per_batch = bound;
      return metrics;
    } catch (const std::exception& error) {
      // At a bound of 1 every example was alone: less is not to be had.
      if (!is_out_of_memory(error) || bound == 1) throw;
    }
    release_cached_memory();
    bound = max_tokens = bound / 2;
  }
}

std::vector<NamedTensor> Trainer::State::named_gradients() const {
  const Weights& weights = model->weights;
  if (weights.adapter == nullptr) return hugging_face_tensors(grads);
  return peft_tensors(*weights.adapter, weights.config, tensors.gradient);
}

void Trainer::State::apply(double learning_rate, StepMetrics& metrics) {
  const DeviceScope scope(model->device, model->weights.emulated);
  const auto squares = [&] {
    if (!gradient_tail.defined()) return squared_norm(tensors.gradient);
    return squared_norm(tensors.gradient.narrow(0, 0, decay_size)) + squared_norm(gradient_tail);
  };
  const double norm = std::isfinite(metrics.loss) ? std::sqrt(squares()) : metrics.loss;
  metrics.grad_norm = norm;
  if (!std::isfinite(norm)) return;

  step += 1;
  int64_t moved = 0;
  // Elements [begin, end), whose gradients are `gradient`.
  const auto update = [&](int64_t begin, int64_t end, double rate_factor, const at::Tensor& gradient) {
    if (begin == end) return;
    AdamWTensors part = tensors.range(begin, end - begin);
    part.gradient = gradient;
    moved += adamw_(
        part, {.learning_rate = learning_rate * rate_factor,
               .beta1 = options.beta1,
               .beta2 = options.beta2,
               .epsilon = options.epsilon,
               .weight_decay = options.weight_decay,
               .gradient_scale =
                   options.max_grad_norm > 0 ? std::min(1.0, options.max_grad_norm / (norm + 1e-6)) : 1.0,
               .step = step,
               .decay_size = std::clamp<int64_t>(decay_size - begin, 0, end - begin),
               .first = begin,
               .seed = options.seed});
  };
  for (const auto& [begin, size, rate_factor] : ranges) {
    const int64_t end = begin + size;
    const int64_t middle = gradient_tail.defined() ? std::clamp(decay_size, begin, end) : end;
    update(begin, middle, rate_factor, tensors.gradient.narrow(0, begin, middle - begin));
    if (middle < end) {
      update(middle, end, rate_factor, gradient_tail.narrow(0, middle - decay_size, end - middle));
    }
  }
  grads_are_zero = !gpu::active(tensors.gradient);
  metrics.weights_moved = static_cast<double>(moved) / static_cast<double>(num_trained);
  metrics.applied = true;
}

StepMetrics Trainer::sft_step(const std::vector<SftExample>& batch, double learning_rate,
                              int64_t max_tokens_per_batch, const CancelFlag& cancelled) {
  auto metrics = state_->fitting_pass(max_tokens_per_batch, cancelled,
                                      [&](const Pass& pass) { return sft_pass(pass, batch); });
  state_->apply(learning_rate, metrics);
  return metrics;
}

StepMetrics Trainer::preference_step(const std::vector<PairExample>& batch, const PreferenceOptions& options,
                                     double learning_rate, int64_t max_tokens_per_batch,
                                     const CancelFlag& cancelled) {
  auto metrics = state_->fitting_pass(max_tokens_per_batch, cancelled, [&](const Pass& pass) {
    return preference_pass(pass, batch, options);
  });
  state_->apply(learning_rate, metrics);
  return metrics;
}

std::vector<NamedTensor> Trainer::sft_gradients(const std::vector<SftExample>& batch,
                                                int64_t max_tokens_per_batch) {
  state_->fitting_pass(max_tokens_per_batch, nullptr,
                       [&](const Pass& pass) { return sft_pass(pass, batch); });
  return cloned(state_->named_gradients());
}

std::vector<NamedTensor> Trainer::preference_gradients(const std::vector<PairExample>& batch,
                                                       const PreferenceOptions& options,
                                                       int64_t max_tokens_per_batch) {
  state_->fitting_pass(max_tokens_per_batch, nullptr,
                       [&](const Pass& pass) { return preference_pass(pass, batch, options); });
  return cloned(state_->named_gradients());
}

}  // namespace cream
