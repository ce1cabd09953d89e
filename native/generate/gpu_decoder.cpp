#include "generate/gpu_decoder.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <cstring>

#include "model/adapter.h"
#include "model/rope_cache.h"
#include "model/transformer.h"
#include "ops/linear.h"
#include "ops/phases.h"
#include "ops/rms_norm.h"
#include "ops/swiglu.h"
#include "ops/upload.h"

namespace cream {

namespace {

constexpr int64_t kScheduleHeader = 4;  // the numbers of items and of groups, in 16 bytes
constexpr int64_t kGroupWords = sizeof(gpu::RowGroup) / sizeof(int32_t);
constexpr int64_t kItemWords = sizeof(gpu::PromptItem) / sizeof(int32_t);

const void* adapter_address(const Weights& weights) {
  return weights.adapter == nullptr ? nullptr : weights.adapter->flat.const_data_ptr();
}

int64_t row_words(int64_t rows) { return (rows + 3) / 4 * 4; }

// Overwrites the first bytes of `to`, in the order of the stream.
void write(const at::Tensor& to, const void* values, size_t bytes) {
  const at::Tensor from = gpu::upload_bytes(values, bytes, to.device());
  to.view(at::kByte).narrow(0, 0, static_cast<int64_t>(bytes)).copy_(from, /*non_blocking=*/true);
}

}  // namespace

gpu::SlotState SlotSnapshot::state(int64_t slot) const {
  return static_cast<gpu::SlotState>(values.const_data_ptr<int32_t>()[slot]);
}
int64_t SlotSnapshot::count(int64_t slot) const { return values.const_data_ptr<int32_t>()[slots + slot]; }
const int32_t* SlotSnapshot::ids(int64_t slot) const {
  return values.const_data_ptr<int32_t>() + 2 * slots + slot * capacity;
}
const float* SlotSnapshot::logprobs(int64_t slot) const {
  return reinterpret_cast<const float*>(values.const_data_ptr<int32_t>()) + 2 * slots +
         (slots + slot) * capacity;
}

int64_t bucket_of(int64_t rows, int64_t most) {
  if (rows > kFineRows) return std::min((rows + kRowGrain - 1) / kRowGrain * kRowGrain, most);
  int64_t bucket = 1;
  while (bucket < rows) bucket = bucket < 8 ? bucket * 2 : bucket % 3 == 0 ? bucket / 3 * 4 : bucket / 2 * 3;
  return std::min(bucket, most);
}

GpuDecoder::GpuDecoder(const Model& model, const GpuPlan& plan)
    : weights_(model.weights),
      device_(model.device),
      shape_(plan.step),
      flat_(model.weights.flat.const_data_ptr()),
      adapter_(adapter_address(model.weights)),
      angles_(rope_table_for(model.weights, plan.num_positions)) {
  const ModelConfig& config = weights_.config;
  const int64_t slots = shape_.slots, tokens = shape_.max_new_tokens;
  const auto of = [&](at::ScalarType dtype) { return at::TensorOptions().dtype(dtype).device(device_); };
  visible_ = at::zeros({2 * slots * (1 + tokens)}, of(at::kInt));
  hidden_ = at::zeros({6 * slots}, of(at::kInt));
  logprob_sums_ = at::zeros({slots}, of(at::kDouble));
  int32_t* visible = visible_.data_ptr<int32_t>();
  int32_t* hidden = hidden_.data_ptr<int32_t>();
  slots_ = {.state = visible,
            .count = visible + slots,
            .token = hidden,
            .prompt_length = hidden + slots,
            .limit = hidden + 2 * slots,
            .key = reinterpret_cast<uint32_t*>(hidden + 3 * slots),
            .logprob_sum = logprob_sums_.data_ptr<double>(),
            .ids = visible + 2 * slots,
            .logprobs = reinterpret_cast<float*>(visible + 2 * slots + slots * tokens),
            .capacity = tokens};
  schedule_ = at::zeros({kScheduleHeader + row_words(slots) * (1 + kGroupWords) +
                         slots * shape_.pieces.prompt_count * kItemWords},
                        of(at::kInt));
  settings_ = at::zeros({int64_t{sizeof(gpu::SamplerSettings)}}, of(at::kByte));
  memory_ = at::zeros({int64_t{sizeof(gpu::KvMemory)}}, of(at::kByte));
  stops_ = at::zeros({(config.vocab_size + 31) / 32}, of(at::kInt));

  const auto rows = [&](int64_t width) { return at::empty({slots, width}, weights_.flat.options()); };
  residual_ = rows(config.hidden_size);
  qkv_ = rows(config.qkv_size());
  attended_ = rows(config.q_size());
  mixed_ = rows(config.hidden_size);
  gate_up_ = rows(2 * config.intermediate_size);
  logits_ = at::empty({shape_.logits_rows, config.vocab_size}, of(at::kFloat));
  const gpu::DecodeShape decode =
      gpu::decode_shape(qkv_, config.num_heads, config.num_kv_heads, config.head_dim, 0, 0);
  decode_scratch_ = at::empty({gpu::decode_scratch(decode, shape_.pieces)}, of(at::kByte));
  sampler_scratch_ =
      at::empty({gpu::sampler_scratch(shape_.logits_rows, config.vocab_size, gpu::SamplerMode::kTruncated)},
                of(at::kByte));
}

bool GpuDecoder::is_current(const Model& model) const {
  return &weights_ == &model.weights && flat_ == model.weights.flat.const_data_ptr() &&
         adapter_ == adapter_address(model.weights);
}

bool GpuDecoder::serves(const GpuPlan& plan) const {
  return shape_.covers(plan.step) && angles_.size(0) >= plan.num_positions;
}

GpuStepBuffers GpuDecoder::buffers() const {
  int64_t bytes = 0;
  for (const at::Tensor& buffer :
       {visible_, hidden_, logprob_sums_, schedule_, settings_, memory_, stops_, residual_, qkv_, attended_,
        mixed_, gate_up_, logits_, decode_scratch_, sampler_scratch_}) {
    bytes += static_cast<int64_t>(buffer.nbytes());
  }
  return {shape_, bytes};
}

void GpuDecoder::begin(const GpuPlan& plan, const GenerateOptions& options) {
  const ModelConfig& config = weights_.config;
  gpu::KvMemory memory{};
  memory.arena_tokens = plan.arena_tokens;
  memory.slot_tokens = plan.slot_tokens;
  memory.swizzle = plan.kind.attention == gpu::AttentionKernel::kRing ? 7 : 0;
  memory.tokens = plan.arena_tokens + plan.step.slots * plan.slot_tokens;
  most_rows_ = plan.step.slots;
  kind_ = plan.kind;
  keys_values_ = at::empty({2, config.num_layers, config.num_kv_heads, memory.tokens, config.head_dim},
                           weights_.flat.options());
  memory.keys = keys_values_[0].data_ptr();
  memory.values = keys_values_[1].data_ptr();
  write(memory_, &memory, sizeof memory);

  gpu::SamplerSettings settings{};
  settings.temperature = static_cast<float>(options.temperature);
  settings.top_p = static_cast<float>(options.top_p);
  settings.top_k = static_cast<int32_t>(std::min<int64_t>(options.top_k, config.vocab_size));
  settings.seed[0] = static_cast<uint32_t>(options.seed);
  settings.seed[1] = static_cast<uint32_t>(options.seed >> 32);
  write(settings_, &settings, sizeof settings);

  std::vector<uint32_t> stops(static_cast<size_t>(stops_.numel()));
  for (const int32_t id : options.stop_ids) stops[static_cast<size_t>(id / 32)] |= 1u << (id % 32);
  write(stops_, stops.data(), stops.size() * sizeof(uint32_t));
  visible_.zero_();
}

void GpuDecoder::end() { keys_values_ = at::Tensor(); }

at::Tensor GpuDecoder::prefill(const std::vector<const std::vector<int32_t>*>& prompts,
                               const std::vector<int64_t>& places) {
  Pack pack;
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto length = static_cast<int64_t>(prompts[i]->size());
    pack.add_trunk(prompts[i]->data(), length);
    pack.head_rows.push_back(pack.num_rows() - 1);
    for (int64_t t = 0; t < length; ++t) tokens.push_back(static_cast<int32_t>(places[i] + t));
  }
  const at::Tensor where = gpu::upload(tokens, device_);
  return forward(weights_, pack, nullptr, [&](int64_t layer, const at::Tensor& k, const at::Tensor& v) {
    gpu::store_keys_values(k, v, layer, where, memory_);
  });
}

void GpuDecoder::start(const std::vector<gpu::SlotStart>& starts, const at::Tensor& hidden,
                       const std::vector<int64_t>& rows) {
  const auto count = static_cast<int64_t>(starts.size());
  const at::Tensor records =
      gpu::upload_bytes(starts.data(), starts.size() * sizeof(gpu::SlotStart), device_);
  gpu::start_slots(records, count, slots_);
  size_t next = 0;
  for (int64_t begin = 0; begin < hidden.size(0); begin += shape_.logits_rows) {
    const int64_t size = std::min(shape_.logits_rows, hidden.size(0) - begin);
    at::Tensor logits = logits_.narrow(0, 0, size);
    gpu::float_logits(logits, hidden.narrow(0, begin, size), weights_.head);
    // The sampler's memory is for logits_rows draws at a time.
    while (next < starts.size() && rows[next] < begin + size) {
      std::vector<int32_t> slots, sources;
      for (; next < starts.size() && rows[next] < begin + size &&
             static_cast<int64_t>(slots.size()) < shape_.logits_rows;
           ++next) {
        slots.push_back(starts[next].slot);
        sources.push_back(static_cast<int32_t>(rows[next] - begin));
      }
      const at::Tensor draws = gpu::upload(slots, device_), from = gpu::upload(sources, device_);
      gpu::sample(logits, static_cast<int64_t>(slots.size()), draws.const_data_ptr<int32_t>(),
                  from.const_data_ptr<int32_t>(), kind_.mode, settings_, slots_, stops_, sampler_scratch_);
    }
  }
}

// Words of the schedule: the numbers of items and of groups, the rows' slots, the groups, the items.
gpu::Schedule GpuDecoder::schedule_view() const {
  const int32_t* words = schedule_.const_data_ptr<int32_t>();
  const int32_t* rows = words + kScheduleHeader;
  const int32_t* groups = rows + row_words(shape_.slots);
  return {words,
          rows,
          reinterpret_cast<const gpu::PromptItem*>(groups + row_words(shape_.slots) * kGroupWords),
          words + 1,
          reinterpret_cast<const gpu::RowGroup*>(groups),
          kind_.group_rows};
}

void GpuDecoder::upload_schedule(const std::vector<int32_t>& row_slots,
                                 const std::vector<gpu::PromptItem>& items) {
  std::vector<gpu::RowGroup> groups;
  for (const gpu::PromptItem& item : items) {
    for (int32_t row = 0; item.begin == 0 && row < item.num_rows; row += kind_.group_rows) {
      groups.push_back({item.first_row + row, std::min(kind_.group_rows, item.num_rows - row), item.arena});
    }
  }
  const int64_t rows = row_words(shape_.slots);
  std::vector<int32_t> words(kScheduleHeader + rows * (1 + kGroupWords) + items.size() * kItemWords, -1);
  words[0] = static_cast<int32_t>(items.size());
  words[1] = static_cast<int32_t>(groups.size());
  std::copy(row_slots.begin(), row_slots.end(), words.begin() + kScheduleHeader);
  int32_t* const after_rows = words.data() + kScheduleHeader + rows;
  if (!items.empty()) {
    std::memcpy(after_rows, groups.data(), groups.size() * sizeof(gpu::RowGroup));
    std::memcpy(after_rows + rows * kGroupWords, items.data(), items.size() * sizeof(gpu::PromptItem));
  }
  write(schedule_, words.data(), words.size() * sizeof(int32_t));
}

gpu::StepGraph& GpuDecoder::graph(int64_t rows) {
  auto& graph = graphs_[{kind_, rows}];
  if (graph == nullptr) {
    upload_schedule({}, {});  // what runs while a step is recorded must change no response
    graph = std::make_unique<gpu::StepGraph>([this, rows] { run_step(rows); }, device_, pool_);
  }
  return *graph;
}

void GpuDecoder::schedule(const std::vector<int32_t>& row_slots, const std::vector<gpu::PromptItem>& items) {
  rows_ = bucket_of(static_cast<int64_t>(row_slots.size()), most_rows_);
  graph(rows_);
  upload_schedule(row_slots, items);
}

void GpuDecoder::step() { graphs_.at({kind_, rows_})->replay(); }

void GpuDecoder::run_step(int64_t rows) {
  const ModelConfig& config = weights_.config;
  const auto live = [&](const at::Tensor& buffer) { return buffer.narrow(0, 0, rows); };
  at::Tensor residual = live(residual_), qkv = live(qkv_), attended = live(attended_), mixed = live(mixed_),
             gate_up = live(gate_up_);
  const gpu::Schedule schedule = schedule_view();
  const auto adapt = [&](at::Tensor& y, const at::Tensor& x, int64_t i, LoraSite LoraLayer::* site) {
    if (weights_.adapter != nullptr) lora_add_(y, x, weights_.adapter->layers[i].*site);
  };
  const double eps = config.rms_norm_eps;

  const auto timed = [&](Phase phase, const auto& work) {
    const PhaseScope scope(phase, device_);
    work();
  };
  timed(Phase::kElementwise,
        [&] { gpu::gather_embeddings(residual, weights_.embed, schedule.row_slots, slots_); });
  at::Tensor normed = rms_norm(residual, weights_.layers[0].attention_norm, eps);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const LayerWeights& layer = weights_.layers[i];
    linear_out(qkv, normed, layer.qkv, layer.qkv_bias);
    adapt(qkv, normed, i, &LoraLayer::qkv);
    if (config.qk_norm) {
      at::Tensor keys = qkv.narrow(1, config.q_size(), config.kv_size());
      rms_norm_heads_(qkv, config.num_heads, layer.q_norm, eps);
      rms_norm_heads_(keys, config.num_kv_heads, layer.k_norm, eps);
    }
    const gpu::DecodeShape shape = gpu::decode_shape(qkv, config.num_heads, config.num_kv_heads,
                                                     config.head_dim, config.sliding_window[i], i);
    timed(Phase::kElementwise,
          [&] { gpu::rope_and_store(qkv, shape, angles_, schedule.row_slots, slots_, memory_); });
    timed(Phase::kAttention, [&] {
      gpu::decode_attention(attended, qkv, shape, shape_.pieces, schedule, slots_, memory_, decode_scratch_,
                            kind_.attention);
    });
    linear_out(mixed, attended, layer.o, layer.o_bias);
    adapt(mixed, attended, i, &LoraLayer::o);
    normed = add_rms_norm_(residual, mixed, layer.mlp_norm, eps);
    linear_out(gate_up, normed, layer.gate_up, layer.gate_up_bias);
    adapt(gate_up, normed, i, &LoraLayer::gate_up);
    const at::Tensor act = swiglu(gate_up);
    linear_out(mixed, act, layer.down, layer.down_bias);
    adapt(mixed, act, i, &LoraLayer::down);
    const bool last = i + 1 == config.num_layers;
    normed = add_rms_norm_(residual, mixed,
                           last ? weights_.final_norm : weights_.layers[i + 1].attention_norm, eps);
  }
  for (int64_t begin = 0; begin < rows; begin += shape_.logits_rows) {
    const int64_t size = std::min(shape_.logits_rows, rows - begin);
    at::Tensor logits = logits_.narrow(0, 0, size);
    timed(Phase::kHead, [&] { gpu::float_logits(logits, normed.narrow(0, begin, size), weights_.head); });
    timed(Phase::kSampler, [&] {
      gpu::sample(logits, size, schedule.row_slots + begin, nullptr, kind_.mode, settings_, slots_, stops_,
                  sampler_scratch_);
    });
  }
}

SlotSnapshot GpuDecoder::snapshot() const {
  at::Tensor values =
      at::empty_like(visible_, visible_.options().device(at::kCPU).pinned_memory(device_.is_cuda()));
  values.copy_(visible_, /*non_blocking=*/true);
  return {values, shape_.slots, shape_.max_new_tokens, gpu::StreamMark(device_)};
}

}  // namespace cream
