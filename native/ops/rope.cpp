#include "ops/rope.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include <cmath>

#include "ops/dispatch.h"
#include "ops/gpu.h"
#include "ops/phases.h"
#include "ops/vector_math.h"

namespace cream {

// Float32 steps in the order of transformers' modeling_rope_utils, so that angles agree bit for bit even at
// large positions; rounding an exact value once would differ from every published checkpoint's training.
std::vector<float> rope_inverse_frequencies(const ModelConfig& config) {
  std::vector<float> frequencies(config.head_dim / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.head_dim);
    float frequency = 1.0f / std::pow(static_cast<float>(config.rope_theta), exponent);
    const auto factor = static_cast<float>(config.rope_factor);
    if (config.rope_scaling == RopeScaling::kLinear) {
      frequency /= factor;
    } else if (config.rope_scaling == RopeScaling::kLlama3) {
      const auto low = static_cast<float>(config.rope_low_freq_factor);
      const auto high = static_cast<float>(config.rope_high_freq_factor);
      const auto context = static_cast<float>(config.rope_original_max_position_embeddings);
      const float wavelength = static_cast<float>(2 * M_PI) / frequency;
      if (wavelength > context / low) {
        frequency /= factor;
      } else if (wavelength >= context / high) {
        const float smooth = (context / wavelength - low) / (high - low);
        frequency = (1 - smooth) * frequency / factor + smooth * frequency;
      }
    }
    frequencies[i] = frequency;
  }
  return frequencies;
}

at::Tensor rope_table(const ModelConfig& config, int64_t num_positions) {
  const auto frequencies = rope_inverse_frequencies(config);
  const int64_t half = static_cast<int64_t>(frequencies.size());
  at::Tensor table = at::empty({num_positions, 2 * half}, at::kFloat);
  float* rows = table.data_ptr<float>();
  at::parallel_for(0, num_positions, row_grain(16 * half), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      for (int64_t i = 0; i < half; ++i) {
        const float angle = static_cast<float>(p) * frequencies[i];
        rows[p * 2 * half + i] = static_cast<float>(std::cos(static_cast<double>(angle)));
        rows[p * 2 * half + half + i] = static_cast<float>(std::sin(static_cast<double>(angle)));
      }
    }
  });
  return table;
}

void rope_(at::Tensor& x, int64_t heads, int64_t head_dim, const int32_t* positions, const at::Tensor& table,
           bool inverse) {
  const PhaseScope phase(Phase::kElementwise, x.device());
  TORCH_CHECK_VALUE(x.dim() == 2 && x.stride(1) == 1 && x.size(1) >= heads * head_dim,
                    "rope_: expected rows of at least ", heads * head_dim, " columns, got ", x.sizes());
  if (gpu::active(x)) return gpu::rope_(x, heads, head_dim, positions, table, inverse);
  const int64_t half = head_dim / 2;
  const float* angles = table.const_data_ptr<float>();
  with_dtype(x.scalar_type(), "rope_", [&](auto zero) {
    using T = decltype(zero);
    T* rows = x.data_ptr<T>();
    at::parallel_for(0, x.size(0), row_grain(heads * head_dim), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const float* cosines = angles + positions[r] * head_dim;
        const float* sines = cosines + half;
        for (int64_t h = 0; h < heads; ++h) {
          T* first = rows + r * x.stride(0) + h * head_dim;
          T* second = first + half;
#pragma omp simd
          for (int64_t i = 0; i < half; ++i) {
            const float a = to_float(first[i]);
            const float b = to_float(second[i]);
            const float s = inverse ? -sines[i] : sines[i];
            first[i] = from_float<T>(a * cosines[i] - b * s);
            second[i] = from_float<T>(b * cosines[i] + a * s);
          }
        }
      }
    });
  });
}

}  // namespace cream
