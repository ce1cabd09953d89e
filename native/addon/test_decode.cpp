// Test exports of the decode step on a GPU, or over the emulation: attention in slots, the sampler, and the
// product of tiles, each from host arrays.
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <c10/core/InferenceMode.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>

#include "addon/test_device.h"
#include "addon/test_generate.h"
#include "cuda/kernels/bulk.h"
#include "cuda/kernels/mma.h"
#include "ops/gpu_decode.h"
#include "ops/gpu_launch.h"
#include "ops/philox.h"
#include "ops/step_graph.h"
#include "ops/upload.h"

namespace cream {

namespace {

using addon::TestDevice;

int64_t integer(const Napi::Object& options, const char* key) {
  return options.Get(key).As<Napi::Number>().Int64Value();
}
float real(const Napi::Object& options, const char* key) {
  return options.Get(key).As<Napi::Number>().FloatValue();
}
std::vector<int32_t> integers(const Napi::Object& options, const char* key) {
  const auto array = options.Get(key).As<Napi::Int32Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

// On the host, as float32 or rounded to bfloat16.
at::Tensor values(const Napi::Object& options, const char* key, at::IntArrayRef shape) {
  const auto array = options.Get(key).As<Napi::Float32Array>();
  at::Tensor tensor = at::empty(shape, at::kFloat);
  TORCH_CHECK_VALUE(static_cast<size_t>(tensor.numel()) == array.ElementLength(), key, ": ", shape,
                    " wanted, got ", array.ElementLength(), " numbers");
  std::memcpy(tensor.data_ptr<float>(), array.Data(), array.ByteLength());
  const bool half = options.Get("dtype").ToString().Utf8Value() == "bfloat16";
  return tensor.to(half ? at::kBFloat16 : at::kFloat);
}

Napi::Value doubles(Napi::Env env, const at::Tensor& tensor) {
  const at::Tensor on_host = tensor.to(at::kCPU, at::kDouble).contiguous();
  auto array = Napi::Float64Array::New(env, on_host.numel());
  std::memcpy(array.Data(), on_host.const_data_ptr<double>(), array.ByteLength());
  return array;
}

template <typename Array, typename T>
Napi::Value typed_array(Napi::Env env, const std::vector<T>& from) {
  auto array = Array::New(env, from.size());
  std::copy(from.begin(), from.end(), array.Data());
  return array;
}

gpu::AttentionKernel kernel_of(const Napi::Object& options) {
  const auto name = options.Get("kernel").ToString().Utf8Value();
  return name == "plain"   ? gpu::AttentionKernel::kPlain
         : name == "tiles" ? gpu::AttentionKernel::kTiles
         : name == "ring"  ? gpu::AttentionKernel::kRing
                           : gpu::AttentionKernel::kAuto;
}

// The arrays of slots on the device, zero at first.
struct SlotArrays {
  SlotArrays(int64_t slots, int64_t capacity)
      : words(at::zeros({8 * slots + 2 * slots * capacity},
                        at::TensorOptions().dtype(at::kInt).device(TestDevice::current()))),
        sums(at::zeros({slots}, words.options().dtype(at::kDouble))) {
    int32_t* at = words.data_ptr<int32_t>();
    view = {.state = at,
            .count = at + slots,
            .token = at + 2 * slots,
            .prompt_length = at + 3 * slots,
            .limit = at + 4 * slots,
            .key = reinterpret_cast<uint32_t*>(at + 5 * slots),
            .logprob_sum = sums.data_ptr<double>(),
            .ids = at + 8 * slots,
            .logprobs = reinterpret_cast<float*>(at + 8 * slots + slots * capacity),
            .capacity = capacity};
  }
  at::Tensor words, sums;
  gpu::Slots view{};
};

struct AttentionCase {
  int64_t heads, kv_heads, dim, window, layers, layer, arena_tokens, slot_tokens, slots;
  std::vector<int32_t> prompts;  // lengths
  std::vector<int32_t> rows;     // pairs: prompt, own tokens (0: the slot is idle, -1: no slot)
  std::vector<int64_t> arena;    // first token of each prompt

  int64_t tokens() const { return arena_tokens + slots * slot_tokens; }
  int64_t num_rows() const { return static_cast<int64_t>(rows.size()) / 2; }
  int32_t prompt_of(int64_t row) const { return rows[static_cast<size_t>(2 * row)]; }
  int32_t own_of(int64_t row) const { return rows[static_cast<size_t>(2 * row + 1)]; }
  // Not in the order of the rows.
  int64_t slot_of(int64_t row) const { return num_rows() - 1 - row; }
  int64_t slot_place(int64_t row) const { return arena_tokens + slot_of(row) * slot_tokens; }
};

AttentionCase case_of(const Napi::Object& options) {
  AttentionCase c{integer(options, "heads"),
                  integer(options, "kvHeads"),
                  integer(options, "headDim"),
                  integer(options, "window"),
                  2,
                  1,
                  0,
                  0,
                  0,
                  integers(options, "prompts"),
                  integers(options, "rows"),
                  {}};
  for (const int32_t length : c.prompts) {
    c.arena.push_back(c.arena_tokens);
    c.arena_tokens += (length + 15) / 16 * 16;
  }
  for (int64_t row = 0; row < c.num_rows(); ++row)
    c.slot_tokens = std::max<int64_t>(c.slot_tokens, (c.own_of(row) + 15) / 16 * 16);
  c.slots = c.num_rows();
  return c;
}

// Keys and values [2, layers, kv heads, tokens, dim] that are NaN wherever no token was written.
at::Tensor keys_values(const AttentionCase& c, const at::Tensor& written) {
  at::Tensor all = at::full({2, c.layers, c.kv_heads, c.tokens(), c.dim},
                            std::numeric_limits<double>::quiet_NaN(), written.options());
  const auto copy = [&](int64_t place, int64_t length) {
    all.narrow(3, place, length).copy_(written.narrow(3, place, length));
  };
  for (size_t p = 0; p < c.prompts.size(); ++p) copy(c.arena[p], c.prompts[p]);
  for (int64_t row = 0; row < c.num_rows(); ++row) {
    if (c.own_of(row) > 0) copy(c.slot_place(row), c.own_of(row));
  }
  return all;
}

// As kernels with swizzle 7 want it: 16-byte chunk c of token t at chunk c XOR (t mod 8).
at::Tensor swizzled(const at::Tensor& memory) {
  const int64_t tokens = memory.size(3), chunks = memory.size(4) * memory.element_size() / 16;
  const at::Tensor from = at::arange(chunks, at::kLong)
                              .expand({tokens, chunks})
                              .bitwise_xor(at::arange(tokens, at::kLong).bitwise_and(7).unsqueeze(1));
  const at::Tensor split = memory.unflatten(4, {chunks, memory.size(4) / chunks});
  return split.gather(4, from.unsqueeze(2).expand(split.sizes())).flatten(4, 5).contiguous();
}

// The definition, in float64.
at::Tensor attention_reference(const AttentionCase& c, const at::Tensor& qkv, const at::Tensor& memory) {
  at::Tensor out = at::zeros({c.num_rows(), c.heads * c.dim}, at::kDouble);
  for (int64_t row = 0; row < c.num_rows(); ++row) {
    const int64_t own = c.own_of(row), prompt = c.prompts[static_cast<size_t>(c.prompt_of(row))];
    if (own <= 0) continue;
    const int64_t length = prompt + own, first = c.window > 0 ? std::max<int64_t>(0, length - c.window) : 0;
    for (int64_t head = 0; head < c.heads; ++head) {
      const int64_t kv_head = head / (c.heads / c.kv_heads);
      const auto seen = [&](int64_t which) {
        const at::Tensor of_head = memory[which][c.layer][kv_head];
        const at::Tensor both =
            at::cat({of_head.narrow(0, c.arena[static_cast<size_t>(c.prompt_of(row))], prompt),
                     of_head.narrow(0, c.slot_place(row), own)});
        return both.narrow(0, first, length - first).to(at::kDouble);
      };
      const at::Tensor query = qkv[row].narrow(0, head * c.dim, c.dim).to(at::kDouble);
      const at::Tensor weights = (seen(0).mv(query) / std::sqrt(double(c.dim))).softmax(0);
      out[row].narrow(0, head * c.dim, c.dim).copy_(seen(1).t().mv(weights));
    }
  }
  return out;
}

// What decode_attention reads beside queries, on the device.
class AttentionInputs {
 public:
  AttentionInputs(const AttentionCase& c, const at::Tensor& qkv, const at::Tensor& memory, int64_t piece,
                  int64_t item_rows, int64_t group_rows, bool is_swizzled)
      : c_(c), qkv_(qkv), slots_(c.slots, 1), pieces_{piece, 1, piece, in_pieces(piece, c.slot_tokens)} {
    const at::Device device = qkv.device();
    std::vector<int32_t> host(static_cast<size_t>(7 * c.slots)), row_slots;
    for (int64_t row = 0; row < c.num_rows(); ++row) {
      const auto slot = static_cast<size_t>(c.slot_of(row)), slots = static_cast<size_t>(c.slots);
      row_slots.push_back(c.own_of(row) < 0 ? -1 : static_cast<int32_t>(slot));
      if (c.own_of(row) <= 0) continue;
      host[slot] = static_cast<int32_t>(gpu::SlotState::kLive);
      host[slots + slot] = c.own_of(row);
      host[3 * slots + slot] = c.prompts[static_cast<size_t>(c.prompt_of(row))];
    }
    slots_.words.narrow(0, 0, 7 * c.slots).copy_(gpu::upload(host, device));

    std::vector<gpu::PromptItem> items;
    std::vector<gpu::RowGroup> groups;
    for (int64_t begin = 0; begin < c.num_rows();) {
      int64_t end = begin;
      while (end < c.num_rows() && c.prompt_of(end) == c.prompt_of(begin) && end - begin < item_rows) ++end;
      const auto prompt = static_cast<size_t>(c.prompt_of(begin));
      const auto arena = static_cast<int32_t>(c.arena[prompt]);
      pieces_.prompt_count = std::max(pieces_.prompt_count, in_pieces(piece, c.prompts[prompt]));
      for (int64_t p = 0; p * piece < c.prompts[prompt]; ++p) {
        items.push_back({static_cast<int32_t>(begin), static_cast<int32_t>(end - begin),
                         static_cast<int32_t>(p * piece),
                         static_cast<int32_t>(std::min<int64_t>(c.prompts[prompt], (p + 1) * piece)), arena,
                         static_cast<int32_t>(p)});
      }
      for (int64_t row = begin; row < end; row += group_rows) {
        groups.push_back(
            {static_cast<int32_t>(row), static_cast<int32_t>(std::min(group_rows, end - row)), arena});
      }
      begin = end;
    }
    counts_ = gpu::upload(
        std::vector<int32_t>{static_cast<int32_t>(items.size()), static_cast<int32_t>(groups.size())},
        device);
    rows_ = gpu::upload(row_slots, device);
    items_ = gpu::upload_bytes(items.data(), items.size() * sizeof(gpu::PromptItem), device);
    groups_ = gpu::upload_bytes(groups.data(), groups.size() * sizeof(gpu::RowGroup), device);
    schedule_ = {counts_.const_data_ptr<int32_t>(),
                 rows_.const_data_ptr<int32_t>(),
                 static_cast<const gpu::PromptItem*>(items_.const_data_ptr()),
                 counts_.const_data_ptr<int32_t>() + 1,
                 static_cast<const gpu::RowGroup*>(groups_.const_data_ptr()),
                 static_cast<int32_t>(group_rows)};
    const gpu::KvMemory kv{memory[0].data_ptr(), memory[1].data_ptr(), c.tokens(),
                           c.arena_tokens,       c.slot_tokens,        is_swizzled ? 7 : 0};
    memory_ = gpu::upload_bytes(&kv, sizeof kv, device);
    scratch_ = at::full({gpu::decode_scratch(shape(c.layer), pieces_)}, 0xFF, qkv.options().dtype(at::kByte));
  }

  gpu::DecodeShape shape(int64_t layer) const {
    return gpu::decode_shape(qkv_, c_.heads, c_.kv_heads, c_.dim, c_.window, layer);
  }
  void attend(at::Tensor& out, int64_t layer, gpu::AttentionKernel kernel) {
    gpu::decode_attention(out, qkv_, shape(layer), pieces_, schedule_, slots_.view, memory_, scratch_,
                          kernel);
  }

 private:
  static int64_t in_pieces(int64_t piece, int64_t tokens) {
    return std::max<int64_t>(1, (tokens + piece - 1) / piece);
  }

  const AttentionCase& c_;
  const at::Tensor qkv_;
  SlotArrays slots_;
  gpu::DecodePieces pieces_;
  at::Tensor counts_, rows_, items_, groups_, memory_, scratch_;
  gpu::Schedule schedule_{};
};

// _slotAttention({qkv, memory, prompts, rows, heads, kvHeads, headDim, window, pieceTokens, itemRows,
// groupRows, dtype, device, kernel}) -> {out, reference}: rows of a prompt lie together; memory as
// keys_values above
Napi::Value SlotAttention(const Napi::CallbackInfo& info) {
  c10::InferenceMode no_grad;
  const auto options = info[0].As<Napi::Object>();
  const TestDevice scope(options);
  const at::Device device = TestDevice::current();
  const AttentionCase c = case_of(options);
  const at::Tensor qkv = values(options, "qkv", {c.num_rows(), (c.heads + 2 * c.kv_heads) * c.dim});
  const at::Tensor memory =
      keys_values(c, values(options, "memory", {2, c.layers, c.kv_heads, c.tokens(), c.dim}));
  const bool is_swizzled = kernel_of(options) == gpu::AttentionKernel::kRing && c.dim % 64 == 0;
  const at::Tensor on_device = (is_swizzled ? swizzled(memory) : memory).to(device);
  AttentionInputs inputs(c, qkv.to(device), on_device, integer(options, "pieceTokens"),
                         integer(options, "itemRows"), integer(options, "groupRows"), is_swizzled);
  at::Tensor out = at::full({c.num_rows(), c.heads * c.dim}, NAN, on_device.options());
  inputs.attend(out, c.layer, kernel_of(options));
  auto result = Napi::Object::New(info.Env());
  result.Set("out", doubles(info.Env(), out));
  result.Set("reference", doubles(info.Env(), attention_reference(c, qkv, memory)));
  return result;
}

// Seconds of one `work(i)`, of many in a row.
template <typename Work>
double seconds_each(at::Device device, int64_t count, const Work& work) {
  for (int64_t i = 0; i < std::min<int64_t>(count, 4); ++i) work(i);
  gpu::StreamMark(device).wait();
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < count; ++i) work(i);
  gpu::StreamMark(device).wait();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() /
         static_cast<double>(count);
}

// _timeSlotAttention({prompts, rows, heads, kvHeads, headDim, window, groupRows, layers, count, copyBytes,
// device}) -> {bytes, copyBandwidth, seconds: {plain, tiles, ring}}: of one layer's attention of bfloat16
// over random keys and values, NaN for a kernel that cannot; `bytes` counts each prompt once, copyBandwidth
// reads and writes
Napi::Value TimeSlotAttention(const Napi::CallbackInfo& info) {
  c10::InferenceMode no_grad;
  const auto options = info[0].As<Napi::Object>();
  const TestDevice scope(options);
  const at::Device device = TestDevice::current();
  AttentionCase c = case_of(options);
  c.layers = integer(options, "layers");
  const int64_t count = integer(options, "count"), group_rows = integer(options, "groupRows");
  const auto random = [&](at::IntArrayRef shape) {
    return at::randn(shape, at::TensorOptions().dtype(at::kBFloat16).device(device));
  };
  const at::Tensor qkv = random({c.num_rows(), (c.heads + 2 * c.kv_heads) * c.dim});
  const at::Tensor memory = random({2, c.layers, c.kv_heads, c.tokens(), c.dim});
  at::Tensor out = at::empty({c.num_rows(), c.heads * c.dim}, qkv.options());

  auto result = Napi::Object::New(info.Env()), seconds = Napi::Object::New(info.Env());
  for (const auto& [name, kernel] :
       {std::pair{"plain", gpu::AttentionKernel::kPlain}, std::pair{"tiles", gpu::AttentionKernel::kTiles},
        std::pair{"ring", gpu::AttentionKernel::kRing}}) {
    AttentionInputs inputs(c, qkv, memory, 256, 64, group_rows, kernel == gpu::AttentionKernel::kRing);
    double each = std::numeric_limits<double>::quiet_NaN();
    try {
      each = seconds_each(device, count, [&](int64_t i) { inputs.attend(out, i % c.layers, kernel); });
    } catch (const std::invalid_argument&) {  // this kernel is not for this device and shape
    }
    seconds.Set(name, each);
  }
  int64_t tokens = 0;
  for (const int32_t length : c.prompts) tokens += length;
  for (int64_t row = 0; row < c.num_rows(); ++row) tokens += std::max(c.own_of(row), 0);
  const at::Tensor from = at::zeros({integer(options, "copyBytes")}, qkv.options().dtype(at::kByte));
  at::Tensor to = at::empty_like(from);
  const double copying = seconds_each(device, 10, [&](int64_t) { to.copy_(from); });
  result.Set("bytes", static_cast<double>(tokens * c.kv_heads * c.dim * 2 * 2));
  result.Set("copyBandwidth", 2 * static_cast<double>(from.numel()) / copying);
  result.Set("seconds", seconds);
  return result;
}

// _sampleSlots({logits, vocab, draws, temperature, topP, topK, seed, dtype, device}) -> {ids, logprobs,
// uniforms}: the first token of `draws` responses, response i from row i % (number of rows); uniforms are the
// numbers that it drew with
Napi::Value SampleSlots(const Napi::CallbackInfo& info) {
  c10::InferenceMode no_grad;
  const auto options = info[0].As<Napi::Object>();
  const TestDevice scope(options);
  const at::Device device = TestDevice::current();
  const int64_t vocab = integer(options, "vocab"), draws = integer(options, "draws");
  const auto length = static_cast<int64_t>(options.Get("logits").As<Napi::Float32Array>().ElementLength());
  const at::Tensor logits = values(options, "logits", {length / vocab, vocab}).to(device);
  const SamplerOptions sampler{real(options, "temperature"), real(options, "topP"), integer(options, "topK")};
  gpu::SamplerSettings settings{sampler.temperature,
                                sampler.top_p,
                                static_cast<int32_t>(sampler.top_k),
                                {static_cast<uint32_t>(integer(options, "seed")), 77}};
  const at::Tensor device_settings = gpu::upload_bytes(&settings, sizeof settings, device);
  const at::Tensor stops = at::zeros({(vocab + 31) / 32}, at::TensorOptions().dtype(at::kInt).device(device));

  SlotArrays slots(draws, 1);
  std::vector<gpu::SlotStart> starts;
  std::vector<int32_t> rows, sources;
  std::vector<float> uniforms;
  for (int64_t i = 0; i < draws; ++i) {
    starts.push_back({static_cast<int32_t>(i), 1, 1, {5, 6, static_cast<uint32_t>(i)}});
    rows.push_back(static_cast<int32_t>(i));
    sources.push_back(static_cast<int32_t>(i % logits.size(0)));
    const auto bits = philox({5, 6, static_cast<uint32_t>(i), 0}, {settings.seed[0], settings.seed[1]});
    uniforms.push_back(uniform_open(bits[0]));
  }
  gpu::start_slots(gpu::upload_bytes(starts.data(), starts.size() * sizeof(gpu::SlotStart), device), draws,
                   slots.view);
  const gpu::SamplerMode mode = gpu::sampler_mode(sampler, vocab);
  at::Tensor scratch =
      at::full({gpu::sampler_scratch(draws, vocab, mode)}, 0xFF, stops.options().dtype(at::kByte));
  const at::Tensor device_rows = gpu::upload(rows, device), device_sources = gpu::upload(sources, device);
  gpu::sample(logits, draws, device_rows.const_data_ptr<int32_t>(), device_sources.const_data_ptr<int32_t>(),
              mode, device_settings, slots.view, stops, scratch);

  const at::Tensor drawn = slots.words.narrow(0, 8 * draws, 2 * draws).to(at::kCPU).contiguous();
  const int32_t* ids = drawn.const_data_ptr<int32_t>();
  const auto* logprobs = reinterpret_cast<const float*>(ids + draws);
  auto result = Napi::Object::New(info.Env());
  result.Set("ids", typed_array<Napi::Int32Array>(info.Env(), std::vector<int32_t>(ids, ids + draws)));
  result.Set("logprobs",
             typed_array<Napi::Float32Array>(info.Env(), std::vector<float>(logprobs, logprobs + draws)));
  result.Set("uniforms", typed_array<Napi::Float32Array>(info.Env(), uniforms));
  return result;
}

// _multiplyTiles({a, b, d, device}) -> d [16, 8] + a [16, 16] b [16, 8], a and b in bfloat16
Napi::Value MultiplyTiles(const Napi::CallbackInfo& info) {
  c10::InferenceMode no_grad;
  const auto options = info[0].As<Napi::Object>();
  const TestDevice scope(options);
  const at::Device device = TestDevice::current();
  const at::Tensor a = values(options, "a", {16, 16}).to(device, at::kBFloat16);
  const at::Tensor b = values(options, "b", {16, 8}).to(device, at::kBFloat16);
  at::Tensor d = values(options, "d", {16, 8}).to(device, at::kFloat, false, true);
  gpu::multiply_one_tile(d.data_ptr<float>(), a.const_data_ptr(), b.const_data_ptr(), gpu::stream_of(a));
  return doubles(info.Env(), d);
}

// _loadMatrices({matrices, transposed, device}) -> Uint32Array [32, 4]: what each lane gets of four matrices
// [4, 8, 8] of 16-bit numbers
Napi::Value LoadMatrices(const Napi::CallbackInfo& info) {
  c10::InferenceMode no_grad;
  const auto options = info[0].As<Napi::Object>();
  const TestDevice scope(options);
  const at::Device device = TestDevice::current();
  const auto numbers = options.Get("matrices").As<Napi::Uint16Array>();
  const at::Tensor matrices = gpu::upload_bytes(numbers.Data(), numbers.ByteLength(), device);
  at::Tensor words = at::zeros({32 * 4}, at::TensorOptions().dtype(at::kInt).device(device));
  gpu::load_four_matrices(reinterpret_cast<uint32_t*>(words.data_ptr<int32_t>()), matrices.const_data_ptr(),
                          options.Get("transposed").ToBoolean(), gpu::stream_of(words));
  const at::Tensor host = words.to(at::kCPU).contiguous();
  const auto* first = reinterpret_cast<const uint32_t*>(host.const_data_ptr<int32_t>());
  return typed_array<Napi::Uint32Array>(info.Env(), std::vector<uint32_t>(first, first + host.numel()));
}

// _copyByRing({bytes, fault, device}) -> the copy; fault: 0, or what of RingFault is done wrong
Napi::Value CopyByRing(const Napi::CallbackInfo& info) {
  c10::InferenceMode no_grad;
  const auto options = info[0].As<Napi::Object>();
  const TestDevice scope(options);
  const auto bytes = options.Get("bytes").As<Napi::Uint8Array>();
  const at::Tensor from = gpu::upload_bytes(bytes.Data(), bytes.ByteLength(), TestDevice::current());
  at::Tensor to = at::zeros_like(from);
  gpu::copy_by_ring(to.data_ptr(), from.const_data_ptr(), static_cast<int64_t>(bytes.ByteLength()),
                    static_cast<gpu::RingFault>(integer(options, "fault")), gpu::stream_of(to));
  const at::Tensor host = to.to(at::kCPU).contiguous();
  const auto* first = static_cast<const uint8_t*>(host.const_data_ptr());
  return typed_array<Napi::Uint8Array>(info.Env(), std::vector<uint8_t>(first, first + bytes.ByteLength()));
}

// A C++ exception as a JavaScript one.
template <Napi::Value (*kBody)(const Napi::CallbackInfo&)>
Napi::Value checked(const Napi::CallbackInfo& info) {
  try {
    return kBody(info);
  } catch (const c10::Error& error) {
    throw Napi::Error::New(info.Env(), error.what_without_backtrace());
  } catch (const std::logic_error& error) {
    throw Napi::Error::New(info.Env(), error.what());
  }
}

}  // namespace

void register_decode_tests(Napi::Env env, Napi::Object exports) {
  exports.Set("_slotAttention", Napi::Function::New(env, checked<SlotAttention>));
  exports.Set("_timeSlotAttention", Napi::Function::New(env, checked<TimeSlotAttention>));
  exports.Set("_sampleSlots", Napi::Function::New(env, checked<SampleSlots>));
  exports.Set("_loadMatrices", Napi::Function::New(env, checked<LoadMatrices>));
  exports.Set("_copyByRing", Napi::Function::New(env, checked<CopyByRing>));
  exports.Set("_multiplyTiles", Napi::Function::New(env, checked<MultiplyTiles>));
}

}  // namespace cream
