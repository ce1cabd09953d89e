// What a request may do to the logits before a token is drawn: penalties and bans, by the definitions and in
// the order of transformers' logits processors. The log-probs that are reported stay those of the logits as
// the model gave them.
#pragma once

#include <cstdint>
#include <vector>

namespace cream {

struct LogitsProcessors {
  double repetition_penalty = 1;     // divides positive and multiplies negative logits of ids that occurred
  int64_t no_repeat_ngram_size = 0;  // no n ids in a row occur twice; 0 = off
  std::vector<std::vector<int32_t>> bad_words;  // sequences of ids that do not occur
  int64_t min_new_tokens = 0;                   // stop ids are banned before
  int32_t forced_eos_id = -1;                   // the last id of a response that is cut otherwise; -1 = off
  std::vector<int32_t> suppressed;              // ids that are never drawn
  std::vector<int32_t> suppressed_first;        // nor as the first of a response

  bool are_on() const;
};

// Refuses values outside of their range, by name; ids must be in [0, vocab).
void check_logits_processors(const LogitsProcessors& processors, int64_t vocab);

// A response in progress.
struct DrawContext {
  const std::vector<int32_t>& prompt;
  const std::vector<int32_t>& response;
  int64_t limit;  // tokens that the response may have
};

// Changes one row of `vocab` logits in place. Banned ids get -inf.
void process_logits(float* logits, int64_t vocab, const LogitsProcessors& processors,
                    const std::vector<int32_t>& stop_ids, const DrawContext& context);

}  // namespace cream
