#include <algorithm>
#include <initializer_list>

#include "cuda/kernels/common.cuh"
#include "cuda/kernels/rms_norm.h"

namespace cream::gpu {

namespace {

constexpr int64_t kNarrow = 512;    // up to this width a warp takes a group, beyond it a block does
constexpr int64_t kMaxParts = 396;  // three blocks of the backward on each of 132 multiprocessors
constexpr int kColumnThreads = 64;  // of a block that adds parts: few, for there are few columns

// kWarps warps take one group; a block has kThreads threads.
template <int kWarps>
struct Grouping {
  static constexpr int kGroups = kThreads / kLanes / kWarps;
  static constexpr int kStep = kWarps * kLanes;
  __device__ static int group() { return kWarps == 1 ? threadIdx.x / kLanes : 0; }
  __device__ static int thread() { return threadIdx.x % kStep; }
};

// visit(n, c) for the columns c of this thread's n-th access. Up to kKept accesses, or any number where kKept
// is 0; then n stays 0.
template <int kKept, typename Visit>
__device__ __forceinline__ void each_access(int first, int step, int width, const Visit& visit) {
  if constexpr (kKept > 0) {
    for (int n = 0; n < kKept; ++n) {
      const int c = first + n * step;
      if (c < width) visit(n, c);
    }
  } else {
    for (int c = first; c < width; c += step) visit(0, c);
  }
}

// A thread's part of a row: in registers where its kKept accesses are known, else read from memory each time.
template <typename T, int kSize, int kKept>
struct Part {
  static constexpr int kAccesses = kKept > 0 ? kKept : 1;
  Values<T, kSize> values[kAccesses] = {};
  // Reads everything at once, so that no load waits for another.
  __device__ void fetch(const T* from, int first, int step, int width) {
    if constexpr (kKept > 0) {
      each_access<kKept>(first, step, width, [&](int n, int c) { values[n] = load<T, kSize>(from + c); });
    }
  }
  __device__ Values<T, kSize> at(int n, const T* from, int c) const {
    if constexpr (kKept > 0) return values[n];
    return load<T, kSize>(from + c);
  }
};

template <typename T, int kSize, int kWarps, int kKept>
__global__ void __launch_bounds__(kThreads)
    norm_kernel(T* y, int64_t y_stride, const T* x, int64_t x_stride, const T* residual, T* sum,
                const T* weight, int64_t groups, int heads, int width, float eps) {
  using Map = Grouping<kWarps>;
  const int64_t group = static_cast<int64_t>(blockIdx.x) * Map::kGroups + Map::group();
  if (group >= groups) return;
  const int64_t row = group / heads, column = group % heads * width, offset = row * x_stride + column;
  const T* in = x + offset;
  constexpr int kStep = Map::kStep * kSize;
  const int first = Map::thread() * kSize;

  Part<T, kSize, kKept> kept, weights;
  kept.fetch(in, first, kStep, width);
  float squares = 0;
  if (residual != nullptr) {
    Part<T, kSize, kKept> before;
    before.fetch(residual + offset, first, kStep, width);
    weights.fetch(weight, first, kStep, width);
    each_access<kKept>(first, kStep, width, [&](int n, int c) {
      auto a = before.at(n, residual + offset, c);
      const auto b = kept.at(n, in, c);
      for (int i = 0; i < kSize; ++i) {
        a.at[i] = rounded<T>(as_float(a.at[i]) + as_float(b.at[i]));
        squares += as_float(a.at[i]) * as_float(a.at[i]);
      }
      store(sum + offset + c, a);
      kept.values[n] = a;
    });
    in = sum + offset;  // each thread reads back what it wrote, unless it has kept it
  } else {
    weights.fetch(weight, first, kStep, width);
    each_access<kKept>(first, kStep, width, [&](int n, int c) {
      const auto a = kept.at(n, in, c);
      for (int i = 0; i < kSize; ++i) squares += as_float(a.at[i]) * as_float(a.at[i]);
    });
  }
  const float scale = rsqrtf(group_sum<kWarps>(squares) / static_cast<float>(width) + eps);
  T* out = y + row * y_stride + column;
  each_access<kKept>(first, kStep, width, [&](int n, int c) {
    auto a = kept.at(n, in, c);
    const auto w = weights.at(n, weight, c);
    for (int i = 0; i < kSize; ++i) a.at[i] = rounded<T>(as_float(a.at[i]) * scale * as_float(w.at[i]));
    store(out + c, a);
  });
}

// Each block walks over its groups and keeps its part of dw in shared memory, where a thread owns its
// columns.
template <typename T, int kSize, int kWarps, int kKept>
__global__ void __launch_bounds__(kThreads)
    norm_backward_kernel(T* dx, int64_t dx_stride, const T* dy, int64_t dy_stride, const T* x,
                         int64_t x_stride, const T* weight, const T* add_to, float* parts, int64_t groups,
                         int heads, int width, float eps) {
  using Map = Grouping<kWarps>;
  CREAM_DYNAMIC_SHARED(float, shared);
  float* dw = shared + Map::group() * width;
  constexpr int kStep = Map::kStep * kSize;
  const int first = Map::thread() * kSize;
  for (int c = first; c < width; c += kStep) {
    for (int i = 0; i < kSize; ++i) dw[c + i] = 0;
  }
  Part<T, kSize, kKept> weights;
  weights.fetch(weight, first, kStep, width);
  const int64_t walkers = static_cast<int64_t>(gridDim.x) * Map::kGroups;
  const int64_t walker = static_cast<int64_t>(blockIdx.x) * Map::kGroups + Map::group();
  for (int64_t group = walker; group < groups; group += walkers) {
    const int64_t row = group / heads, column = group % heads * width;
    const T* in = x + row * x_stride + column;
    const T* grad = dy + row * dy_stride + column;
    const T* base = add_to == nullptr ? nullptr : add_to + row * dx_stride + column;
    Part<T, kSize, kKept> values, gradients, bases;
    values.fetch(in, first, kStep, width);
    gradients.fetch(grad, first, kStep, width);
    if (base != nullptr) bases.fetch(base, first, kStep, width);
    float squares = 0, dot = 0;
    each_access<kKept>(first, kStep, width, [&](int n, int c) {
      const auto a = values.at(n, in, c);
      const auto g = gradients.at(n, grad, c);
      const auto w = weights.at(n, weight, c);
      for (int i = 0; i < kSize; ++i) {
        squares += as_float(a.at[i]) * as_float(a.at[i]);
        dot += as_float(g.at[i]) * as_float(w.at[i]) * as_float(a.at[i]);
      }
    });
    const float scale = rsqrtf(group_sum<kWarps>(squares) / static_cast<float>(width) + eps);
    const float mean = group_sum<kWarps>(dot) * scale / static_cast<float>(width);
    T* out = dx + row * dx_stride + column;
    each_access<kKept>(first, kStep, width, [&](int n, int c) {
      const auto a = values.at(n, in, c);
      auto g = gradients.at(n, grad, c);
      const auto w = weights.at(n, weight, c);
      const auto added = base == nullptr ? Values<T, kSize>{} : bases.at(n, base, c);
      for (int i = 0; i < kSize; ++i) {
        const float normed = as_float(a.at[i]) * scale;
        const float d = as_float(g.at[i]);
        dw[c + i] += d * normed;
        g.at[i] = rounded<T>(as_float(added.at[i]) + (d * as_float(w.at[i]) - normed * mean) * scale);
      }
      store(out + c, g);
    });
  }
  for (int c = first; c < width; c += kStep) {
    for (int i = 0; i < kSize; ++i) parts[walker * width + c + i] = dw[c + i];
  }
}

__global__ void __launch_bounds__(kColumnThreads)
    add_parts_kernel(float* dw, const float* parts, int num_parts, int width) {
  constexpr int kLoads = 16;  // in flight at a time; the sum keeps the order of the parts
  const int c = static_cast<int>(blockIdx.x) * kColumnThreads + static_cast<int>(threadIdx.x);
  if (c >= width) return;
  float sum = 0;
  for (int first = 0; first < num_parts; first += kLoads) {
    float x[kLoads];
    for (int n = 0; n < kLoads; ++n) {
      x[n] = first + n < num_parts ? parts[static_cast<int64_t>(first + n) * width + c] : 0.0f;
    }
    for (int n = 0; n < kLoads; ++n) sum += x[n];
  }
  dw[c] += sum;
}

int64_t groups_per_block(const NormShape& shape) { return shape.width <= kNarrow ? kThreads / kLanes : 1; }

int64_t backward_blocks(const NormShape& shape) {
  return std::min<int64_t>(kMaxParts, blocks_for(shape.rows * shape.heads, groups_per_block(shape)));
}

// body(a value of the type, Constant<elements per access>, Constant<warps per group>, Constant<accesses that
// a thread keeps in registers>); the last is 0 where a thread has more than kMostKept elements of a row.
template <int kMostKept, typename Body>
void with_norm(const NormShape& shape, bool aligned, const Body& body) {
  with_access(shape.dtype, aligned, [&](auto zero, auto size) {
    const auto with_kept = [&](auto warps) {
      constexpr int kSize = decltype(size)::value;
      if constexpr (kSize > 1) {
        const int64_t step = decltype(warps)::value * kLanes * kSize;
        const int64_t accesses = (shape.width + step - 1) / step;
        if (accesses == 1) return body(zero, size, warps, Constant<1>{});
        if (accesses == 2) return body(zero, size, warps, Constant<2>{});
        if constexpr (4 * kSize <= kMostKept) {
          if (accesses <= 4) return body(zero, size, warps, Constant<4>{});
        }
      }
      body(zero, size, warps, Constant<0>{});
    };
    shape.width <= kNarrow ? with_kept(Constant<1>{}) : with_kept(Constant<kThreads / kLanes>{});
  });
}

}  // namespace

void rms_norm(void* y, int64_t y_stride, const void* x, int64_t x_stride, const void* residual, void* sum,
              const void* weight, const NormShape& shape, Stream stream) {
  const int64_t groups = shape.rows * shape.heads;
  if (groups == 0) return;
  const bool aligned =
      is_aligned({y, x, residual, sum, weight}, {y_stride, x_stride, shape.width}, bytes_of(shape.dtype));
  with_norm<32>(shape, aligned, [&](auto zero, auto size, auto warps, auto kept) {
    using T = decltype(zero);
    launch(&norm_kernel<T, decltype(size)::value, decltype(warps)::value, decltype(kept)::value>,
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
  with_norm<16>(shape, aligned, [&](auto zero, auto size, auto warps, auto kept) {
    using T = decltype(zero);
    launch(&norm_backward_kernel<T, decltype(size)::value, decltype(warps)::value, decltype(kept)::value>,
           static_cast<unsigned>(blocks), kThreads,
           static_cast<size_t>(groups_per_block(shape) * shape.width) * sizeof(float), stream,
           static_cast<T*>(dx), dx_stride, static_cast<const T*>(dy), dy_stride, static_cast<const T*>(x),
           x_stride, static_cast<const T*>(weight), static_cast<const T*>(add_to), scratch, groups,
           static_cast<int>(shape.heads), static_cast<int>(shape.width), static_cast<float>(shape.eps));
  });
  launch(&add_parts_kernel, blocks_for(shape.width, kColumnThreads), kColumnThreads, 0, stream, dw, scratch,
         static_cast<int>(parts), static_cast<int>(shape.width));
}

}  // namespace cream::gpu
