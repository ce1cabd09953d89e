#include "ops/gpu.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "cuda/kernels/elementwise.h"
#include "cuda/kernels/head.h"
#include "cuda/kernels/rms_norm.h"
#include "ops/gpu_launch.h"
#include "ops/linear.h"
#include "ops/phases.h"
#include "ops/upload.h"

namespace cream::gpu {

namespace {

thread_local bool emulating = false;

// Host values on x's device.
template <typename T>
at::Tensor beside(const at::Tensor& x, const T* values, size_t size) {
  return upload(values, size, x.device());
}

template <typename T>
std::vector<T> on_host(const at::Tensor& x) {
  const at::Tensor values = x.to(at::kCPU).contiguous();
  const T* data = values.const_data_ptr<T>();
  return {data, data + values.numel()};
}

NormShape norm_shape(const at::Tensor& x, int64_t heads, const at::Tensor& w, double eps) {
  return {dtype_of(x), x.size(0), heads, w.numel(), eps};
}

std::vector<int32_t> tokens_of(const std::vector<Target>& targets) {
  std::vector<int32_t> tokens;
  tokens.reserve(targets.size());
  for (const Target& target : targets) tokens.push_back(static_cast<int32_t>(target.token));
  return tokens;
}

// Calls body(begin, logits [rows, V]) for each chunk of rows; one buffer serves all chunks. Logits are
// float32 for bfloat16 operands too: at a size of 16 a step of bfloat16 is 0.125, which would move a
// log-prob.
template <typename Body>
void for_chunks(const at::Tensor& hidden, const at::Tensor& head, int64_t chunk_rows, const Body& body) {
  const int64_t rows = hidden.size(0);
  const auto floats = head.options().dtype(at::kFloat);
  const auto buffer = at::empty({std::min(chunk_rows, rows), head.size(0)}, floats);
  for (int64_t begin = 0; begin < rows; begin += chunk_rows) {
    const int64_t size = std::min(chunk_rows, rows - begin);
    at::Tensor logits = buffer.narrow(0, 0, size);
    cream::linear_out(logits, hidden.narrow(0, begin, size), head);
    body(begin, logits);
  }
}

}  // namespace

EmulationScope::EmulationScope(bool on) : before_(emulating) { emulating = emulating || on; }
EmulationScope::~EmulationScope() { emulating = before_; }

void check_emulation() {
#ifdef CREAM_CUDA
  TORCH_CHECK_VALUE(false, "device 'emulated' is in builds without CUDA only; this build has the GPU itself");
#endif
}

bool active(const at::Tensor& x) { return emulating || x.is_cuda(); }

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& w, double eps) {
  at::Tensor y = at::empty({x.size(0), x.size(1)}, x.options());
  rms_norm(y.data_ptr(), y.stride(0), x.const_data_ptr(), x.stride(0), nullptr, nullptr, w.const_data_ptr(),
           norm_shape(x, 1, w, eps), stream_of(x));
  return y;
}

at::Tensor add_rms_norm(at::Tensor& sum, const at::Tensor& residual, const at::Tensor& x, const at::Tensor& w,
                        double eps) {
  at::Tensor y = at::empty_like(x);
  rms_norm(y.data_ptr(), y.stride(0), x.const_data_ptr(), x.stride(0), residual.const_data_ptr(),
           sum.data_ptr(), w.const_data_ptr(), norm_shape(x, 1, w, eps), stream_of(x));
  return y;
}

void rms_norm_heads_(at::Tensor& x, int64_t heads, const at::Tensor& w, double eps) {
  rms_norm(x.data_ptr(), x.stride(0), x.const_data_ptr(), x.stride(0), nullptr, nullptr, w.const_data_ptr(),
           norm_shape(x, heads, w, eps), stream_of(x));
}

at::Tensor rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& w, double eps,
                             at::Tensor dw, const at::Tensor& add_to) {
  at::Tensor dx = at::empty_like(dy);
  const NormShape shape = norm_shape(x, 1, w, eps);
  const at::Tensor scratch = at::empty({rms_norm_scratch(shape)}, dw.options());
  rms_norm_backward(dx.data_ptr(), dx.stride(0), dy.const_data_ptr(), dy.stride(0), x.const_data_ptr(),
                    x.stride(0), w.const_data_ptr(), add_to.defined() ? add_to.const_data_ptr() : nullptr,
                    dw.data_ptr<float>(), scratch.data_ptr<float>(), shape, stream_of(x));
  return dx;
}

void rms_norm_heads_backward_(at::Tensor& dy, const at::Tensor& x, int64_t heads, const at::Tensor& w,
                              double eps, at::Tensor dw) {
  const NormShape shape = norm_shape(x, heads, w, eps);
  const at::Tensor scratch = at::empty({rms_norm_scratch(shape)}, dw.options());
  rms_norm_backward(dy.data_ptr(), dy.stride(0), dy.const_data_ptr(), dy.stride(0), x.const_data_ptr(),
                    x.stride(0), w.const_data_ptr(), nullptr, dw.data_ptr<float>(), scratch.data_ptr<float>(),
                    shape, stream_of(x));
}

void rope_(at::Tensor& x, int64_t heads, int64_t head_dim, const int32_t* positions, const at::Tensor& table,
           bool inverse) {
  rope_(x, heads, head_dim, beside(x, positions, static_cast<size_t>(x.size(0))), table, inverse);
}

void rope_(at::Tensor& x, int64_t heads, int64_t head_dim, const at::Tensor& where, const at::Tensor& table,
           bool inverse) {
  rope(x.data_ptr(), dtype_of(x), x.size(0), x.stride(0), heads, head_dim, where.const_data_ptr<int32_t>(),
       table.const_data_ptr<float>(), inverse, stream_of(x));
}

at::Tensor swiglu(const at::Tensor& gate_up) {
  const int64_t width = gate_up.size(1) / 2;
  at::Tensor y = at::empty({gate_up.size(0), width}, gate_up.options());
  swiglu(y.data_ptr(), gate_up.const_data_ptr(), dtype_of(gate_up), gate_up.size(0), width,
         stream_of(gate_up));
  return y;
}

at::Tensor swiglu_backward_(at::Tensor& gate_up, const at::Tensor& dy) {
  at::Tensor y = at::empty_like(dy);
  swiglu_backward(y.data_ptr(), gate_up.data_ptr(), dy.const_data_ptr(), dtype_of(dy), dy.size(0), dy.size(1),
                  stream_of(dy));
  return y;
}

void add_embedding_gradient(at::Tensor& d_embed, const std::vector<int64_t>& ids, const at::Tensor& d_RC) {
  std::vector<int64_t> order(ids.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return ids[static_cast<size_t>(a)] < ids[static_cast<size_t>(b)];
  });
  std::vector<int64_t> distinct, starts;
  for (size_t i = 0; i < order.size(); ++i) {
    const int64_t id = ids[static_cast<size_t>(order[i])];
    if (!distinct.empty() && distinct.back() == id) continue;
    distinct.push_back(id);
    starts.push_back(static_cast<int64_t>(i));
  }
  starts.push_back(static_cast<int64_t>(order.size()));
  const at::Tensor device_ids = beside(d_RC, distinct.data(), distinct.size());
  const at::Tensor device_starts = beside(d_RC, starts.data(), starts.size());
  const at::Tensor device_order = beside(d_RC, order.data(), order.size());
  embedding_gradient(d_embed.data_ptr(), dtype_of(d_embed), d_RC.const_data_ptr(), dtype_of(d_RC),
                     d_RC.size(1), static_cast<int64_t>(distinct.size()),
                     device_ids.const_data_ptr<int64_t>(), device_starts.const_data_ptr<int64_t>(),
                     device_order.const_data_ptr<int64_t>(), stream_of(d_RC));
}

// Sums of products are float32 inside a matrix product wherever it runs; what differs is what is kept.
// float32 dw: the sum with what dw holds is never rounded (on a GPU; elsewhere LibTorch has no product of
// that kind, and the product alone is rounded to bfloat16 first). bfloat16 dw: rounded once per call.
void linear_backward_weight(const at::Tensor& dy, const at::Tensor& x, at::Tensor dw, at::Tensor dbias,
                            bool overwrite) {
  if (dy.scalar_type() == dw.scalar_type()) {
    overwrite ? at::mm_out(dw, dy.t(), x) : at::addmm_out(dw, dw, dy.t(), x);
  } else if (dy.is_cuda()) {
    overwrite ? at::mm_out(dw, dy.t(), x, at::kFloat) : at::addmm_out(dw, dw, dy.t(), x, at::kFloat);
  } else {
    const at::Tensor product = at::mm(dy.t(), x);
    overwrite ? dw.copy_(product) : dw.add_(product);
  }
  if (dbias.defined()) dbias.add_(dy.sum(0, false, at::kFloat));
}

void fill_normal(const at::Tensor& view, int64_t first, uint64_t seed, double deviation) {
  normal(view.data_ptr(), dtype_of(view), view.numel(), first, {uint32_t(seed), uint32_t(seed >> 32)},
         static_cast<float>(deviation), stream_of(view));
}

void add_product_(at::Tensor sum, const at::Tensor& a, const at::Tensor& b, double scale) {
  const PhaseScope phase(Phase::kGemm, sum.device());
  at::addmm_out(sum, sum, a, b, 1, scale);
}

at::Tensor lora_dropout(const at::Tensor& x, const LoraDropout& options) {
  const at::Tensor from = x.contiguous();
  at::Tensor out = at::empty_like(from), rows;
  if (options.rows != nullptr) rows = upload(*options.rows, x.device());
  dropout(out.data_ptr(), from.const_data_ptr(), dtype_of(x), from.size(0), from.size(1),
          {.keep = static_cast<float>(1.0 - options.probability),
           .key = {uint32_t(options.key), uint32_t(options.key >> 32)},
           .site = options.site,
           .first_row = options.first_row,
           .pack_rows = rows.defined() ? rows.const_data_ptr<int64_t>() : nullptr},
          stream_of(x));
  return out;
}

TokenLogprobs token_logprobs(const at::Tensor& hidden, const at::Tensor& head,
                             const std::vector<Target>& targets, const std::vector<int64_t>& starts,
                             int64_t chunk_rows) {
  const auto tokens = tokens_of(targets);
  const at::Tensor device_starts = beside(hidden, starts.data(), starts.size());
  const at::Tensor device_tokens = beside(hidden, tokens.data(), tokens.size());
  const auto floats = hidden.options().dtype(at::kFloat);
  at::Tensor lse = at::empty({hidden.size(0)}, floats);
  at::Tensor logprobs = at::empty({static_cast<int64_t>(targets.size())}, floats);
  for_chunks(hidden, head, chunk_rows, [&](int64_t begin, const at::Tensor& logits) {
    lse_and_gather(lse.data_ptr<float>() + begin, logprobs.data_ptr<float>(), logits.const_data_ptr<float>(),
                   logits.size(0), logits.size(1), device_starts.const_data_ptr<int64_t>() + begin,
                   device_tokens.const_data_ptr<int32_t>(), stream_of(hidden));
  });
  return {on_host<float>(logprobs), on_host<float>(lse)};
}

at::Tensor token_logprobs_backward(const at::Tensor& hidden, const at::Tensor& head,
                                   const std::vector<Target>& targets, const std::vector<int64_t>& starts,
                                   const std::vector<float>& weights, const std::vector<float>& lse,
                                   at::Tensor d_head, int64_t chunk_rows, bool overwrite) {
  const auto tokens = tokens_of(targets);
  const at::Tensor device_starts = beside(hidden, starts.data(), starts.size());
  const at::Tensor device_tokens = beside(hidden, tokens.data(), tokens.size());
  const at::Tensor device_weights = beside(hidden, weights.data(), weights.size());
  const at::Tensor device_lse = beside(hidden, lse.data(), lse.size());
  at::Tensor d_hidden = at::empty_like(hidden);
  for_chunks(hidden, head, chunk_rows, [&](int64_t begin, const at::Tensor& logits) {
    dlogits(logits.data_ptr<float>(), dtype_of(hidden), logits.size(0), logits.size(1),
            device_lse.const_data_ptr<float>() + begin, device_starts.const_data_ptr<int64_t>() + begin,
            device_tokens.const_data_ptr<int32_t>(), device_weights.const_data_ptr<float>(),
            stream_of(hidden));
    const at::Tensor gradient = logits.view(hidden.scalar_type()).narrow(1, 0, head.size(0));
    d_hidden.narrow(0, begin, logits.size(0)).copy_(linear_backward_input(gradient, head));
    if (d_head.defined()) {
      linear_backward_weight(gradient, hidden.narrow(0, begin, logits.size(0)), d_head, {},
                             overwrite && begin == 0);
    }
  });
  return d_hidden;
}

}  // namespace cream::gpu
