// Float32 matrix products on the CPU, by the library that is fast there. Not timed by ops/phases.h: the
// callers are.
#pragma once

#include <ATen/core/Tensor.h>

namespace cream {

// a [M, K] times b [N, K] transposed, plus bias [N] where it is defined; all float32. Returns [M, N].
at::Tensor float_linear(const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias = {});

// The same into `out` [M, N], which may be a view with row stride >= N.
void float_linear_out(at::Tensor& out, const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias);

// sum [M, N] += a [M, K] times b [K, N]; all float32. sum may be a view with row stride >= N.
void add_float_product(const at::Tensor& sum, const at::Tensor& a, const at::Tensor& b);

}  // namespace cream
