#include <algorithm>
#include <initializer_list>

#include "cuda/kernels/common.cuh"
#include "cuda/kernels/rms_norm.h"

namespace cream::gpu {

namespace {

constexpr int64_t kNarrow = 512;  // up to this width a warp takes a group, beyond it a block does
constexpr int64_t kMaxParts = 264;

// kWarps warps take one group; a block has kThreads threads.
template <int kWarps>
struct Grouping {
  static constexpr int kGroups = kThreads / kLanes / kWarps;
  static constexpr int kStep = kWarps * kLanes;
  __device__ static int group() { return kWarps == 1 ? threadIdx.x / kLanes : 0; }
  __device__ static int thread() { return threadIdx.x % kStep; }
};

template <typename T, int kSize, int kWarps>
__global__ void __launch_bounds__(kThreads)
    norm_kernel(T* y, int64_t y_stride, const T* x, int64_t x_stride, const T* residual, T* sum,
                const T* weight, int64_t groups, int heads, int width, float eps) {
  using Map = Grouping<kWarps>;
  const int64_t group = static_cast<int64_t>(blockIdx.x) * Map::kGroups + Map::group();
  if (group >= groups) return;
  const int64_t row = group / heads, column = group % heads * width;
  const T* in = x + row * x_stride + column;
  const int first = Map::thread() * kSize;

  float squares = 0;
  if (residual != nullptr) {
    const int64_t offset = row * x_stride + column;
    for (int c = first; c < width; c += Map::kStep * kSize) {
      auto a = load<T, kSize>(residual + offset + c);
      const auto b = load<T, kSize>(in + c);
      for (int i = 0; i < kSize; ++i) {
        a.at[i] = rounded<T>(as_float(a.at[i]) + as_float(b.at[i]));
        squares += as_float(a.at[i]) * as_float(a.at[i]);
      }
      store(sum + offset + c, a);
    }
    in = sum + offset;  // each thread reads back what it wrote
  } else {
    for (int c = first; c < width; c += Map::kStep * kSize) {
      const auto a = load<T, kSize>(in + c);
      for (int i = 0; i < kSize; ++i) squares += as_float(a.at[i]) * as_float(a.at[i]);
    }
  }
  const float scale = rsqrtf(group_sum<kWarps>(squares) / static_cast<float>(width) + eps);
  T* out = y + row * y_stride + column;
  for (int c = first; c < width; c += Map::kStep * kSize) {
    auto a = load<T, kSize>(in + c);
    const auto w = load<T, kSize>(weight + c);
    for (int i = 0; i < kSize; ++i) a.at[i] = rounded<T>(as_float(a.at[i]) * scale * as_float(w.at[i]));
    store(out + c, a);
  }
}

// Each block walks over its groups and keeps its part of dw in shared memory, where a thread owns its
// columns.
template <typename T, int kSize, int kWarps>
__global__ void __launch_bounds__(kThreads)
    norm_backward_kernel(T* dx, int64_t dx_stride, const T* dy, int64_t dy_stride, const T* x,
                         int64_t x_stride, const T* weight, const T* add_to, float* parts, int64_t groups,
                         int heads, int width, float eps) {
  using Map = Grouping<kWarps>;
  CREAM_DYNAMIC_SHARED(float, shared);
  float* dw = shared + Map::group() * width;
  const int first = Map::thread() * kSize;
  for (int c = first; c < width; c += Map::kStep * kSize) {
    for (int i = 0; i < kSize; ++i) dw[c + i] = 0;
  }
  const int64_t walkers = static_cast<int64_t>(gridDim.x) * Map::kGroups;
  const int64_t walker = static_cast<int64_t>(blockIdx.x) * Map::kGroups + Map::group();
  for (int64_t group = walker; group < groups; group += walkers) {
    const int64_t row = group / heads, column = group % heads * width;
    const T* in = x + row * x_stride + column;
    const T* grad = dy + row * dy_stride + column;
    float squares = 0, dot = 0;
    for (int c = first; c < width; c += Map::kStep * kSize) {
      const auto a = load<T, kSize>(in + c);
      const auto g = load<T, kSize>(grad + c);
      const auto w = load<T, kSize>(weight + c);
      for (int i = 0; i < kSize; ++i) {
        squares += as_float(a.at[i]) * as_float(a.at[i]);
        dot += as_float(g.at[i]) * as_float(w.at[i]) * as_float(a.at[i]);
      }
    }
    const float scale = rsqrtf(group_sum<kWarps>(squares) / static_cast<float>(width) + eps);
    const float mean = group_sum<kWarps>(dot) * scale / static_cast<float>(width);
    T* out = dx + row * dx_stride + column;
    for (int c = first; c < width; c += Map::kStep * kSize) {
      const auto a = load<T, kSize>(in + c);
      auto g = load<T, kSize>(grad + c);
      const auto w = load<T, kSize>(weight + c);
      Values<T, kSize> base{};
      if (add_to != nullptr) base = load<T, kSize>(add_to + row * dx_stride + column + c);
      for (int i = 0; i < kSize; ++i) {
        const float normed = as_float(a.at[i]) * scale;
        const float d = as_float(g.at[i]);
        dw[c + i] += d * normed;
        g.at[i] = rounded<T>(as_float(base.at[i]) + (d * as_float(w.at[i]) - normed * mean) * scale);
      }
      store(out + c, g);
    }
  }
  for (int c = first; c < width; c += Map::kStep * kSize) {
    for (int i = 0; i < kSize; ++i) parts[walker * width + c + i] = dw[c + i];
  }
}

__global__ void __launch_bounds__(kThreads)
    add_parts_kernel(float* dw, const float* parts, int num_parts, int width) {
  const int c = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (c >= width) return;
  float sum = 0;
  for (int p = 0; p < num_parts; ++p) sum += parts[static_cast<int64_t>(p) * width + c];
  dw[c] += sum;
}

int64_t groups_per_block(const NormShape& shape) { return shape.width <= kNarrow ? kThreads / kLanes : 1; }

int64_t backward_blocks(const NormShape& shape) {
  return std::min<int64_t>(kMaxParts, blocks_for(shape.rows * shape.heads, groups_per_block(shape)));
}

// body(a value of the type, Constant<elements per access>, Constant<warps per group>)
template <typename Body>
void with_norm(const NormShape& shape, bool aligned, const Body& body) {
  with_access(shape.dtype, aligned, [&](auto zero, auto size) {
    shape.width <= kNarrow ? body(zero, size, Constant<1>{})
                           : body(zero, size, Constant<kThreads / kLanes>{});
  });
}

}  // namespace

void rms_norm(void* y, int64_t y_stride, const void* x, int64_t x_stride, const void* residual, void* sum,
              const void* weight, const NormShape& shape, Stream stream) {
  const int64_t groups = shape.rows * shape.heads;
  if (groups == 0) return;
  const bool aligned =
      is_aligned({y, x, residual, sum, weight}, {y_stride, x_stride, shape.width}, bytes_of(shape.dtype));
  with_norm(shape, aligned, [&](auto zero, auto size, auto warps) {
    using T = decltype(zero);
    launch(&norm_kernel<T, decltype(size)::value, decltype(warps)::value>,
           blocks_for(groups, groups_per_block(shape)), kThreads, 0, stream, static_cast<T*>(y), y_stride,
           static_cast<const T*>(x), x_stride, static_cast<const T*>(residual), static_cast<T*>(sum),
           static_cast<const T*>(weight), groups, static_cast<int>(shape.heads),
           static_cast<int>(shape.width), static_cast<float>(shape.eps));
  });
}

int64_t rms_norm_scratch(const NormShape& shape) {
  return backward_blocks(shape) * groups_per_block(shape) * shape.width;
}

void rms_norm_backward(void* dx, int64_t dx_stride, const void* dy, int64_t dy_stride, const void* x,
                       int64_t x_stride, const void* weight, const void* add_to, float* dw, float* scratch,
                       const NormShape& shape, Stream stream) {
  const int64_t groups = shape.rows * shape.heads;
  if (groups == 0) return;
  const bool aligned = is_aligned({dx, dy, x, weight, add_to}, {dx_stride, dy_stride, x_stride, shape.width},
                                  bytes_of(shape.dtype));
  const int64_t blocks = backward_blocks(shape), parts = blocks * groups_per_block(shape);
  with_norm(shape, aligned, [&](auto zero, auto size, auto warps) {
    using T = decltype(zero);
    launch(&norm_backward_kernel<T, decltype(size)::value, decltype(warps)::value>,
           static_cast<unsigned>(blocks), kThreads,
           static_cast<size_t>(groups_per_block(shape) * shape.width) * sizeof(float), stream,
           static_cast<T*>(dx), dx_stride, static_cast<const T*>(dy), dy_stride, static_cast<const T*>(x),
           x_stride, static_cast<const T*>(weight), static_cast<const T*>(add_to), scratch, groups,
           static_cast<int>(shape.heads), static_cast<int>(shape.width), static_cast<float>(shape.eps));
  });
  launch(&add_parts_kernel, blocks_for(shape.width, kThreads), kThreads, 0, stream, dw, scratch,
         static_cast<int>(parts), static_cast<int>(shape.width));
}

}  // namespace cream::gpu
