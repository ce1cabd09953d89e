// Tiles of weight rows times input rows in float32, vectorised along K; every sum keeps its own lanes to the
// end, so its order is the same whatever the tile. Bfloat16 weights are widened in registers.
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "ops/linear_rows_kernels.h"
#include "ops/linear_rows_tiles.h"
#include "ops/simd.h"
#include "ops/vector_math.h"

namespace cream {

namespace {

#ifdef __AVX512F__
using Vector = Floats;
constexpr int kWeightRows = 4;
constexpr int kMaxRows = 6;  // 4 x 6 sums, 4 weights and 1 input fill the 32 registers of AVX-512
#else
typedef float Vector __attribute__((vector_size(32)));
typedef uint32_t VectorWords __attribute__((vector_size(32)));
typedef uint16_t VectorHalves __attribute__((vector_size(16)));
constexpr int kWeightRows = 4;
constexpr int kMaxRows = 2;  // 4 x 2 sums, 4 weights and 1 input of the 16 registers of AVX2
#endif
constexpr int64_t kWidth = sizeof(Vector) / sizeof(float);

#ifdef __AVX512F__
template <typename T>
Vector load_vector(const T* p) {
  return load16(p);
}
#else
Vector load_vector(const float* p) {
  Vector v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
Vector load_vector(const c10::BFloat16* p) {
  VectorHalves bits;
  std::memcpy(&bits, p, sizeof bits);
  return (Vector)(__builtin_convertvector(bits, VectorWords) << 16);
}
#endif

// The compiler must not see through it: it would multiply the few elements in another way, with other bits,
// in a tile of one shape than in a tile of another.
template <typename T>
Vector load_tail(const T* p, int64_t size) {
  T values[kWidth] = {};
  std::copy_n(p, size, values);
  Vector tail = load_vector(values);
  asm("" : "+m"(tail));
  return tail;
}

// Keeps the compiler from reading the same memory again for each multiply-add.
inline Vector in_register(Vector v) {
#ifdef __AVX512F__
  asm("" : "+v"(v));
#elif defined(__AVX__)
  asm("" : "+x"(v));
#endif
  return v;
}

// W and Out are float or c10::BFloat16.
template <typename W, typename Out>
struct Kernel {
  Out* out;
  const float* x;
  const W *w, *bias;
  int64_t n, k;

  // Rows [row, row + R) times weight rows [column, column + N). One cache line of weight row `ahead` is
  // fetched per step of the loop.
  template <int N, int R>
  void tile(int64_t row, int64_t column, int64_t ahead) const {
    Vector sums[R * N];
#pragma GCC unroll 32
    for (int s = 0; s < R * N; ++s) sums[s] = Vector{};
    const float* rows = x + row * k;
    const W* weights = w + column * k;
    const W* next = w + ahead * k;
    const int64_t whole = k / kWidth * kWidth;
    for (int64_t i = 0; i < whole; i += kWidth) {
      __builtin_prefetch(next + i, 0, 2);
      Vector factors[N];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) factors[n] = in_register(load_vector(weights + n * k + i));
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        const Vector value = in_register(load_vector(rows + r * k + i));
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) sums[r * N + n] += value * factors[n];
      }
    }
    if (whole < k) {
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        const Vector value = load_tail(rows + r * k + whole, k - whole);
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) sums[r * N + n] += value * load_tail(weights + n * k + whole, k - whole);
      }
    }
    std::array<Floats, 2 * kLanes> wide{};
#pragma GCC unroll 32
    for (int s = 0; s < R * N; ++s) std::memcpy(&wide[s], &sums[s], sizeof(Vector));
    write_sums<N, R>(*this, wide.data(), row, column);
  }
};

}  // namespace

void linear_rows_f32(float* out, const float* x, const float* w, const float* bias, int64_t r, int64_t n,
                     int64_t k) {
  run_tiles<kWeightRows, kMaxRows>(Kernel<float, float>{out, x, w, bias, n, k}, r, n, k);
}

template <typename Out>
void linear_rows_widened(Out* out, const c10::BFloat16* x, const c10::BFloat16* w, const c10::BFloat16* bias,
                         int64_t r, int64_t n, int64_t k) {
  std::vector<float> rows(static_cast<size_t>(r * k));
  std::transform(x, x + r * k, rows.begin(), [](c10::BFloat16 value) { return to_float(value); });
  run_tiles<kWeightRows, kMaxRows>(Kernel<c10::BFloat16, Out>{out, rows.data(), w, bias, n, k}, r, n, k);
}

template void linear_rows_widened(float*, const c10::BFloat16*, const c10::BFloat16*, const c10::BFloat16*,
                                  int64_t, int64_t, int64_t);
template void linear_rows_widened(c10::BFloat16*, const c10::BFloat16*, const c10::BFloat16*,
                                  const c10::BFloat16*, int64_t, int64_t, int64_t);

}  // namespace cream
