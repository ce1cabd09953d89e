#include "ops/top_cut.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/simd.h"

namespace cream {

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kBlock = 64 * kLanes;  // summed in float32; blocks are summed in float64

// What one pass over the candidates says about each side of a pivot.
struct Split {
  double mass_above = 0;
  int64_t count_above = 0;
  float lowest_above = kInfinity, highest_below = -kInfinity;
};

Split split(const float* logits, const float* weights, int64_t size, float pivot) {
  Split result;
  Floats lowest = splat(kInfinity), highest = splat(-kInfinity);
  for (int64_t begin = 0; begin < size; begin += kBlock) {
    const int64_t end = std::min(size, begin + kBlock);
    Floats mass{};
    Ints count{};
    for (int64_t i = begin; i < end; i += kLanes) {
      const Floats x = load16(logits + i);
      const Ints above = x > pivot;
      if (weights != nullptr) mass += above ? load16(weights + i) : Floats{};
      count -= above;
      lowest = min16(above ? x : splat(kInfinity), lowest);
      highest = max16(above ? splat(-kInfinity) : x, highest);
    }
    const int64_t above = static_cast<int64_t>(sum_lanes(__builtin_convertvector(count, Floats)));
    result.count_above += above;
    result.mass_above += weights != nullptr ? double(sum_lanes(mass)) : double(above);
  }
  result.lowest_above = min_lanes(lowest);
  result.highest_below = max_lanes(highest);
  return result;
}

// Moves the candidates on one side of the pivot to the front of `out` and pads them to 16. In place if out =
// in.
int64_t keep(const float* logits, const float* weights, int64_t size, float pivot, bool above,
             float* out_logits, float* out_weights) {
  int64_t count = 0;
  for (int64_t i = 0; i < size; i += kLanes) {
    const Floats x = load16(logits + i);
    const Ints mask = above ? x > pivot : (x <= pivot) & (x > -kInfinity);
    if (weights != nullptr) compress16(out_weights + count, load16(weights + i), mask);
    count += compress16(out_logits + count, x, mask);
  }
  const int64_t padded = (count + kLanes - 1) / kLanes * kLanes;
  for (int64_t i = count; i < padded; ++i) {
    out_logits[i] = -kInfinity;
    if (weights != nullptr) out_weights[i] = 0;
  }
  return padded;
}

}  // namespace

Cut find_cut(const float* logits, const float* weights, int64_t size, double target,
             std::vector<float>& scratch) {
  scratch.resize(2 * (size + kLanes));
  float* kept_logits = scratch.data();
  float* kept_weights = kept_logits + size + kLanes;

  // The cut lies in [lowest, highest]; `mass` is that of all tokens above the candidates.
  double mass = 0;
  Floats least = splat(kInfinity), most = splat(-kInfinity);
  for (int64_t i = 0; i < size; i += kLanes) {
    const Floats x = load16(logits + i);
    least = min16(x > -kInfinity ? x : splat(kInfinity), least);
    most = max16(x, most);
  }
  float lowest = min_lanes(least), highest = max_lanes(most);
  while (lowest < highest) {
    const float middle = 0.5f * lowest + 0.5f * highest;
    const float pivot = middle >= lowest && middle < highest ? middle : lowest;
    const Split parts = split(logits, weights, size, pivot);
    const bool above = mass + parts.mass_above >= target;
    if (above) {
      lowest = parts.lowest_above;
    } else {
      mass += parts.mass_above;
      highest = parts.highest_below;
    }
    size = keep(logits, weights, size, pivot, above, kept_logits, kept_weights);
    logits = kept_logits;
    if (weights != nullptr) weights = kept_weights;
  }

  const int64_t equal = std::count(logits, logits + size, highest);
  const double weight =
      weights != nullptr ? double(weights[std::find(logits, logits + size, highest) - logits]) : 1.0;
  const double missing = std::ceil((target - mass) / weight);
  return {highest, missing < double(equal) ? std::max<int64_t>(1, static_cast<int64_t>(missing)) : equal};
}

}  // namespace cream
