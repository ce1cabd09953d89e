#include "ops/adamw.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "ops/dispatch.h"
#include "ops/gpu.h"
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

}  // namespace

double squared_norm(const at::Tensor& gradient) {
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

int64_t adamw_(const at::Tensor& weights, const at::Tensor& master, const at::Tensor& gradient,
               const at::Tensor& m, const at::Tensor& v, const AdamWUpdate& update) {
  const int64_t size = weights.numel();
  for (const auto& tensor : {master, gradient, m, v}) {
    TORCH_CHECK_VALUE(tensor.scalar_type() == at::kFloat && tensor.numel() == size && tensor.is_contiguous(),
                      "adamw: master, gradient and moments must be float32 [", size, "], got ",
                      tensor.scalar_type(), " ", tensor.sizes());
  }
  if (gpu::active(weights)) return gpu::adamw_(weights, master, gradient, m, v, update);
  const Factors factors(update);
  const auto decayed = static_cast<float>(1 - update.learning_rate * update.weight_decay);
  std::vector<int64_t> moved(static_cast<size_t>(num_blocks(size)));
  with_dtype(weights.scalar_type(), "adamw", [&](auto zero) {
    using T = decltype(zero);
    T* w = weights.data_ptr<T>();
    float* exact = master.data_ptr<float>();
    float* g = gradient.data_ptr<float>();
    float* means = m.data_ptr<float>();
    float* squares = v.data_ptr<float>();
    at::parallel_for(0, num_blocks(size), 1, [&](int64_t from, int64_t to) {
      for (int64_t b = from; b < to; ++b) {
        const int64_t begin = b * kBlock, end = std::min(size, begin + kBlock);
        const int64_t middle = std::clamp(update.decay_size, begin, end);
        const auto range = [&](int64_t i, int64_t j, float keep) {
          return update_range(w + i, exact + i, g + i, means + i, squares + i, j - i, keep, factors);
        };
        moved[static_cast<size_t>(b)] = range(begin, middle, decayed) + range(middle, end, 1.0f);
      }
    });
  });
  return std::accumulate(moved.begin(), moved.end(), int64_t{0});
}

}  // namespace cream
