#include "addon/model_wrap.h"

#include <ATen/Functions.h>

#include "addon/cancel_token.h"
#include "addon/convert.h"
#include "addon/response_stream.h"
#include "addon/run_async.h"
#include "addon/trainer_wrap.h"
#include "generate/generate.h"
#include "model/adapter_file.h"
#include "model/merge_checkpoint.h"
#include "model/residence.h"
#include "model/transformer.h"
#include "ops/device.h"
#include "ops/linear.h"

namespace cream::addon {

namespace {

Napi::Value to_model(Napi::Env env, std::shared_ptr<Model> model) {
  return ModelWrap::create(env, std::move(model));
}

std::vector<GeneratePrompt> to_prompts(const Argument& prompts, int64_t vocab_size) {
  std::vector<GeneratePrompt> items(prompts.length());
  for (uint32_t i = 0; i < items.size(); ++i) {
    const Argument prompt = prompts.at(i);
    items[i] = {prompt.field("ids").ids(vocab_size, false), prompt.field("key").uint64(), {}};
    const Argument limits = prompt.field("maxNewTokens");
    if (limits.value().IsArray()) {
      items[i].max_new_tokens = limits.integers(1, 1 << 30);
    } else if (!limits.value().IsUndefined()) {
      items[i].max_new_tokens = {limits.integer(1, 1 << 30)};
    }
  }
  return items;
}

Napi::Value to_names(Napi::Env env, const std::vector<std::string>& names) {
  auto array = Napi::Array::New(env, names.size());
  for (uint32_t i = 0; i < names.size(); ++i) array[i] = names[i];
  return array;
}

size_t to_projection(const Argument& module) {
  return module.choice({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"});
}

LoraOptions to_lora(const Argument& options, int64_t num_layers) {
  LoraOptions lora;
  lora.rank = options.field("rank").integer(1, 1 << 20);
  lora.alpha = options.field("alpha").number(0, 1e9);
  lora.dropout = options.field("dropout").number(0, 1);
  lora.rank_stabilized = options.field("rankStabilized").boolean();
  const Argument targets = options.field("targetModules");
  for (uint32_t i = 0; i < targets.length(); ++i) lora.targets[to_projection(targets.at(i))] = true;
  const Argument modules = options.field("modules");
  if (modules.value().IsUndefined()) return lora;
  lora.modules.resize(static_cast<size_t>(num_layers));
  for (uint32_t i = 0; i < modules.length(); ++i) {
    const Argument module = modules.at(i);
    const auto layer = static_cast<size_t>(module.field("layer").integer(0, num_layers - 1));
    lora.modules[layer][to_projection(module.field("module"))] = {module.field("rank").integer(1, 1 << 20),
                                                                  module.field("alpha").number(0, 1e9)};
  }
  return lora;
}

// Fields that are not there are off.
LogitsProcessors to_processors(const Argument& options, int64_t vocab_size) {
  LogitsProcessors result;
  result.repetition_penalty = options.field("repetitionPenalty").number_or(1, 0, 1000);
  if (result.repetition_penalty == 0) options.field("repetitionPenalty").fail("a number > 0");
  result.no_repeat_ngram_size = options.field("noRepeatNgramSize").integer_or(0, 0, 1 << 20);
  result.min_new_tokens = options.field("minNewTokens").integer_or(0, 0, 1 << 30);
  result.forced_eos_id = static_cast<int32_t>(options.field("forcedEosId").integer_or(-1, 0, vocab_size - 1));
  const auto ids = [&](const char* name) {
    const Argument field = options.field(name);
    return field.value().IsUndefined() ? std::vector<int32_t>() : field.ids(vocab_size, true);
  };
  result.suppressed = ids("suppressTokens");
  result.suppressed_first = ids("beginSuppressTokens");
  const Argument words = options.field("badWordsIds");
  if (words.value().IsUndefined()) return result;
  for (uint32_t i = 0; i < words.length(); ++i)
    result.bad_words.push_back(words.at(i).ids(vocab_size, false));
  return result;
}

GenerateOptions to_generate_options(const Argument& options, int64_t vocab_size) {
  GenerateOptions result;
  result.num_samples = options.field("numSamples").integer(1, 1 << 20);
  result.max_new_tokens = options.field("maxNewTokens").integer(1, 1 << 30);
  result.temperature = options.field("temperature").number(0, 1000);
  result.top_p = options.field("topP").number(0, 1);
  if (result.top_p == 0) options.field("topP").fail("a number in (0, 1]");
  result.top_k = options.field("topK").integer(0, 1 << 24);
  result.min_p = options.field("minP").number_or(0, 0, 1);
  result.processors = to_processors(options, vocab_size);
  result.stop_ids = options.field("stopIds").ids(vocab_size, true);
  result.seed = options.field("seed").uint64();
  result.max_live_tokens = options.field("maxLiveTokens").integer(0, int64_t{1} << 40);
  result.max_live_sequences = options.field("maxLiveSequences").integer(0, 1 << 20);
  result.steps_per_poll = options.field("stepsPerPoll").integer_or(0, 1, 1 << 20);
  return result;
}

std::vector<ScoreGroup> to_groups(const Argument& groups, int64_t vocab_size) {
  std::vector<ScoreGroup> items(groups.length());
  for (uint32_t i = 0; i < items.size(); ++i) {
    const Argument group = groups.at(i);
    items[i].prompt_ids = group.field("promptIds").ids(vocab_size, false);
    const Argument responses = group.field("responses");
    items[i].responses.resize(responses.length());
    for (uint32_t r = 0; r < items[i].responses.size(); ++r)
      items[i].responses[r] = responses.at(r).ids(vocab_size, true);
  }
  return items;
}

Napi::Value to_scores(Napi::Env env, const ScoreResult& result, bool per_token) {
  auto scores = Napi::Object::New(env);
  auto sums = Napi::Array::New(env, result.logprobs.size());
  for (uint32_t g = 0; g < result.logprobs.size(); ++g) sums[g] = to_float64_array(env, result.logprobs[g]);
  scores.Set("logprobs", sums);
  if (!per_token) return scores;
  auto groups = Napi::Array::New(env, result.token_logprobs.size());
  for (uint32_t g = 0; g < result.token_logprobs.size(); ++g) {
    const auto& responses = result.token_logprobs[g];
    auto group = Napi::Array::New(env, responses.size());
    for (uint32_t r = 0; r < responses.size(); ++r) group[r] = to_float32_array(env, responses[r]);
    groups[g] = group;
  }
  scores.Set("tokenLogprobs", groups);
  return scores;
}

}  // namespace

void ModelWrap::define(Napi::Env env) {
  const auto constructor =
      DefineClass(env, "NativeModel",
                  {
                      InstanceAccessor("numParameters", &ModelWrap::num_parameters, nullptr),
                      InstanceAccessor("dtype", &ModelWrap::dtype, nullptr),
                      InstanceMethod("generate", &ModelWrap::generate),
                      InstanceMethod("score", &ModelWrap::score),
                      InstanceMethod("rewards", &ModelWrap::rewards),
                      InstanceMethod("save", &ModelWrap::save),
                      InstanceMethod("clone", &ModelWrap::clone),
                      InstanceMethod("snapshot", &ModelWrap::snapshot),
                      InstanceMethod("offload", &ModelWrap::move<&cream::offload>),
                      InstanceMethod("onload", &ModelWrap::move<&cream::onload>),
                      InstanceMethod("addAdapter", &ModelWrap::add_adapter),
                      InstanceMethod("loadAdapter", &ModelWrap::load_adapter),
                      InstanceMethod("saveAdapter", &ModelWrap::save_adapter),
                      InstanceMethod("mergeAdapter", &ModelWrap::merge_adapter),
                      InstanceMethod("createTrainer", &ModelWrap::create_trainer),
                      InstanceMethod("dispose", &ModelWrap::dispose),
                      InstanceMethod("_logits", &ModelWrap::logits),
                      InstanceMethod("_tensors", &ModelWrap::tensors),
                  });
  Instance::of(env).model = Napi::Persistent(constructor);
}

Napi::Value ModelWrap::create(Napi::Env env, std::shared_ptr<Model> model) {
  return Instance::of(env).model.New({Napi::External<std::shared_ptr<Model>>::New(env, &model)});
}

ModelWrap::ModelWrap(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  if (!info[0].IsExternal())
    throw Napi::TypeError::New(info.Env(), "models are made by loadModel and randomModel");
  model_ = *info[0].As<Napi::External<std::shared_ptr<Model>>>().Data();
  num_parameters_ = static_cast<double>(model_->weights.num_parameters);
  dtype_ = model_->dtype == at::kFloat ? "float32" : "bfloat16";
  // An adapter shares the weights of its base.
  const Adapter* adapter = model_->weights.adapter.get();
  bytes_ = static_cast<int64_t>((adapter == nullptr ? model_->weights.flat : adapter->flat).nbytes());
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), bytes_);
}

ModelWrap::~ModelWrap() { let_go(); }

void ModelWrap::let_go() {
  if (model_ == nullptr) return;
  Napi::MemoryManagement::AdjustExternalMemory(Env(), -bytes_);
  Engine::get().release(std::move(model_));
  model_ = nullptr;
}

const std::shared_ptr<Model>& ModelWrap::alive() const {
  if (model_ == nullptr) throw InvalidArgument("the model is disposed");
  return model_;
}

// Verbs that need the vocabulary's head.
const std::shared_ptr<Model>& ModelWrap::language_model() const {
  if (alive()->weights.config.num_labels > 0)
    throw InvalidArgument("the model is a sequence classifier, which gives rewards only");
  return model_;
}

int64_t ModelWrap::num_layers() const { return language_model()->weights.config.num_layers; }

namespace {

std::shared_ptr<Model> emulating(std::shared_ptr<Model> model, bool emulated) {
  if (emulated) gpu::check_emulation();
  model->weights.emulated = emulated;
  return model;
}

}  // namespace

Napi::Value ModelWrap::load(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const Argument options(info, 0, "loadModel: options");
    return run_async(
        info.Env(),
        [config = options.field("config").model_config(), files = options.field("files").strings(),
         dtype = options.field("dtype").dtype(), device = options.field("device").device(),
         emulated = options.field("device").is_emulated()] {
          check_device(device);
          return emulating(load_model(config, files, dtype, device, emulated), emulated);
        },
        to_model);
  });
}

Napi::Value ModelWrap::random(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const Argument options(info, 0, "randomModel: options");
    return run_async(
        info.Env(),
        [config = options.field("config").model_config(), seed = options.field("seed").uint64(),
         dtype = options.field("dtype").dtype(), device = options.field("device").device(),
         emulated = options.field("device").is_emulated()] {
          check_device(device);
          return emulating(random_model(config, seed, dtype, device, emulated), emulated);
        },
        to_model);
  });
}

Napi::Value ModelWrap::num_parameters(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), num_parameters_);
}

Napi::Value ModelWrap::dtype(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), dtype_); }

Napi::Value ModelWrap::generate(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const auto model = language_model();
    const int64_t vocab_size = model->weights.config.vocab_size;
    auto prompts = to_prompts({info, 0, "generate: prompts"}, vocab_size);
    const auto options = to_generate_options({info, 1, "generate: options"}, vocab_size);
    const auto on_response = Argument(info, 2, "generate: onResponse").function();
    const auto cancelled = CancelToken::flag_of({info, 3, "generate: token"});
    const auto stream =
        std::make_shared<ResponseStream>(Instance::of(info.Env()).channel, on_response, cancelled);
    return run_async(
        info.Env(),
        [model, prompts = std::move(prompts), options, stream, cancelled] {
          cream::generate(
              *model, prompts, options, [&](Response&& response) { stream->push(std::move(response)); },
              cancelled);
          return Done{};
        },
        to_undefined, cancelled, [stream](Napi::Env env) { return stream->finish(env); });
  });
}

Napi::Value ModelWrap::score(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const auto model = language_model();
    auto groups = to_groups({info, 0, "score: groups"}, model->weights.config.vocab_size);
    const Argument options(info, 1, "score: options");
    const int64_t max_tokens = options.field("maxTokensPerBatch").integer(0, 1 << 30);
    const bool per_token = options.field("perToken").boolean();
    const bool share_prompts = options.field("sharePrompts").boolean_or(true);
    const auto cancelled = CancelToken::flag_of({info, 2, "score: token"});
    return run_async(
        info.Env(),
        [model, groups = std::move(groups), max_tokens, share_prompts, cancelled] {
          return cream::score(*model, groups, max_tokens, cancelled, share_prompts);
        },
        [per_token](Napi::Env env, const ScoreResult& result) { return to_scores(env, result, per_token); },
        cancelled);
  });
}

Napi::Value ModelWrap::rewards(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const auto model = alive();
    auto groups = to_groups({info, 0, "rewards: groups"}, model->weights.config.vocab_size);
    const Argument options(info, 1, "rewards: options");
    const int64_t max_tokens = options.field("maxTokensPerBatch").integer(0, 1 << 30);
    const int64_t pad_id = options.field("padId").integer(-1, 1 << 24);
    const auto cancelled = CancelToken::flag_of({info, 2, "rewards: token"});
    return run_async(
        info.Env(),
        [model, groups = std::move(groups), max_tokens, pad_id, cancelled] {
          return sequence_rewards(*model, groups, pad_id, max_tokens, cancelled);
        },
        [](Napi::Env env, const std::vector<std::vector<double>>& rewards) -> Napi::Value {
          auto array = Napi::Array::New(env, rewards.size());
          for (uint32_t g = 0; g < rewards.size(); ++g) array[g] = to_float64_array(env, rewards[g]);
          return array;
        },
        cancelled);
  });
}

Napi::Value ModelWrap::save(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const int64_t max_shard_bytes =
        Argument(info, 1, "save: maxShardBytes").integer(1, (int64_t{1} << 53) - 1);
    return run_async(
        info.Env(),
        [model = alive(), directory = Argument(info, 0, "save: directory").string(), max_shard_bytes] {
          return save_model(*model, directory, static_cast<uint64_t>(max_shard_bytes));
        },
        to_names);
  });
}

Napi::Value ModelWrap::clone(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_async(info.Env(), [model = alive()] { return clone_model(*model); }, to_model);
  });
}

// model.snapshot(onHost)
Napi::Value ModelWrap::snapshot(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_async(
        info.Env(),
        [model = alive(), on_host = Argument(info, 0, "snapshot: onHost").boolean()] {
          return cream::snapshot(*model, on_host);
        },
        to_model);
  });
}

// model.offload(), model.onload(): the seconds that the move took.
template <double (*kMove)(Model&)>
Napi::Value ModelWrap::move(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_async(
        info.Env(), [model = alive()] { return kMove(*model); },
        [](Napi::Env env, double seconds) -> Napi::Value { return Napi::Number::New(env, seconds); });
  });
}

// model.addAdapter(options, seed): a handle of its own on the same weights.
Napi::Value ModelWrap::add_adapter(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_async(
        info.Env(),
        [model = language_model(), options = to_lora({info, 0, "addAdapter: options"}, num_layers()),
         seed = Argument(info, 1, "addAdapter: seed").uint64()] {
          return cream::add_adapter(*model, options, seed);
        },
        to_model);
  });
}

// model.loadAdapter(options, file)
Napi::Value ModelWrap::load_adapter(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_async(
        info.Env(),
        [model = language_model(), options = to_lora({info, 0, "loadAdapter: options"}, num_layers()),
         path = Argument(info, 1, "loadAdapter: file").string()] {
          return cream::load_adapter(*model, options, path);
        },
        to_model);
  });
}

Napi::Value ModelWrap::save_adapter(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_async(
        info.Env(),
        [model = alive(), directory = Argument(info, 0, "saveAdapter: directory").string()] {
          cream::save_adapter(*model, directory);
          return Done{};
        },
        to_undefined);
  });
}

Napi::Value ModelWrap::merge_adapter(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_async(info.Env(), [model = alive()] { return cream::merge_adapter(*model); }, to_model);
  });
}

Napi::Value ModelWrap::merge_checkpoint(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const Argument options(info, 0, "mergeCheckpoint: options");
    const ModelConfig config = options.field("config").model_config();
    constexpr std::optional<at::ScalarType> kDtypes[] = {std::nullopt, at::kFloat, at::kBFloat16};
    return run_async(
        info.Env(),
        [config, files = options.field("files").strings(),
         lora = to_lora(options.field("adapter"), config.num_layers),
         adapter_file = options.field("adapterFile").string(),
         dtype = kDtypes[options.field("dtype").choice({"own", "float32", "bfloat16"})],
         directory = options.field("directory").string(),
         max_shard_bytes = options.field("maxShardBytes").integer(1, (int64_t{1} << 53) - 1)] {
          return cream::merge_checkpoint(config, files, lora, adapter_file, dtype, directory,
                                         static_cast<uint64_t>(max_shard_bytes));
        },
        to_names);
  });
}

Napi::Value ModelWrap::create_trainer(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return TrainerWrap::start(info.Env(), language_model(), {info, 0, "createTrainer: options"});
  });
}

void ModelWrap::dispose(const Napi::CallbackInfo&) { let_go(); }

// model._logits(ids): logits of every position, float32 [T, V].
Napi::Value ModelWrap::logits(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const auto model = language_model();
    auto ids = Argument(info, 0, "_logits: ids").ids(model->weights.config.vocab_size, false);
    return run_async(
        info.Env(),
        [model, ids = std::move(ids)] {
          const DeviceScope scope(model->device, model->weights.emulated);
          Pack pack;
          pack.add_trunk(ids.data(), static_cast<int64_t>(ids.size()));
          for (int64_t row = 0; row < pack.num_rows(); ++row) pack.head_rows.push_back(row);
          const at::Tensor hidden = forward(model->weights, pack);
          const at::Tensor& head = model->weights.head;
          if (!hidden.device().is_cpu() || model->weights.emulated)
            return cream::linear(hidden, head).to(at::kCPU, at::kFloat).contiguous();
          at::Tensor logits = at::empty({hidden.size(0), head.size(0)}, at::kFloat);
          cream::linear_out(logits, hidden, head);
          return logits;
        },
        [](Napi::Env env, const at::Tensor& logits) -> Napi::Value { return to_float32_array(env, logits); });
  });
}

// model._tensors(): every parameter under its Hugging Face name, as float32.
Napi::Value ModelWrap::tensors(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_async(
        info.Env(), [model = alive()] { return as_float32(hugging_face_tensors(model->weights)); },
        [](Napi::Env env, const std::vector<NamedTensor>& tensors) -> Napi::Value {
          return to_tensors(env, tensors);
        });
  });
}

}  // namespace cream::addon
