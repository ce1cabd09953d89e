#include "ops/adamw.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "ops/dispatch.h"
#include "ops/gpu.h"
#include "ops/phases.h"
#include "ops/stochastic_rounding.h"
#include "ops/vector_math.h"

namespace cream {

namespace {

constexpr int64_t kBlock = 1 << 16;

int64_t num_blocks(int64_t size) { return (size + kBlock - 1) / kBlock; }

double block_squared_norm(const float* g, int64_t size) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; ++i) sum += static_cast<double>(g[i]) * static_cast<double>(g[i]);
  return sum;
}

// The scalars of one update, as PyTorch forms them.
struct Factors {
  float beta1, beta2, one_minus_beta1, one_minus_beta2, step_size, root_correction, epsilon, gradient_scale;

  explicit Factors(const AdamWUpdate& update)
      : beta1(static_cast<float>(update.beta1)),
        beta2(static_cast<float>(update.beta2)),
        one_minus_beta1(static_cast<float>(1 - update.beta1)),
        one_minus_beta2(static_cast<float>(1 - update.beta2)),
        epsilon(static_cast<float>(update.epsilon)),
        gradient_scale(static_cast<float>(update.gradient_scale)) {
    const auto step = static_cast<double>(update.step);
    step_size = static_cast<float>(update.learning_rate / (1 - std::pow(update.beta1, step)));
    root_correction = static_cast<float>(1 / std::sqrt(1 - std::pow(update.beta2, step)));
  }
};

template <typename T>
int64_t update_range(T* weights, float* master, float* gradient, float* m, float* v, int64_t size, float keep,
                     const Factors& f) {
  int32_t moved = 0;
#pragma omp simd reduction(+ : moved)
  for (int64_t i = 0; i < size; ++i) {
    const float g = gradient[i] * f.gradient_scale;
    const float mean = f.beta1 * m[i] + f.one_minus_beta1 * g;
    const float square = f.beta2 * v[i] + f.one_minus_beta2 * (g * g);
    const float before = to_float(weights[i]);
    const float exact =
        master[i] * keep - f.step_size * mean / (std::sqrt(square) * f.root_correction + f.epsilon);
    // The rounded value stays a float: a local of a class type keeps the loop from being vectorised.
    const float after = to_float(from_float<T>(exact));
    m[i] = mean;
    v[i] = square;
    gradient[i] = 0;
    master[i] = exact;
    weights[i] = from_float<T>(exact);
    moved += after != before;
  }
  return moved;
}

// The same with bfloat16 moments, whose rounding takes random numbers in blocks of four elements.
template <typename T>
int64_t update_range(T* weights, float* master, float* gradient, c10::BFloat16* m, c10::BFloat16* v,
                     int64_t size, float keep, const Factors& f, int64_t first, const AdamWUpdate& update) {
  int64_t moved = 0;
  std::array<uint32_t, 4> noise{};
  for (int64_t i = 0; i < size; ++i) {
    const int64_t element = first + i;
    if (i == 0 || element % 4 == 0) {
      noise =
          moment_noise(static_cast<uint64_t>(element / 4), static_cast<uint32_t>(update.step), update.seed);
    }
    const uint32_t word = noise[static_cast<size_t>(element % 4)];
    const float g = gradient[i] * f.gradient_scale;
    const float mean = f.beta1 * to_float(m[i]) + f.one_minus_beta1 * g;
    const float square = f.beta2 * to_float(v[i]) + f.one_minus_beta2 * (g * g);
    const float before = to_float(weights[i]);
    const float exact =
        master[i] * keep - f.step_size * mean / (std::sqrt(square) * f.root_correction + f.epsilon);
    m[i].x = stochastic_bfloat16(mean, word & 0xFFFF);
    v[i].x = stochastic_bfloat16(square, word >> 16);
    gradient[i] = 0;
    master[i] = exact;
    weights[i] = from_float<T>(exact);
    moved += to_float(weights[i]) != before;
  }
  return moved;
}

void check(const AdamWTensors& tensors) {
  const int64_t size = tensors.weights.numel();
  const bool whole = tensors.master.defined();
  TORCH_CHECK_VALUE(whole != tensors.low.defined(), "adamw: the master is whole or split, not both");
  const auto fits = [&](const at::Tensor& x) { return x.numel() == size && x.is_contiguous(); };
  const auto floating = [](const at::Tensor& x) {
    return x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  };
  for (const at::Tensor& x : {tensors.gradient, tensors.m, tensors.v}) {
    TORCH_CHECK_VALUE(fits(x) && floating(x), "adamw: gradient and moments must be float32 or bfloat16 [",
                      size, "], got ", x.scalar_type(), " ", x.sizes());
  }
  TORCH_CHECK_VALUE(!whole || (fits(tensors.master) && tensors.master.scalar_type() == at::kFloat),
                    "adamw: the master must be float32 [", size, "]");
  TORCH_CHECK_VALUE(whole || (fits(tensors.low) && tensors.low.scalar_type() == at::kShort &&
                              tensors.weights.scalar_type() == at::kBFloat16),
                    "adamw: a split master is bfloat16 and int16 of one size");
  TORCH_CHECK_VALUE(tensors.m.scalar_type() == tensors.v.scalar_type(), "adamw: moments have one dtype");
}

constexpr int64_t kPiece = int64_t{1} << 24;

// body(begin, size) for pieces of a large tensor, so that temporaries stay small.
template <typename Body>
void for_pieces(int64_t size, const Body& body) {
  for (int64_t begin = 0; begin < size; begin += kPiece) body(begin, std::min(kPiece, size - begin));
}

}  // namespace

AdamWTensors AdamWTensors::range(int64_t begin, int64_t size) const {
  const auto part = [&](const at::Tensor& x) { return x.defined() ? x.narrow(0, begin, size) : x; };
  return {part(weights), part(master), part(low), part(gradient), part(m), part(v)};
}

void split_master(const at::Tensor& master, at::Tensor weights, at::Tensor low) {
  for_pieces(master.numel(), [&](int64_t begin, int64_t size) {
    const at::Tensor bits = master.narrow(0, begin, size).view(at::kInt);
    const auto high = (bits + 0x8000).bitwise_right_shift(16).to(at::kShort).view(at::kBFloat16);
    weights.narrow(0, begin, size).copy_(high);
    low.narrow(0, begin, size).copy_(bits.to(at::kShort));
  });
}

at::Tensor joined_master(const at::Tensor& weights, const at::Tensor& low) {
  at::Tensor master = at::empty({weights.numel()}, at::kFloat);
  for_pieces(weights.numel(), [&](int64_t begin, int64_t size) {
    const auto bits_of = [&](const at::Tensor& x) {
      return x.narrow(0, begin, size).to(at::kCPU).view(at::kShort).to(at::kInt).bitwise_and(0xFFFF);
    };
    const at::Tensor rest = bits_of(low);
    // The high half is the weight's, less one where the low half carried into it.
    const at::Tensor high = bits_of(weights) - rest.bitwise_right_shift(15);
    master.narrow(0, begin, size).view(at::kInt).copy_(high.bitwise_left_shift(16).bitwise_or(rest));
  });
  return master;
}

double squared_norm(const at::Tensor& gradient) {
  const PhaseScope phase(Phase::kOptimizer, gradient.device());
  if (gpu::active(gradient)) return gpu::squared_norm(gradient);
  const float* g = gradient.const_data_ptr<float>();
  const int64_t size = gradient.numel();
  std::vector<double> sums(static_cast<size_t>(num_blocks(size)));
  at::parallel_for(0, num_blocks(size), 1, [&](int64_t from, int64_t to) {
    for (int64_t b = from; b < to; ++b) {
      sums[static_cast<size_t>(b)] = block_squared_norm(g + b * kBlock, std::min(kBlock, size - b * kBlock));
    }
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

int64_t adamw_(const AdamWTensors& tensors, const AdamWUpdate& update) {
  const PhaseScope phase(Phase::kOptimizer, tensors.gradient.device());
  check(tensors);
  if (gpu::active(tensors.weights)) return gpu::adamw_(tensors, update);
  TORCH_CHECK_VALUE(tensors.master.defined() && tensors.gradient.scalar_type() == at::kFloat,
                    "adamw: split masters and bfloat16 gradients are for GPUs only");
  const int64_t size = tensors.weights.numel();
  const Factors factors(update);
  const auto decayed = static_cast<float>(1 - update.learning_rate * update.weight_decay);
  std::vector<int64_t> moved(static_cast<size_t>(num_blocks(size)));
  const auto run = [&](auto* w, auto* means, auto* squares) {
    float* exact = tensors.master.data_ptr<float>();
    float* g = tensors.gradient.data_ptr<float>();
    at::parallel_for(0, num_blocks(size), 1, [&](int64_t from, int64_t to) {
      for (int64_t b = from; b < to; ++b) {
        const int64_t begin = b * kBlock, end = std::min(size, begin + kBlock);
        const int64_t middle = std::clamp(update.decay_size, begin, end);
        const auto range = [&](int64_t i, int64_t j, float keep) -> int64_t {
          if constexpr (std::is_same_v<decltype(means), float*>) {
            return update_range(w + i, exact + i, g + i, means + i, squares + i, j - i, keep, factors);
          } else {
            return update_range(w + i, exact + i, g + i, means + i, squares + i, j - i, keep, factors,
                                update.first + i, update);
          }
        };
        moved[static_cast<size_t>(b)] = range(begin, middle, decayed) + range(middle, end, 1.0f);
      }
    });
  };
  with_dtype(tensors.weights.scalar_type(), "adamw", [&](auto zero) {
    auto* w = tensors.weights.data_ptr<decltype(zero)>();
    with_dtype(tensors.m.scalar_type(), "adamw", [&](auto moment) {
      using Moment = decltype(moment);
      run(w, tensors.m.data_ptr<Moment>(), tensors.v.data_ptr<Moment>());
    });
  });
  return std::accumulate(moved.begin(), moved.end(), int64_t{0});
}

}  // namespace cream
