// Causal attention over sequences laid end to end, in its plain form: what float32 models and head widths
// that the flash kernels lack run on, and the definition that the calls of those kernels are tested as.
#pragma once

#include <cstdint>

#include "cuda/types.h"

namespace cream::gpu {

constexpr int64_t kMaxHeadDim = 256;

// Sequence s has the queries [query_starts[s], query_starts[s + 1]) and the keys [key_starts[s],
// key_starts[s + 1]), at least as many. Its last query sees its last key, each query before it one key less
// (bottom-right causal), and with a window no key that is `window` or more before its own.
struct VarlenShape {
  Dtype dtype;
  int64_t queries, keys, sequences;  // rows in all, and how many sequences
  int64_t heads, kv_heads, head_dim;
  int64_t q_stride, kv_stride;  // elements from row to row; heads follow each other within a row
  int64_t window;               // 0 = none
  float scale;
  const int32_t* query_starts;
  const int32_t* key_starts;
};

//   q [queries, heads, D], k and v [keys, kv_heads, D] by their strides; out [queries, heads, D] contiguous
//   lse [heads, queries]: natural log-sum-exp of the scaled scores
void varlen_attention(void* out, float* lse, const void* q, const void* k, const void* v,
                      const VarlenShape& shape, Stream stream);

// Gradients for d_out, all contiguous; delta [heads, queries] is scratch memory. Every sum has one order.
void varlen_attention_backward(void* dq, void* dk, void* dv, float* delta, const void* d_out, const void* q,
                               const void* k, const void* v, const void* out, const float* lse,
                               const VarlenShape& shape, Stream stream);

// out [rows, width]: row r is row from_rows[r] of x [*, stride], its first width columns.
void gather_rows(void* out, const void* x, Dtype dtype, int64_t rows, int64_t stride, int64_t width,
                 const int32_t* from_rows, Stream stream);

// d_qkv [rows, q_size + 2 kv_size]: row r takes row r of dq, and the float32 sums of the rows
// copies[copy_starts[r]] ... copies[copy_starts[r + 1] - 1] of dk and of dv.
void join_qkv_gradient(void* d_qkv, const void* dq, const void* dk, const void* dv, Dtype dtype, int64_t rows,
                       int64_t q_size, int64_t kv_size, const int32_t* copy_starts, const int32_t* copies,
                       Stream stream);

}  // namespace cream::gpu
