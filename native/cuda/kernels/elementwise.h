// RoPE, SwiGLU, the embedding's gradient, and random numbers: dropout, new weights.
#pragma once

#include <cstdint>

#include "cuda/types.h"

namespace cream::gpu {

// Rotates `heads` heads of head_dim columns in place, as cream::rope_.
//   x [rows, stride]; positions [rows]; table [positions, head_dim] float32: cosines, then sines
void rope(void* x, Dtype dtype, int64_t rows, int64_t stride, int64_t heads, int64_t head_dim,
          const int32_t* positions, const float* table, bool inverse, Stream stream);

// y [rows, width] = silu(gate) * up, for gate_up [rows, 2 width].
void swiglu(void* y, const void* gate_up, Dtype dtype, int64_t rows, int64_t width, Stream stream);

// As swiglu, and gate_up becomes its gradient for dy [rows, width].
void swiglu_backward(void* y, void* gate_up, const void* dy, Dtype dtype, int64_t rows, int64_t width,
                     Stream stream);

// d_embed [vocab, width]: row ids[u] += the rows order[starts[u]] ... order[starts[u + 1] - 1] of d [rows,
// width], in that order, in float32. The ids are distinct.
void embedding_gradient(void* d_embed, Dtype sum_dtype, const void* d, Dtype dtype, int64_t width,
                        int64_t num_ids, const int64_t* ids, const int64_t* starts, const int64_t* order,
                        Stream stream);

// x, thinned, as cream::lora_dropout; contiguous [rows, width]. Row r of x is row pack_rows[r] of the batch's
// rows after first_row, or row r where pack_rows is null.
struct Dropout {
  float keep;
  uint32_t key[2];
  uint32_t site;
  int64_t first_row;
  const int64_t* pack_rows;
};
void dropout(void* out, const void* x, Dtype dtype, int64_t rows, int64_t width, const Dropout& options,
             Stream stream);

// out[i] = deviation times the normal deviate of (key, first + i), as new weights have it on the CPU up to
// rounding.
void normal(void* out, Dtype dtype, int64_t size, int64_t first, const uint32_t (&key)[2], float deviation,
            Stream stream);

}  // namespace cream::gpu
