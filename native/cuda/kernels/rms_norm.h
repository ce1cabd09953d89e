// RMSNorm of groups of `width` columns: group (r, h) of a matrix begins at column h * width of row r.
#pragma once

#include <cstdint>

#include "cuda/types.h"

namespace cream::gpu {

struct NormShape {
  Dtype dtype;
  int64_t rows, heads, width;  // heads = 1: whole rows
  double eps;
};

// y = rms_norm(x), or with `residual`: sum = residual + x, y = rms_norm(sum); residual and sum share x's
// stride. y may be x; sum may be residual.
void rms_norm(void* y, int64_t y_stride, const void* x, int64_t x_stride, const void* residual, void* sum,
              const void* weight, const NormShape& shape, Stream stream);

// Floats of scratch memory that rms_norm_backward needs.
int64_t rms_norm_scratch(const NormShape& shape);

// dx = gradient by x (+ add_to, which shares dx's stride), dw [width] float32 += gradient by the weight, in
// an order that depends on the shape alone. dx may be dy.
void rms_norm_backward(void* dx, int64_t dx_stride, const void* dy, int64_t dy_stride, const void* x,
                       int64_t x_stride, const void* weight, const void* add_to, float* dw, float* scratch,
                       const NormShape& shape, Stream stream);

}  // namespace cream::gpu
