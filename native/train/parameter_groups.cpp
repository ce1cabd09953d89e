#include "train/parameter_groups.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>

namespace cream {

namespace {

void check(const RateFactors& factors) {
  for (const double factor : {factors.embeddings, factors.head, factors.norms, factors.layer_decay}) {
    TORCH_CHECK_VALUE(factor >= 0 && std::isfinite(factor),
                      "trainer: factors of the learning rate must be >= 0, got ", factor);
  }
}

// Tensors of a flat buffer with their factors, to ranges: a gap belongs to the tensor before it, and
// neighbours of one factor are one range.
class Ranges {
 public:
  Ranges(const at::Tensor& flat) : flat_(flat) {}

  void add(const at::Tensor& view, double factor) {
    if (view.defined()) starts_.push_back({view.storage_offset() - flat_.storage_offset(), 0, factor});
  }
  std::vector<ParameterRange> take() {
    std::sort(starts_.begin(), starts_.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
    std::vector<ParameterRange> ranges;
    for (const ParameterRange& start : starts_) {
      if (ranges.empty() || ranges.back().rate_factor != start.rate_factor) ranges.push_back(start);
    }
    for (size_t i = 0; i < ranges.size(); ++i) {
      const int64_t end = i + 1 < ranges.size() ? ranges[i + 1].begin : flat_.numel();
      ranges[i].size = end - ranges[i].begin;
    }
    return ranges;
  }

 private:
  const at::Tensor& flat_;
  std::vector<ParameterRange> starts_;
};

}  // namespace

std::vector<ParameterRange> parameter_ranges(const Weights& weights, const RateFactors& factors) {
  check(factors);
  const bool tied = weights.config.tie_word_embeddings;
  TORCH_CHECK_VALUE(
      !tied || factors.head == 1,
      "trainer: this model's head is its embedding (tie_word_embeddings), so its learning rate is that "
      "of the embeddings; remove the factor of the head, got ",
      factors.head);
  const auto num_layers = static_cast<double>(weights.layers.size());
  Ranges ranges(weights.flat);
  ranges.add(weights.embed, factors.embeddings * std::pow(factors.layer_decay, num_layers));
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    const double depth = std::pow(factors.layer_decay, num_layers - 1 - static_cast<double>(i));
    const LayerWeights& layer = weights.layers[i];
    for (const at::Tensor& matrix : {layer.qkv, layer.o, layer.gate_up, layer.down})
      ranges.add(matrix, depth);
    for (const at::Tensor& vector : {layer.attention_norm, layer.mlp_norm, layer.q_norm, layer.k_norm,
                                     layer.qkv_bias, layer.o_bias, layer.gate_up_bias, layer.down_bias}) {
      ranges.add(vector, depth * factors.norms);
    }
  }
  if (!tied) ranges.add(weights.head, factors.head);
  ranges.add(weights.final_norm, factors.norms);
  return ranges.take();
}

std::vector<ParameterRange> parameter_ranges(const Adapter& adapter, const RateFactors& factors) {
  check(factors);
  TORCH_CHECK_VALUE(
      factors.embeddings == 1 && factors.head == 1 && factors.norms == 1,
      "trainer: an adapter has no embeddings, head or norms; of the factors of the learning rate only "
      "that of the layers (layerDecay) has an effect");
  Ranges ranges(adapter.flat);
  for (size_t i = 0; i < adapter.layers.size(); ++i) {
    const double depth = std::pow(factors.layer_decay,
                                  static_cast<double>(adapter.layers.size()) - 1 - static_cast<double>(i));
    for (const LoraSite& site :
         {adapter.layers[i].qkv, adapter.layers[i].o, adapter.layers[i].gate_up, adapter.layers[i].down}) {
      ranges.add(site.a, depth);
      for (const LoraSite::Part& part : site.parts) ranges.add(part.b, depth);
    }
  }
  return ranges.take();
}

}  // namespace cream
