#include "ops/widened_products.h"

#include <ATen/Functions.h>

#include <algorithm>

#include "ops/float_products.h"

namespace cream {

namespace {

// A widened block of weights: 4 MiB, which stays in the caches between its widening and its product.
constexpr int64_t kBlockFloats = 1 << 20;

at::Tensor widen(const at::Tensor& x) { return x.to(at::kFloat); }

// Calls body(first, count) for stretches of `size` rows or columns whose other extent is `width`.
template <typename Body>
void for_blocks(int64_t size, int64_t width, const Body& body) {
  const int64_t block = std::max<int64_t>(64, kBlockFloats / std::max<int64_t>(1, width));
  for (int64_t first = 0; first < size; first += block) body(first, std::min(block, size - first));
}

}  // namespace

void widened_linear_out(const at::Tensor& out, const at::Tensor& x, const at::Tensor& w,
                        const at::Tensor& bias) {
  const at::Tensor rows = widen(x);
  for_blocks(w.size(0), w.size(1), [&](int64_t first, int64_t count) {
    const at::Tensor offset = bias.defined() ? widen(bias.narrow(0, first, count)) : at::Tensor();
    out.narrow(1, first, count).copy_(float_linear(rows, widen(w.narrow(0, first, count)), offset));
  });
}

at::Tensor widened_backward_input(const at::Tensor& dy, const at::Tensor& w) {
  const at::Tensor sum = at::zeros({dy.size(0), w.size(1)}, at::kFloat);
  for_blocks(w.size(0), w.size(1), [&](int64_t first, int64_t count) {
    add_float_product(sum, widen(dy.narrow(1, first, count)), widen(w.narrow(0, first, count)));
  });
  return sum.to(dy.scalar_type());
}

void widened_backward_weight(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& dw) {
  const at::Tensor rows = widen(x);
  for_blocks(dw.size(0), dy.size(0), [&](int64_t first, int64_t count) {
    add_float_product(dw.narrow(0, first, count), widen(dy.narrow(1, first, count)).t(), rows);
  });
}

}  // namespace cream
