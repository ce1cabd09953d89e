#include "train/loss.h"

#include <algorithm>
#include <cmath>

namespace cream {

namespace {

// A loss and its derivative by the margin.
struct Margin {
  double loss, slope;
};

double sigmoid(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }

// C softplus(-u) + (1 - C) softplus(u), arranged so that nothing large cancels: exactly log 2 at u = 0.
Margin cream_loss(double u, double c) {
  return {std::log1p(std::exp(-std::abs(u))) + c * std::max(-u, 0.0) + (1 - c) * std::max(u, 0.0),
          (1 - c) * sigmoid(u) - c * sigmoid(-u)};
}

Margin hinge_loss(double u, double c) {
  return {c * std::max(0.0, 1 - u) + (1 - c) * std::max(0.0, 1 + u), (1 - c) * (u > -1) - c * (u < 1)};
}

Margin ipo_loss(double z, double c, double beta) {
  const double target = 1 / (2 * beta);
  return {c * (z - target) * (z - target) + (1 - c) * (z + target) * (z + target),
          2 * c * (z - target) + 2 * (1 - c) * (z + target)};
}

// With p = sigmoid(v), q = sigmoid(g): KL(p || q) + KL(q || p) = (p - q)(v - g), and the entropy of p.
Margin agreement_loss(double v, double g, const PreferenceOptions& options) {
  const double p = sigmoid(v), variance = p * sigmoid(-v);
  const double gap = p - sigmoid(g);
  const double entropy = std::log1p(std::exp(-std::abs(v))) + std::abs(v) * sigmoid(-std::abs(v));
  return {
      options.agreement_coefficient * gap * (v - g) + options.agreement_entropy * entropy,
      options.agreement_coefficient * (variance * (v - g) + gap) - options.agreement_entropy * variance * v};
}

}  // namespace

PairLoss preference_loss(const PairLogprobs& pair, double consistency, const PreferenceOptions& options) {
  const double beta = options.beta;
  const double chosen_ratio = pair.chosen - pair.reference_chosen;
  const double rejected_ratio = pair.rejected - pair.reference_rejected;

  const bool averaged = options.loss == PreferenceLoss::kIpo || options.loss == PreferenceLoss::kSigmoidNorm;
  const double chosen_scale = averaged ? 1.0 / static_cast<double>(pair.chosen_tokens) : 1.0;
  const double rejected_scale = averaged ? 1.0 / static_cast<double>(pair.rejected_tokens) : 1.0;
  const double z = chosen_ratio * chosen_scale - rejected_ratio * rejected_scale;

  double loss = 0, dz = 0;
  if (options.loss == PreferenceLoss::kIpo) {
    const Margin margin = ipo_loss(z, consistency, beta);
    loss = margin.loss;
    dz = margin.slope;
  } else {
    const double length_gap = static_cast<double>(pair.chosen_tokens - pair.rejected_tokens);
    const Margin margin = options.loss == PreferenceLoss::kHinge
                              ? hinge_loss(beta * z, consistency)
                              : cream_loss(beta * z + options.length_term * length_gap, consistency);
    loss = margin.loss;
    dz = margin.slope * beta;
  }

  // The judge compares whole responses, so this margin is of sums in every member of the family.
  Margin agreement{0, 0};
  if (options.agreement_coefficient > 0 || options.agreement_entropy > 0) {
    agreement = agreement_loss(beta * (chosen_ratio - rejected_ratio) + pair.implicit_margin,
                               pair.judge_margin, options);
  }
  const double d_agreement = beta * agreement.slope;

  const double sft_scale = options.sft_coefficient / static_cast<double>(pair.chosen_tokens);
  return {.loss = loss + agreement.loss - sft_scale * pair.chosen,
          .d_chosen = dz * chosen_scale + d_agreement - sft_scale,
          .d_rejected = -dz * rejected_scale - d_agreement,
          .chosen_reward = beta * chosen_ratio,
          .rejected_reward = beta * rejected_ratio};
}

}  // namespace cream
