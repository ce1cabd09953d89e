#include <initializer_list>

#include "cuda/kernels/common.cuh"
#include "cuda/kernels/decode.h"

namespace cream::gpu {

namespace {

__device__ __forceinline__ bool is_live(const Slots& slots, int slot) {
  return slot >= 0 && slots.state[slot] == static_cast<int32_t>(SlotState::kLive);
}

__global__ void __launch_bounds__(kThreads)
    start_kernel(const SlotStart* starts, int64_t count, Slots slots) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const SlotStart start = starts[i];
  slots.state[start.slot] = static_cast<int32_t>(SlotState::kLive);
  slots.count[start.slot] = 0;
  slots.prompt_length[start.slot] = start.prompt_length;
  slots.limit[start.slot] = start.limit;
  slots.logprob_sum[start.slot] = 0;
  for (int k = 0; k < 3; ++k) slots.key[3 * start.slot + k] = start.key[k];
}

template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(T* x, const T* embed, int64_t width, const int32_t* row_slots, Slots slots) {
  const int64_t row = blockIdx.x;
  const int slot = row_slots[row];
  const bool live = is_live(slots, slot);
  const T* from = live ? embed + slots.token[slot] * width : embed;
  for (int64_t c = threadIdx.x * kSize; c < width; c += kThreads * kSize) {
    Values<T, kSize> values{};
    if (live) values = load<T, kSize>(from + c);
    store(x + row * width + c, values);
  }
}

// Where column c of the token at `place` lies among the token's columns.
template <typename T>
__device__ __forceinline__ int64_t swizzled(int64_t c, int64_t place, const KvMemory* memory) {
  constexpr int kChunk = 16 / sizeof(T);
  return (c / kChunk ^ (place & memory->swizzle)) * kChunk + c % kChunk;
}

// A thread takes kSize columns of both halves of one head: queries first, then keys, then values.
template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads)
    rope_store_kernel(T* qkv, int64_t rows, int heads, int kv_heads, int half, int64_t layer,
                      const float* table, const int32_t* row_slots, Slots slots, const KvMemory* memory) {
  const int per_head = half / kSize, per_row = (heads + 2 * kv_heads) * per_head;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (item >= rows * per_row) return;
  const int64_t row = item / per_row;
  const int rest = static_cast<int>(item % per_row), head = rest / per_head, i0 = rest % per_head * kSize;
  const int slot = row_slots[row];
  if (!is_live(slots, slot)) return;
  const int64_t own = slots.count[slot] - 1, position = slots.prompt_length[slot] + own;
  T* first = qkv + (row * (heads + 2 * kv_heads) + head) * 2 * half + i0;
  auto a = load<T, kSize>(first);
  auto b = load<T, kSize>(first + half);
  if (head < heads + kv_heads) {
    const float* cosines = table + position * 2 * half + i0;
    for (int i = 0; i < kSize; ++i) {
      const float c = cosines[i], s = cosines[half + i];
      const float p = as_float(a.at[i]), q = as_float(b.at[i]);
      a.at[i] = rounded<T>(p * c - q * s);
      b.at[i] = rounded<T>(q * c + p * s);
    }
  }
  T *to = first, *to_second = first + half;
  if (head >= heads) {
    const bool is_key = head < heads + kv_heads;
    const int kv_head = is_key ? head - heads : head - heads - kv_heads;
    const int64_t place = memory->arena_tokens + slot * memory->slot_tokens + own;
    T* token = static_cast<T*>(is_key ? memory->keys : memory->values) +
               ((layer * kv_heads + kv_head) * memory->tokens + place) * 2 * half;
    to = token + swizzled<T>(i0, place, memory);
    to_second = token + swizzled<T>(half + i0, place, memory);
  }
  store(to, a);
  store(to_second, b);
}

template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads)
    store_kernel(const T* k, const T* v, int64_t stride, int64_t rows, int kv_heads, int head_dim,
                 int64_t layer, const int32_t* places, const KvMemory* memory) {
  const int per_head = head_dim / kSize, per_row = kv_heads * per_head;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (item >= rows * per_row) return;
  const int64_t row = item / per_row;
  const int rest = static_cast<int>(item % per_row), head = rest / per_head, c = rest % per_head * kSize;
  const int64_t from = row * stride + head * head_dim + c;
  const int64_t place = places[row];
  const int64_t to =
      ((layer * kv_heads + head) * memory->tokens + place) * head_dim + swizzled<T>(c, place, memory);
  store(static_cast<T*>(memory->keys) + to, load<T, kSize>(k + from));
  store(static_cast<T*>(memory->values) + to, load<T, kSize>(v + from));
}

}  // namespace

void start_slots(const SlotStart* starts, int64_t count, const Slots& slots, Stream stream) {
  if (count == 0) return;
  launch(&start_kernel, blocks_for(count, kThreads), kThreads, 0, stream, starts, count, slots);
}

void gather_embeddings(void* x, const void* embed, Dtype dtype, int64_t rows, int64_t width,
                       const int32_t* row_slots, const Slots& slots, Stream stream) {
  if (rows == 0) return;
  with_access(dtype, is_aligned({x, embed}, {width}, bytes_of(dtype)), [&](auto zero, auto size) {
    using T = decltype(zero);
    launch(&gather_kernel<T, decltype(size)::value>, static_cast<unsigned>(rows), kThreads, 0, stream,
           static_cast<T*>(x), static_cast<const T*>(embed), width, row_slots, slots);
  });
}

// The arrays of keys and values begin at multiples of 16 bytes, so the shape alone decides the access.
void rope_and_store(void* qkv, const DecodeShape& shape, const float* table, const int32_t* row_slots,
                    const Slots& slots, const KvMemory* memory, Stream stream) {
  if (shape.rows == 0) return;
  const int64_t half = shape.head_dim / 2, heads = shape.num_heads + 2 * shape.num_kv_heads;
  with_access(shape.dtype, is_aligned({qkv}, {half}, bytes_of(shape.dtype)), [&](auto zero, auto size) {
    using T = decltype(zero);
    constexpr int kSize = decltype(size)::value;
    launch(&rope_store_kernel<T, kSize>, blocks_for(shape.rows * heads * (half / kSize), kThreads), kThreads,
           0, stream, static_cast<T*>(qkv), shape.rows, static_cast<int>(shape.num_heads),
           static_cast<int>(shape.num_kv_heads), static_cast<int>(half), shape.layer, table, row_slots, slots,
           memory);
  });
}

void store_keys_values(const void* k, const void* v, int64_t stride, const DecodeShape& shape,
                       const int32_t* places, const KvMemory* memory, Stream stream) {
  if (shape.rows == 0) return;
  const bool aligned = is_aligned({k, v}, {stride, shape.head_dim}, bytes_of(shape.dtype));
  with_access(shape.dtype, aligned, [&](auto zero, auto size) {
    using T = decltype(zero);
    constexpr int kSize = decltype(size)::value;
    const int64_t accesses = shape.rows * shape.num_kv_heads * (shape.head_dim / kSize);
    launch(&store_kernel<T, kSize>, blocks_for(accesses, kThreads), kThreads, 0, stream,
           static_cast<const T*>(k), static_cast<const T*>(v), stride, shape.rows,
           static_cast<int>(shape.num_kv_heads), static_cast<int>(shape.head_dim), shape.layer, places,
           memory);
  });
}

}  // namespace cream::gpu
