#include <algorithm>
#include <initializer_list>

#include "cuda/kernels/common.cuh"
#include "cuda/kernels/elementwise.h"
#include "cuda/kernels/random.cuh"

namespace cream::gpu {

namespace {

__device__ __forceinline__ int64_t item_of_thread() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads)
    rope_kernel(T* x, int64_t rows, int64_t stride, int heads, int half, const int32_t* positions,
                const float* table, float sign) {
  const int per_head = half / kSize;
  const int per_row = per_head * heads;
  const int64_t item = item_of_thread();
  if (item >= rows * per_row) return;
  const int64_t row = item / per_row;
  const int rest = static_cast<int>(item % per_row), head = rest / per_head, i0 = rest % per_head * kSize;
  T* first = x + row * stride + static_cast<int64_t>(head) * 2 * half + i0;
  const float* cosines = table + static_cast<int64_t>(positions[row]) * 2 * half + i0;
  auto a = load<T, kSize>(first);
  auto b = load<T, kSize>(first + half);
  for (int i = 0; i < kSize; ++i) {
    const float c = cosines[i], s = sign * cosines[half + i];
    const float p = as_float(a.at[i]), q = as_float(b.at[i]);
    a.at[i] = rounded<T>(p * c - q * s);
    b.at[i] = rounded<T>(q * c + p * s);
  }
  store(first, a);
  store(first + half, b);
}

__device__ __forceinline__ float sigmoid_of(float x) { return 1.0f / (1.0f + expf(-x)); }

template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads)
    swiglu_kernel(T* y, const T* gate_up, int64_t rows, int64_t width) {
  const int64_t item = item_of_thread(), per_row = width / kSize;
  if (item >= rows * per_row) return;
  const int64_t row = item / per_row, column = item % per_row * kSize;
  const T* from = gate_up + row * 2 * width + column;
  auto gate = load<T, kSize>(from);
  const auto up = load<T, kSize>(from + width);
  for (int i = 0; i < kSize; ++i) {
    const float g = as_float(gate.at[i]);
    gate.at[i] = rounded<T>(g * sigmoid_of(g) * as_float(up.at[i]));
  }
  store(y + row * width + column, gate);
}

template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads)
    swiglu_backward_kernel(T* y, T* gate_up, const T* dy, int64_t rows, int64_t width) {
  const int64_t item = item_of_thread(), per_row = width / kSize;
  if (item >= rows * per_row) return;
  const int64_t row = item / per_row, column = item % per_row * kSize;
  T* at = gate_up + row * 2 * width + column;
  auto gate = load<T, kSize>(at);
  auto up = load<T, kSize>(at + width);
  auto d = load<T, kSize>(dy + row * width + column);
  for (int i = 0; i < kSize; ++i) {
    const float g = as_float(gate.at[i]), u = as_float(up.at[i]), dv = as_float(d.at[i]);
    const float s = sigmoid_of(g), silu = g * s;
    d.at[i] = rounded<T>(silu * u);
    gate.at[i] = rounded<T>(dv * u * (s + silu * (1.0f - s)));
    up.at[i] = rounded<T>(dv * silu);
  }
  store(y + row * width + column, d);
  store(at, gate);
  store(at + width, up);
}

// A block takes one id; a thread owns columns, so that no two threads add to one sum.
template <typename Sum, typename T>
__global__ void __launch_bounds__(kThreads)
    embedding_gradient_kernel(Sum* d_embed, const T* d, int64_t width, const int64_t* ids,
                              const int64_t* starts, const int64_t* order) {
  const int64_t begin = starts[blockIdx.x], end = starts[blockIdx.x + 1];
  Sum* to = d_embed + ids[blockIdx.x] * width;
  for (int64_t c = threadIdx.x; c < width; c += blockDim.x) {
    float sum = as_float(to[c]);
    for (int64_t i = begin; i < end; ++i) sum += as_float(d[order[i] * width + c]);
    to[c] = rounded<Sum>(sum);
  }
}

// A thread takes the four columns that share one block of random bits.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    dropout_kernel(T* out, const T* x, int64_t rows, int64_t width, Dropout o) {
  const int64_t item = item_of_thread(), per_row = (width + 3) / 4;
  if (item >= rows * per_row) return;
  const int64_t row = item / per_row, block = item % per_row;
  const auto drawn = static_cast<uint64_t>(o.first_row + (o.pack_rows == nullptr ? row : o.pack_rows[row]));
  const Bits4 bits = random_bits({{static_cast<uint32_t>(block), static_cast<uint32_t>(drawn),
                                   static_cast<uint32_t>(drawn >> 32), o.site}},
                                 o.key[0], o.key[1]);
  for (int i = 0; i < 4 && block * 4 + i < width; ++i) {
    const int64_t at = row * width + block * 4 + i;
    out[at] = rounded<T>(uniform_of(bits.at[i]) < o.keep ? as_float(x[at]) / o.keep : 0.0f);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    normal_kernel(T* out, int64_t size, int64_t first, uint32_t key0, uint32_t key1, float deviation) {
  const int64_t stride = int64_t{kThreads} * gridDim.x;
  for (int64_t i = item_of_thread(); i < size; i += stride) {
    const auto index = static_cast<uint64_t>(first + i);
    const Bits4 bits = random_bits(
        {{static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), 0x1217, 0}}, key0, key1);
    const float radius = sqrtf(-2.0f * logf(uniform_of(bits.at[0])));
    out[i] = rounded<T>(deviation * radius * cosf(6.2831853071795865f * uniform_of(bits.at[1])));
  }
}

}  // namespace

void rope(void* x, Dtype dtype, int64_t rows, int64_t stride, int64_t heads, int64_t head_dim,
          const int32_t* positions, const float* table, bool inverse, Stream stream) {
  if (rows == 0) return;
  const bool aligned = is_aligned({x}, {stride, head_dim / 2}, bytes_of(dtype));
  with_access(dtype, aligned, [&](auto zero, auto size) {
    using T = decltype(zero);
    constexpr int kSize = decltype(size)::value;
    launch(&rope_kernel<T, kSize>, blocks_for(rows * heads * (head_dim / 2 / kSize), kThreads), kThreads, 0,
           stream, static_cast<T*>(x), rows, stride, static_cast<int>(heads), static_cast<int>(head_dim / 2),
           positions, table, inverse ? -1.0f : 1.0f);
  });
}

void swiglu(void* y, const void* gate_up, Dtype dtype, int64_t rows, int64_t width, Stream stream) {
  if (rows == 0) return;
  with_access(dtype, is_aligned({y, gate_up}, {width}, bytes_of(dtype)), [&](auto zero, auto size) {
    using T = decltype(zero);
    constexpr int kSize = decltype(size)::value;
    launch(&swiglu_kernel<T, kSize>, blocks_for(rows * (width / kSize), kThreads), kThreads, 0, stream,
           static_cast<T*>(y), static_cast<const T*>(gate_up), rows, width);
  });
}

void swiglu_backward(void* y, void* gate_up, const void* dy, Dtype dtype, int64_t rows, int64_t width,
                     Stream stream) {
  if (rows == 0) return;
  with_access(dtype, is_aligned({y, gate_up, dy}, {width}, bytes_of(dtype)), [&](auto zero, auto size) {
    using T = decltype(zero);
    constexpr int kSize = decltype(size)::value;
    launch(&swiglu_backward_kernel<T, kSize>, blocks_for(rows * (width / kSize), kThreads), kThreads, 0,
           stream, static_cast<T*>(y), static_cast<T*>(gate_up), static_cast<const T*>(dy), rows, width);
  });
}

void embedding_gradient(void* d_embed, Dtype sum_dtype, const void* d, Dtype dtype, int64_t width,
                        int64_t num_ids, const int64_t* ids, const int64_t* starts, const int64_t* order,
                        Stream stream) {
  if (num_ids == 0) return;
  with_access(sum_dtype, false, [&](auto zero_sum, auto) {
    with_access(dtype, false, [&](auto zero, auto) {
      using Sum = decltype(zero_sum);
      using T = decltype(zero);
      launch(&embedding_gradient_kernel<Sum, T>, static_cast<unsigned>(num_ids), kThreads, 0, stream,
             static_cast<Sum*>(d_embed), static_cast<const T*>(d), width, ids, starts, order);
    });
  });
}

void dropout(void* out, const void* x, Dtype dtype, int64_t rows, int64_t width, const Dropout& options,
             Stream stream) {
  if (rows == 0) return;
  with_access(dtype, false, [&](auto zero, auto) {
    using T = decltype(zero);
    launch(&dropout_kernel<T>, blocks_for(rows * ((width + 3) / 4), kThreads), kThreads, 0, stream,
           static_cast<T*>(out), static_cast<const T*>(x), rows, width, options);
  });
}

void normal(void* out, Dtype dtype, int64_t size, int64_t first, const uint32_t (&key)[2], float deviation,
            Stream stream) {
  if (size == 0) return;
  constexpr int64_t kMostBlocks = 1 << 16;
  const int64_t blocks = std::min((size + kThreads - 1) / kThreads, kMostBlocks);
  with_access(dtype, false, [&](auto zero, auto) {
    using T = decltype(zero);
    launch(&normal_kernel<T>, static_cast<unsigned>(blocks), kThreads, 0, stream, static_cast<T*>(out), size,
           first, key[0], key[1], deviation);
  });
}

}  // namespace cream::gpu
