// The preference losses with a weight per pair, on sequence log-probs.
#pragma once

#include <cstdint>
#include <string>

namespace cream {

enum class PreferenceLoss { kSigmoid, kHinge, kIpo, kSigmoidNorm };

struct PreferenceOptions {
  PreferenceLoss loss = PreferenceLoss::kSigmoid;
  double beta = 0.1;
  double sft_coefficient = 0.0;  // adds -coefficient * logprob(chosen) / |chosen|
  double length_term = 0.0;  // alpha: u + alpha (|chosen| - |rejected|) in place of u; sigmoid, sigmoid-norm
  double agreement_coefficient = 0.0;  // adds coefficient * (KL(p || q) + KL(q || p)), p and q as below
  double agreement_entropy = 0.0;      // adds coefficient * H(p)
  // Not of the loss but of its computation. false is the definition: both responses of a pair are sequences
  // of their own with the prompt before each. The same numbers up to rounding, dropout of adapters apart.
  bool share_prompts = true;
};

struct PairLogprobs {
  double chosen, rejected;                      // policy
  double reference_chosen, reference_rejected;  // frozen
  int64_t chosen_tokens, rejected_tokens;
  // Only for the agreement term: p = sigmoid(beta z + implicit_margin) is the probability that the implicit
  // reward prefers the chosen response, q = sigmoid(judge_margin) the judge's, a constant.
  double implicit_margin = 0, judge_margin = 0;
};

// z = (chosen - reference_chosen) - (rejected - reference_rejected), u = beta z, C = consistency:
//   sigmoid       C softplus(-u) + (1 - C) softplus(u)              (CREAM eq. of method: docs/method.md)
//   sigmoid-norm  the same with per-token averaged ratios in u
//   hinge         C max(0, 1 - u) + (1 - C) max(0, 1 + u)
//   ipo           C (z' - 1/(2 beta))^2 + (1 - C) (z' + 1/(2 beta))^2, z' from per-token averaged ratios
struct PairLoss {
  double loss;
  double d_chosen, d_rejected;            // derivatives by the policy's sequence log-probs
  double chosen_reward, rejected_reward;  // beta x log-prob ratio (rewards/chosen, rewards/rejected)
};
PairLoss preference_loss(const PairLogprobs& pair, double consistency, const PreferenceOptions& options);

}  // namespace cream
