#include "addon/trainer_wrap.h"

#include <limits>

#include "addon/cancel_token.h"
#include "addon/run_async.h"

namespace cream::addon {

namespace {

constexpr double kMaxNumber = std::numeric_limits<double>::max();

// A number that may be left out; it is 0 then.
double optional_number(const Argument& object, const char* name, double min) {
  const Argument value = object.field(name);
  return value.value().IsUndefined() ? 0 : value.number(min, kMaxNumber);
}

// A field of an optional group of factors; 1 where it is left out.
double factor(const Argument& options, const char* name) {
  const Argument group = options.field("learningRateFactors");
  if (group.value().IsUndefined()) return 1;
  const Argument value = group.field(name);
  return value.value().IsUndefined() ? 1 : value.number(0, kMaxNumber);
}

at::ScalarType optional_dtype(const Argument& options, const char* name) {
  const Argument value = options.field(name);
  return value.value().IsUndefined() ? at::kFloat : value.dtype();
}

// 'selective', 'full', 'none', or selective and the gate and up projections of so many layers.
RecomputePlan to_recompute(const Argument& recompute) {
  if (recompute.value().IsUndefined()) return {};
  if (recompute.value().IsNumber()) return {Recompute::kSelective, recompute.integer(1, INT32_MAX)};
  return {static_cast<Recompute>(recompute.choice({"selective", "full", "none"}))};
}

AdamWOptions to_adamw(const Argument& options) {
  return {.beta1 = options.field("beta1").number(0, 1),
          .beta2 = options.field("beta2").number(0, 1),
          .epsilon = options.field("epsilon").number(0, 1),
          .weight_decay = options.field("weightDecay").number(0, kMaxNumber),
          .max_grad_norm = options.field("maxGradNorm").number(0, kMaxNumber),
          .seed = options.field("seed").uint64(),
          .rates = {.embeddings = factor(options, "embeddings"),
                    .head = factor(options, "head"),
                    .norms = factor(options, "norms"),
                    .layer_decay = factor(options, "layerDecay")},
          .moments = optional_dtype(options, "momentsDtype"),
          .gradients = optional_dtype(options, "gradientsDtype"),
          .recompute = to_recompute(options.field("recompute")),
          .deterministic = options.field("deterministic").boolean_or(false)};
}

std::vector<SftExample> to_sft_batch(const Argument& batch, int64_t vocab_size) {
  std::vector<SftExample> items(batch.length());
  for (uint32_t i = 0; i < items.size(); ++i) {
    const Argument example = batch.at(i);
    items[i] = {example.field("promptIds").ids(vocab_size, false),
                example.field("responseIds").ids(vocab_size, false),
                {}};
    const Argument trained = example.field("trained");
    if (!trained.value().IsUndefined()) items[i].trained = trained.ids(2, false);
  }
  return items;
}

std::vector<PairExample> to_pair_batch(const Argument& batch, int64_t vocab_size) {
  std::vector<PairExample> items(batch.length());
  for (uint32_t i = 0; i < items.size(); ++i) {
    const Argument pair = batch.at(i);
    items[i] = {.prompt_ids = pair.field("promptIds").ids(vocab_size, false),
                .chosen_ids = pair.field("chosenIds").ids(vocab_size, false),
                .rejected_ids = pair.field("rejectedIds").ids(vocab_size, false),
                .consistency = pair.field("consistency").number(0, 1),
                .reference_chosen = pair.field("referenceChosen").number(-kMaxNumber, kMaxNumber),
                .reference_rejected = pair.field("referenceRejected").number(-kMaxNumber, kMaxNumber),
                .implicit_margin = optional_number(pair, "implicitMargin", -kMaxNumber),
                .judge_margin = optional_number(pair, "judgeMargin", -kMaxNumber)};
  }
  return items;
}

PreferenceOptions to_preference_options(const Argument& options) {
  return {.loss = static_cast<PreferenceLoss>(
              options.field("loss").choice({"sigmoid", "hinge", "ipo", "sigmoid-norm"})),
          .beta = options.field("beta").number(0, kMaxNumber),
          .sft_coefficient = options.field("sftCoefficient").number(0, kMaxNumber),
          .length_term = optional_number(options, "lengthTerm", 0),
          .agreement_coefficient = optional_number(options, "agreementCoefficient", 0),
          .agreement_entropy = optional_number(options, "agreementEntropy", 0),
          .share_prompts = options.field("sharePrompts").boolean_or(true)};
}

double to_learning_rate(const Argument& argument) { return argument.number(0, kMaxNumber); }
int64_t to_max_tokens(const Argument& argument) { return argument.integer(1, 1 << 30); }

Napi::Value to_metrics(Napi::Env env, const StepMetrics& metrics) {
  auto object = Napi::Object::New(env);
  object.Set("loss", metrics.loss);
  object.Set("gradNorm", metrics.grad_norm);
  object.Set("applied", metrics.applied);
  object.Set("tokens", static_cast<double>(metrics.tokens));
  object.Set("targetTokens", static_cast<double>(metrics.target_tokens));
  object.Set("microBatches", static_cast<double>(metrics.micro_batches));
  object.Set("maxTokensPerBatch", static_cast<double>(metrics.max_tokens_per_batch));
  object.Set("weightsMoved", metrics.weights_moved);
  object.Set("rewardsChosen", metrics.rewards_chosen);
  object.Set("rewardsRejected", metrics.rewards_rejected);
  object.Set("rewardsMargins", metrics.rewards_margins);
  object.Set("rewardsAccuracies", metrics.rewards_accuracies);
  object.Set("logpsChosen", metrics.logps_chosen);
  object.Set("logpsRejected", metrics.logps_rejected);
  return object;
}

Napi::Value to_gradients(Napi::Env env, const std::vector<NamedTensor>& gradients) {
  return to_tensors(env, gradients);
}

}  // namespace

void TrainerWrap::define(Napi::Env env) {
  const auto constructor =
      DefineClass(env, "NativeTrainer",
                  {
                      InstanceMethod("sftStep", &TrainerWrap::sft_step),
                      InstanceMethod("preferenceStep", &TrainerWrap::preference_step),
                      InstanceMethod("saveState", &TrainerWrap::save_state),
                      InstanceMethod("loadState", &TrainerWrap::load_state),
                      InstanceMethod("dispose", &TrainerWrap::dispose),
                      InstanceMethod("_sftGradients", &TrainerWrap::sft_gradients),
                      InstanceMethod("_preferenceGradients", &TrainerWrap::preference_gradients),
                      InstanceMethod("_simulateMemoryOf", &TrainerWrap::simulate_memory_of),
                  });
  Instance::of(env).trainer = Napi::Persistent(constructor);
}

Napi::Value TrainerWrap::start(Napi::Env env, std::shared_ptr<Model> model, const Argument& options) {
  const int64_t vocab_size = model->weights.config.vocab_size;
  return run_async(
      env,
      [model = std::move(model), options = to_adamw(options)] {
        return std::make_shared<Trainer>(model, options);
      },
      [vocab_size](Napi::Env env, std::shared_ptr<Trainer> trainer) -> Napi::Value {
        Held held{std::move(trainer), vocab_size};
        return Instance::of(env).trainer.New({Napi::External<Held>::New(env, &held)});
      });
}

TrainerWrap::TrainerWrap(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  if (!info[0].IsExternal())
    throw Napi::TypeError::New(info.Env(), "trainers are made by model.createTrainer");
  held_ = *info[0].As<Napi::External<Held>>().Data();
}

TrainerWrap::~TrainerWrap() { let_go(); }

// The trainer frees the model for the next one: in order with the verbs around it.
void TrainerWrap::let_go() {
  Engine::get().release(std::move(held_.trainer));
  held_.trainer = nullptr;
}

const std::shared_ptr<Trainer>& TrainerWrap::alive() const {
  if (held_.trainer == nullptr) throw InvalidArgument("the trainer is disposed");
  return held_.trainer;
}

void TrainerWrap::dispose(const Napi::CallbackInfo&) { let_go(); }

Napi::Value TrainerWrap::sft_step(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const auto cancelled = CancelToken::flag_of({info, 3, "sftStep: token"});
    return run_async(
        info.Env(),
        [trainer = alive(), batch = to_sft_batch({info, 0, "sftStep: batch"}, held_.vocab_size),
         learning_rate = to_learning_rate({info, 1, "sftStep: learningRate"}),
         max_tokens = to_max_tokens({info, 2, "sftStep: maxTokensPerBatch"}),
         cancelled] { return trainer->sft_step(batch, learning_rate, max_tokens, cancelled); },
        to_metrics, cancelled);
  });
}

Napi::Value TrainerWrap::preference_step(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const auto cancelled = CancelToken::flag_of({info, 4, "preferenceStep: token"});
    return run_async(
        info.Env(),
        [trainer = alive(), batch = to_pair_batch({info, 0, "preferenceStep: batch"}, held_.vocab_size),
         options = to_preference_options({info, 1, "preferenceStep: options"}),
         learning_rate = to_learning_rate({info, 2, "preferenceStep: learningRate"}),
         max_tokens = to_max_tokens({info, 3, "preferenceStep: maxTokensPerBatch"}), cancelled] {
          return trainer->preference_step(batch, options, learning_rate, max_tokens, cancelled);
        },
        to_metrics, cancelled);
  });
}

Napi::Value TrainerWrap::save_state(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_async(
        info.Env(),
        [trainer = alive(), path = Argument(info, 0, "saveState: path").string()] {
          trainer->save_state(path);
          return Done{};
        },
        to_undefined);
  });
}

Napi::Value TrainerWrap::load_state(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_async(
        info.Env(),
        [trainer = alive(), path = Argument(info, 0, "loadState: path").string()] {
          trainer->load_state(path);
          return Done{};
        },
        to_undefined);
  });
}

// trainer._sftGradients(batch, maxTokensPerBatch): gradients by Hugging Face names, computed, not applied.
Napi::Value TrainerWrap::sft_gradients(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_async(
        info.Env(),
        [trainer = alive(), batch = to_sft_batch({info, 0, "_sftGradients: batch"}, held_.vocab_size),
         max_tokens = to_max_tokens({info, 1, "_sftGradients: maxTokensPerBatch"})] {
          return as_float32(trainer->sft_gradients(batch, max_tokens));
        },
        to_gradients);
  });
}

// trainer._preferenceGradients(batch, options, maxTokensPerBatch)
Napi::Value TrainerWrap::preference_gradients(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_async(
        info.Env(),
        [trainer = alive(), batch = to_pair_batch({info, 0, "_preferenceGradients: batch"}, held_.vocab_size),
         options = to_preference_options({info, 1, "_preferenceGradients: options"}),
         max_tokens = to_max_tokens({info, 2, "_preferenceGradients: maxTokensPerBatch"})] {
          return as_float32(trainer->preference_gradients(batch, options, max_tokens));
        },
        to_gradients);
  });
}

// trainer._simulateMemoryOf(rows): micro-batches of more rows fail for want of memory; 0 = off.
Napi::Value TrainerWrap::simulate_memory_of(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_async(
        info.Env(),
        [trainer = alive(), rows = Argument(info, 0, "_simulateMemoryOf: rows").integer(0, 1 << 30)] {
          trainer->simulate_memory_of(rows);
          return Done{};
        },
        to_undefined);
  });
}

}  // namespace cream::addon
