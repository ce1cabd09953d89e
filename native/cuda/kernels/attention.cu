#include <initializer_list>
#include <stdexcept>

#include "cuda/kernels/attention.h"
#include "cuda/kernels/common.cuh"

namespace cream::gpu {

namespace {

constexpr int kWarps = kThreads / kLanes;
constexpr int kPerLane = static_cast<int>(kMaxHeadDim) / kLanes;
constexpr int kMax = static_cast<int>(kMaxHeadDim);

// What a warp works on: a row of queries (or keys) of one head.
struct Place {
  int64_t row;
  int head;
  __device__ static Place of(int64_t heads) {
    const int64_t item = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kLanes;
    return {item / heads, static_cast<int>(item % heads)};
  }
};

// The sequence that holds a row: the last start that is not beyond it.
__device__ __forceinline__ int64_t sequence_of(const int32_t* starts, int64_t sequences, int64_t row) {
  int64_t low = 0, high = sequences;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (starts[middle] <= row ? low : high) = middle;
  }
  return low;
}

// One sequence. Query i sees the keys [first_key(i), i + shift].
struct Sequence {
  int64_t query, key;    // first rows
  int64_t count, shift;  // queries, and keys more than queries
  int64_t window;

  __device__ Sequence(const VarlenShape& s, int64_t index)
      : query(s.query_starts[index]),
        key(s.key_starts[index]),
        count(s.query_starts[index + 1] - query),
        shift(s.key_starts[index + 1] - key - count),
        window(s.window) {}
  __device__ int64_t first_key(int64_t i) const {
    const int64_t first = i + shift + 1 - window;
    return window == 0 || first < 0 ? 0 : first;
  }
  // Key j is seen by the queries [first_query(j), end_query(j)).
  __device__ int64_t first_query(int64_t j) const { return j > shift ? j - shift : 0; }
  __device__ int64_t end_query(int64_t j) const {
    return window == 0 || j - shift + window > count ? count : j - shift + window;
  }
};

// A head's vector as float32, shared by a warp.
template <typename T>
__device__ __forceinline__ void stage(float* to, const T* from, int dim, int lane) {
  for (int d = lane; d < dim; d += kLanes) to[d] = as_float(from[d]);
}

template <typename T>
__device__ __forceinline__ float dot(const float* a, const T* b, int dim) {
  float sum = 0;
  for (int d = 0; d < dim; ++d) sum = fmaf(a[d], as_float(b[d]), sum);
  return sum;
}

// acc[i] += factor * column lane + 32 i of a vector.
template <typename T>
__device__ __forceinline__ void add(float (&acc)[kPerLane], float factor, const T* x, int dim, int lane) {
  for (int i = 0; i < kPerLane; ++i) {
    const int d = lane + i * kLanes;
    if (d < dim) acc[i] = fmaf(factor, as_float(x[d]), acc[i]);
  }
}

template <typename T>
__device__ __forceinline__ void put(T* to, const float (&acc)[kPerLane], float factor, int dim, int lane) {
  for (int i = 0; i < kPerLane; ++i) {
    const int d = lane + i * kLanes;
    if (d < dim) to[d] = rounded<T>(acc[i] * factor);
  }
}

// A warp takes one query of one head; its lanes take keys for the scores and columns for the output.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(T* out, float* lse, const T* q, const T* k, const T* v, VarlenShape s) {
  __shared__ float queries[kWarps][kMax];
  __shared__ float probabilities[kWarps][kLanes];
  const int warp = threadIdx.x / kLanes, lane = threadIdx.x % kLanes, dim = static_cast<int>(s.head_dim);
  const Place at = Place::of(s.heads);
  if (at.row >= s.queries) return;
  const Sequence sequence(s, sequence_of(s.query_starts, s.sequences, at.row));
  const int64_t i = at.row - sequence.query, end = i + sequence.shift + 1;
  const int64_t kv_column = at.head / (s.heads / s.kv_heads) * s.head_dim;
  stage(queries[warp], q + at.row * s.q_stride + at.head * s.head_dim, dim, lane);
  __syncwarp();

  float top = -INFINITY, sum = 0, acc[kPerLane] = {};
  for (int64_t first = sequence.first_key(i); first < end; first += kLanes) {
    const int64_t j = first + lane, row = (sequence.key + j) * s.kv_stride + kv_column;
    const float score = j < end ? dot(queries[warp], k + row, dim) * s.scale : -INFINITY;
    const float higher = fmaxf(top, warp_max(score));
    const float p = j < end ? expf(score - higher) : 0.0f, keep = expf(top - higher);
    sum = sum * keep + warp_sum(p);
    top = higher;
    probabilities[warp][lane] = p;
    __syncwarp();
    for (int c = 0; c < kPerLane; ++c) acc[c] *= keep;
    const int seen = end - first < kLanes ? static_cast<int>(end - first) : kLanes;
    for (int n = 0; n < seen; ++n) {
      add(acc, probabilities[warp][n], v + (sequence.key + first + n) * s.kv_stride + kv_column, dim, lane);
    }
    __syncwarp();
  }
  put(out + (at.row * s.heads + at.head) * s.head_dim, acc, 1.0f / sum, dim, lane);
  if (lane == 0) lse[at.head * s.queries + at.row] = top + logf(sum);
}

// dq, and delta = d_out . out of each query and head. A warp takes one query of one head.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    query_gradient_kernel(T* dq, float* delta, const T* d_out, const T* q, const T* k, const T* v,
                          const T* out, const float* lse, VarlenShape s) {
  __shared__ float queries[kWarps][kMax], d_outs[kWarps][kMax];
  __shared__ float d_scores[kWarps][kLanes];
  const int warp = threadIdx.x / kLanes, lane = threadIdx.x % kLanes, dim = static_cast<int>(s.head_dim);
  const Place at = Place::of(s.heads);
  if (at.row >= s.queries) return;
  const Sequence sequence(s, sequence_of(s.query_starts, s.sequences, at.row));
  const int64_t i = at.row - sequence.query, end = i + sequence.shift + 1;
  const int64_t kv_column = at.head / (s.heads / s.kv_heads) * s.head_dim;
  const int64_t mine = (at.row * s.heads + at.head) * s.head_dim;
  stage(queries[warp], q + at.row * s.q_stride + at.head * s.head_dim, dim, lane);
  stage(d_outs[warp], d_out + mine, dim, lane);
  __syncwarp();
  float product = 0;
  for (int d = lane; d < dim; d += kLanes) product = fmaf(d_outs[warp][d], as_float(out[mine + d]), product);
  const float correction = warp_sum(product), shift = lse[at.head * s.queries + at.row];

  float acc[kPerLane] = {};
  for (int64_t first = sequence.first_key(i); first < end; first += kLanes) {
    const int64_t j = first + lane, row = (sequence.key + j) * s.kv_stride + kv_column;
    float d_score = 0;
    if (j < end) {
      const float p = expf(dot(queries[warp], k + row, dim) * s.scale - shift);
      d_score = p * (dot(d_outs[warp], v + row, dim) - correction);
    }
    d_scores[warp][lane] = d_score;
    __syncwarp();
    const int seen = end - first < kLanes ? static_cast<int>(end - first) : kLanes;
    for (int n = 0; n < seen; ++n) {
      add(acc, d_scores[warp][n], k + (sequence.key + first + n) * s.kv_stride + kv_column, dim, lane);
    }
    __syncwarp();
  }
  put(dq + mine, acc, s.scale, dim, lane);
  if (lane == 0) delta[at.head * s.queries + at.row] = correction;
}

// A warp takes one key of one key/value head, and walks over the queries of all heads that see it.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    key_gradient_kernel(T* dk, T* dv, const T* d_out, const T* q, const T* k, const T* v, const float* lse,
                        const float* delta, VarlenShape s) {
  __shared__ float keys[kWarps][kMax], values[kWarps][kMax];
  __shared__ float probabilities[kWarps][kLanes], d_scores[kWarps][kLanes];
  const int warp = threadIdx.x / kLanes, lane = threadIdx.x % kLanes, dim = static_cast<int>(s.head_dim);
  const Place at = Place::of(s.kv_heads);
  if (at.row >= s.keys) return;
  const Sequence sequence(s, sequence_of(s.key_starts, s.sequences, at.row));
  const int64_t j = at.row - sequence.key, repeat = s.heads / s.kv_heads;
  const int64_t row = at.row * s.kv_stride + at.head * s.head_dim;
  stage(keys[warp], k + row, dim, lane);
  stage(values[warp], v + row, dim, lane);
  __syncwarp();

  float d_key[kPerLane] = {}, d_value[kPerLane] = {};
  const int64_t end = sequence.end_query(j);
  for (int64_t head = at.head * repeat; head < (at.head + 1) * repeat; ++head) {
    for (int64_t first = sequence.first_query(j); first < end; first += kLanes) {
      const int64_t i = first + lane, from = sequence.query + i;
      float p = 0, d_score = 0;
      if (i < end) {
        const int64_t scalar = head * s.queries + from;
        p = expf(dot(keys[warp], q + from * s.q_stride + head * s.head_dim, dim) * s.scale - lse[scalar]);
        const float d_p = dot(values[warp], d_out + (from * s.heads + head) * s.head_dim, dim);
        d_score = p * (d_p - delta[scalar]);
      }
      probabilities[warp][lane] = p;
      d_scores[warp][lane] = d_score;
      __syncwarp();
      const int seeing = end - first < kLanes ? static_cast<int>(end - first) : kLanes;
      for (int n = 0; n < seeing; ++n) {
        const int64_t query = sequence.query + first + n;
        add(d_key, d_scores[warp][n], q + query * s.q_stride + head * s.head_dim, dim, lane);
        add(d_value, probabilities[warp][n], d_out + (query * s.heads + head) * s.head_dim, dim, lane);
      }
      __syncwarp();
    }
  }
  const int64_t mine = (at.row * s.kv_heads + at.head) * s.head_dim;
  put(dk + mine, d_key, s.scale, dim, lane);
  put(dv + mine, d_value, 1.0f, dim, lane);
}

// A thread takes kSize columns of one row.
template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(T* out, const T* x, int64_t rows, int64_t stride, int64_t width, const int32_t* from_rows) {
  const int64_t per_row = width / kSize;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (item >= rows * per_row) return;
  const int64_t row = item / per_row, column = item % per_row * kSize;
  store(out + row * width + column, load<T, kSize>(x + from_rows[row] * stride + column));
}

template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads)
    join_kernel(T* d_qkv, const T* dq, const T* dk, const T* dv, int64_t rows, int64_t q_size,
                int64_t kv_size, const int32_t* copy_starts, const int32_t* copies) {
  const int64_t columns = q_size + 2 * kv_size, per_row = columns / kSize;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (item >= rows * per_row) return;
  const int64_t row = item / per_row, column = item % per_row * kSize;
  T* to = d_qkv + row * columns + column;
  if (column < q_size) {
    store(to, load<T, kSize>(dq + row * q_size + column));
    return;
  }
  const bool is_key = column < q_size + kv_size;
  const T* from = (is_key ? dk : dv) + (column - q_size - (is_key ? 0 : kv_size));
  float sums[kSize] = {};
  for (int32_t c = copy_starts[row]; c < copy_starts[row + 1]; ++c) {
    const auto part = load<T, kSize>(from + copies[c] * kv_size);
    for (int i = 0; i < kSize; ++i) sums[i] += as_float(part.at[i]);
  }
  Values<T, kSize> result;
  for (int i = 0; i < kSize; ++i) result.at[i] = rounded<T>(sums[i]);
  store(to, result);
}

void check(const VarlenShape& shape) {
  if (shape.head_dim > kMaxHeadDim) throw std::invalid_argument("attention: a head is wider than 256");
}

}  // namespace

void varlen_attention(void* out, float* lse, const void* q, const void* k, const void* v,
                      const VarlenShape& shape, Stream stream) {
  check(shape);
  with_access(shape.dtype, false, [&](auto zero, auto) {
    using T = decltype(zero);
    launch(&forward_kernel<T>, blocks_for(shape.queries * shape.heads, kWarps), kThreads, 0, stream,
           static_cast<T*>(out), lse, static_cast<const T*>(q), static_cast<const T*>(k),
           static_cast<const T*>(v), shape);
  });
}

void varlen_attention_backward(void* dq, void* dk, void* dv, float* delta, const void* d_out, const void* q,
                               const void* k, const void* v, const void* out, const float* lse,
                               const VarlenShape& shape, Stream stream) {
  check(shape);
  with_access(shape.dtype, false, [&](auto zero, auto) {
    using T = decltype(zero);
    const auto* queries = static_cast<const T*>(q);
    const auto *keys = static_cast<const T*>(k), *values = static_cast<const T*>(v);
    const auto* d = static_cast<const T*>(d_out);
    launch(&query_gradient_kernel<T>, blocks_for(shape.queries * shape.heads, kWarps), kThreads, 0, stream,
           static_cast<T*>(dq), delta, d, queries, keys, values, static_cast<const T*>(out), lse, shape);
    launch(&key_gradient_kernel<T>, blocks_for(shape.keys * shape.kv_heads, kWarps), kThreads, 0, stream,
           static_cast<T*>(dk), static_cast<T*>(dv), d, queries, keys, values, lse, delta, shape);
  });
}

void gather_rows(void* out, const void* x, Dtype dtype, int64_t rows, int64_t stride, int64_t width,
                 const int32_t* from_rows, Stream stream) {
  if (rows == 0) return;
  with_access(dtype, is_aligned({out, x}, {stride, width}, bytes_of(dtype)), [&](auto zero, auto access) {
    using T = decltype(zero);
    constexpr int kSize = decltype(access)::value;
    launch(&gather_kernel<T, kSize>, blocks_for(rows * (width / kSize), kThreads), kThreads, 0, stream,
           static_cast<T*>(out), static_cast<const T*>(x), rows, stride, width, from_rows);
  });
}

void join_qkv_gradient(void* d_qkv, const void* dq, const void* dk, const void* dv, Dtype dtype, int64_t rows,
                       int64_t q_size, int64_t kv_size, const int32_t* copy_starts, const int32_t* copies,
                       Stream stream) {
  const bool aligned = is_aligned({d_qkv, dq, dk, dv}, {q_size, kv_size}, bytes_of(dtype));
  with_access(dtype, aligned, [&](auto zero, auto access) {
    using T = decltype(zero);
    constexpr int kSize = decltype(access)::value;
    launch(&join_kernel<T, kSize>, blocks_for(rows * ((q_size + 2 * kv_size) / kSize), kThreads), kThreads, 0,
           stream, static_cast<T*>(d_qkv), static_cast<const T*>(dq), static_cast<const T*>(dk),
           static_cast<const T*>(dv), rows, q_size, kv_size, copy_starts, copies);
  });
}

}  // namespace cream::gpu
