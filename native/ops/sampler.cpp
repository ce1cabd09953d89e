#include "ops/sampler.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>

#include "ops/dispatch.h"
#include "ops/phases.h"
#include "ops/simd.h"
#include "ops/top_cut.h"

namespace cream {

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kBlock = 16 * kLanes;  // summed in float32; blocks are summed in float64

struct Scratch {
  std::vector<float> logits, weights, cut;
  std::vector<double> block_masses;
};

// Copies a row as float32, padded with -inf to a multiple of 16, and returns its maximum; NaN if there is
// one.
template <typename T>
float read_row(const T* row, int64_t vocab, std::vector<float>& logits) {
  const int64_t whole = vocab / kLanes * kLanes;
  logits.resize((vocab + kLanes - 1) / kLanes * kLanes);
  Floats best = splat(-kInfinity);
  Ints nan{};
  const auto take = [&](const T* from, float* to) {
    const Floats x = load16(from);
    store16(to, x);
    best = max16(x, best);
    nan |= x != x;
  };
  for (int64_t i = 0; i < whole; i += kLanes) take(row + i, logits.data() + i);
  if (whole < vocab) {
    T tail[kLanes];
    std::fill_n(tail, kLanes, T(-kInfinity));
    std::copy(row + whole, row + vocab, tail);
    take(tail, logits.data() + whole);
  }
  return any_lane(nan) ? std::numeric_limits<float>::quiet_NaN() : max_lanes(best);
}

// Sum of exp(logit - max). With `inverse_temperature`, also fills weights with exp((logit - max) /
// temperature) and returns their sum in `mass`.
double sum_exponentials(Scratch& scratch, float max, float inverse_temperature, double* mass) {
  const int64_t size = static_cast<int64_t>(scratch.logits.size());
  const float* logits = scratch.logits.data();
  if (mass != nullptr) scratch.weights.resize(size);
  double sum = 0, tempered_sum = 0;
  for (int64_t begin = 0; begin < size; begin += kBlock) {
    const int64_t end = std::min(size, begin + kBlock);
    Floats block{}, tempered_block{};
    for (int64_t i = begin; i < end; i += kLanes) {
      const Floats shifted = load16(logits + i) - max;
      const Floats plain = exp16_nonpositive(shifted);
      block += plain;
      if (mass == nullptr) continue;
      const Floats weight =
          inverse_temperature == 1.0f ? plain : exp16_nonpositive(shifted * inverse_temperature);
      store16(scratch.weights.data() + i, weight);
      tempered_block += weight;
    }
    sum += double(sum_lanes(block));
    tempered_sum += double(sum_lanes(tempered_block));
  }
  if (mass != nullptr) *mass = tempered_sum;
  return sum;
}

// Sets the weight of every token outside the cut to 0 and returns the mass that is left.
double apply_cut(Scratch& scratch, const Cut& cut) {
  const int64_t size = static_cast<int64_t>(scratch.logits.size());
  const float* logits = scratch.logits.data();
  float* weights = scratch.weights.data();
  int64_t ties = cut.ties;
  double mass = 0;
  for (int64_t begin = 0; begin < size; begin += kBlock) {
    const int64_t end = std::min(size, begin + kBlock);
    Floats block{};
    for (int64_t i = begin; i < end; i += kLanes) {
      const Floats x = load16(logits + i);
      Ints kept = x > cut.value;
      const Ints equal = x == cut.value;
      if (ties > 0 && any_lane(equal)) {
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          if (equal[lane] != 0 && ties > 0) {
            kept[lane] = -1;
            --ties;
          }
        }
      }
      const Floats weight = kept ? load16(weights + i) : Floats{};
      store16(weights + i, weight);
      block += weight;
    }
    mass += double(sum_lanes(block));
  }
  return mass;
}

// Leaves only the tokens that top_k and then top_p keep.
void truncate(Scratch& scratch, double mass, int64_t vocab, const SamplerOptions& options) {
  const int64_t size = static_cast<int64_t>(scratch.logits.size());
  const float* logits = scratch.logits.data();
  if (options.top_k > 0 && options.top_k < vocab) {
    mass = apply_cut(scratch, find_cut(logits, nullptr, size, double(options.top_k), scratch.cut));
    if (options.top_p < 1.0f) {
      // Cut tokens leave the order altogether, so that ties at both cuts are counted once.
      for (int64_t i = 0; i < size; ++i) {
        if (scratch.weights[i] == 0.0f) scratch.logits[i] = -kInfinity;
      }
    }
  }
  if (options.top_p < 1.0f) {
    apply_cut(scratch,
              find_cut(logits, scratch.weights.data(), size, double(options.top_p) * mass, scratch.cut));
  }
}

// The first token at which the cumulative weight in id order exceeds uniform * total.
int64_t draw(Scratch& scratch, float uniform) {
  const int64_t size = static_cast<int64_t>(scratch.weights.size());
  const float* weights = scratch.weights.data();
  scratch.block_masses.clear();
  double total = 0;
  for (int64_t begin = 0; begin < size; begin += kBlock) {
    Floats block{};
    for (int64_t i = begin; i < std::min(size, begin + kBlock); i += kLanes) block += load16(weights + i);
    scratch.block_masses.push_back(sum_lanes(block));
    total += scratch.block_masses.back();
  }
  const double target = double(uniform) * total;
  // Rounding can leave the target unreached by a hair: then the last block, or token, that has mass is taken.
  double before = 0, passed = 0;
  int64_t chosen = 0;
  for (size_t b = 0; b < scratch.block_masses.size() && passed <= target; ++b) {
    if (scratch.block_masses[b] == 0.0) continue;
    chosen = static_cast<int64_t>(b) * kBlock;
    before = passed;
    passed += scratch.block_masses[b];
  }
  int64_t last = chosen;
  for (int64_t i = chosen; i < std::min(size, chosen + kBlock) && before <= target; ++i) {
    if (weights[i] == 0.0f) continue;
    last = i;
    before += double(weights[i]);
  }
  return last;
}

template <typename T>
bool sample_row(const T* row, int64_t vocab, float uniform, const SamplerOptions& options, Scratch& scratch,
                int32_t& id, float& logprob) {
  const float max = read_row(row, vocab, scratch.logits);
  if (!std::isfinite(max)) return false;
  int64_t choice = 0;
  double sum = 0;
  if (options.temperature == 0.0f) {
    sum = sum_exponentials(scratch, max, 0.0f, nullptr);
    choice = std::find(scratch.logits.begin(), scratch.logits.end(), max) - scratch.logits.begin();
  } else {
    double mass = 0;
    sum = sum_exponentials(scratch, max, 1.0f / options.temperature, &mass);
    truncate(scratch, mass, vocab, options);
    // The likeliest token has weight 1.
    if (options.min_p > 0.0f) {
      for (float& weight : scratch.weights) weight = weight < options.min_p ? 0.0f : weight;
    }
    choice = draw(scratch, uniform);
  }
  id = static_cast<int32_t>(choice);
  logprob = static_cast<float>(double(static_cast<float>(row[choice])) - double(max) - std::log(sum));
  return true;
}

}  // namespace

void check_sampler_options(const SamplerOptions& options) {
  TORCH_CHECK_VALUE(std::isfinite(options.temperature) && options.temperature >= 0.0f,
                    "temperature must be a number >= 0 (0 = greedy), got ", options.temperature);
  TORCH_CHECK_VALUE(options.top_p > 0.0f && options.top_p <= 1.0f, "topP must be in (0, 1], got ",
                    options.top_p);
  TORCH_CHECK_VALUE(options.top_k >= 0, "topK must be >= 0 (0 = off), got ", options.top_k);
  TORCH_CHECK_VALUE(options.min_p >= 0.0f && options.min_p <= 1.0f, "minP must be in [0, 1] (0 = off), got ",
                    options.min_p);
}

std::vector<float> logprobs_of(const at::Tensor& logits, const std::vector<int64_t>& rows,
                               const std::vector<int32_t>& ids) {
  const PhaseScope phase(Phase::kSampler, logits.device());
  const int64_t vocab = logits.size(1);
  std::vector<float> logprobs(rows.size());
  with_dtype(logits.scalar_type(), "sampler", [&](auto zero) {
    using T = decltype(zero);
    const T* values = logits.const_data_ptr<T>();
    at::parallel_for(0, static_cast<int64_t>(rows.size()), row_grain(vocab), [&](int64_t begin, int64_t end) {
      Scratch scratch;
      for (int64_t i = begin; i < end; ++i) {
        const T* row = values + rows[i] * vocab;
        const float max = read_row(row, vocab, scratch.logits);
        const double sum = sum_exponentials(scratch, max, 0.0f, nullptr);
        logprobs[i] =
            static_cast<float>(double(static_cast<float>(row[ids[i]])) - double(max) - std::log(sum));
      }
    });
  });
  return logprobs;
}

Sampled sample_rows(const at::Tensor& logits, const std::vector<int64_t>& rows,
                    const std::vector<float>& uniforms, const SamplerOptions& options) {
  const PhaseScope phase(Phase::kSampler, logits.device());
  TORCH_CHECK_VALUE(
      logits.dim() == 2 && logits.is_contiguous() && logits.size(1) > 0 && logits.device().is_cpu(),
      "sampler: logits must be a contiguous [B, V] on the CPU, got ", logits.sizes());
  TORCH_CHECK_VALUE(rows.size() == uniforms.size(), "sampler: ", uniforms.size(), " uniform numbers for ",
                    rows.size(), " draws");
  check_sampler_options(options);
  const int64_t vocab = logits.size(1);
  const int64_t draws = static_cast<int64_t>(rows.size());
  Sampled result{std::vector<int32_t>(draws), std::vector<float>(draws)};
  std::atomic<int64_t> bad_row{-1};
  with_dtype(logits.scalar_type(), "sampler", [&](auto zero) {
    using T = decltype(zero);
    const T* values = logits.const_data_ptr<T>();
    at::parallel_for(0, draws, row_grain(vocab), [&](int64_t begin, int64_t end) {
      Scratch scratch;
      for (int64_t i = begin; i < end; ++i) {
        if (!sample_row(values + rows[i] * vocab, vocab, uniforms[i], options, scratch, result.ids[i],
                        result.logprobs[i])) {
          bad_row = rows[i];
        }
      }
    });
  });
  TORCH_CHECK(bad_row < 0, "sampler: the logits of row ", bad_row.load(),
              " are not finite (NaN or infinite); the weights may have diverged");
  return result;
}

Sampled sample(const at::Tensor& logits, const std::vector<float>& uniforms, const SamplerOptions& options) {
  const PhaseScope phase(Phase::kSampler, logits.device());
  std::vector<int64_t> rows(logits.size(0));
  std::iota(rows.begin(), rows.end(), 0);
  return sample_rows(logits, rows, uniforms, options);
}

at::Tensor sampling_distribution_reference(const at::Tensor& logits, const SamplerOptions& options) {
  check_sampler_options(options);
  const auto values = logits.to(at::kDouble);
  const int64_t vocab = values.size(1);
  at::Tensor result = at::zeros_like(values);
  for (int64_t b = 0; b < values.size(0); ++b) {
    const double* row = values.const_data_ptr<double>() + b * vocab;
    double* probabilities = result.data_ptr<double>() + b * vocab;
    std::vector<int64_t> order(vocab);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t i, int64_t j) { return row[i] > row[j]; });
    if (options.temperature == 0.0f) {
      probabilities[order[0]] = 1.0;
      continue;
    }
    if (options.top_k > 0 && options.top_k < vocab) order.resize(options.top_k);
    const auto weight = [&](int64_t id) {
      return std::exp((row[id] - row[order[0]]) / double(options.temperature));
    };
    double total = 0;
    for (int64_t id : order) total += weight(id);
    double mass = 0;
    size_t kept = 0;
    while (kept < order.size() && (kept == 0 || mass < double(options.top_p) * total))
      mass += weight(order[kept++]);
    while (kept > 1 && weight(order[kept - 1]) < double(options.min_p)) mass -= weight(order[--kept]);
    for (size_t i = 0; i < kept; ++i) probabilities[order[i]] = weight(order[i]) / mass;
  }
  return result;
}

}  // namespace cream
