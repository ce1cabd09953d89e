#include "generate/logits_processors.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace cream {

namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();

void check_ids(const char* name, const std::vector<int32_t>& ids, int64_t vocab) {
  for (const int32_t id : ids) {
    TORCH_CHECK_VALUE(id >= 0 && id < vocab, "generate: ", name, " has the id ", id,
                      ", outside of the vocabulary [0, ", vocab, ")");
  }
}

// All ids so far: those of the prompt, then those of the response.
std::vector<int32_t> ids_of(const DrawContext& context) {
  std::vector<int32_t> ids = context.prompt;
  ids.insert(ids.end(), context.response.begin(), context.response.end());
  return ids;
}

void penalize(float* logits, std::vector<int32_t> ids, float penalty) {
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  for (const int32_t id : ids) logits[id] = logits[id] < 0 ? logits[id] * penalty : logits[id] / penalty;
}

// Bans what followed an earlier occurrence of the last size - 1 ids.
void ban_repeated(float* logits, const std::vector<int32_t>& ids, int64_t size) {
  const auto length = static_cast<int64_t>(ids.size());
  const auto last = ids.end() - std::min(length, size - 1);
  for (int64_t i = 0; i + size <= length; ++i) {
    const auto begin = ids.begin() + i;
    if (std::equal(last, ids.end(), begin)) logits[begin[size - 1]] = kBanned;
  }
}

// Bans the last id of a word whose other ids have just been drawn.
void ban_word(float* logits, const std::vector<int32_t>& ids, const std::vector<int32_t>& word) {
  const size_t before = word.size() - 1;
  if (before <= ids.size() && std::equal(word.begin(), word.end() - 1, ids.end() - before))
    logits[word.back()] = kBanned;
}

}  // namespace

bool LogitsProcessors::are_on() const {
  return repetition_penalty != 1 || no_repeat_ngram_size > 0 || !bad_words.empty() || min_new_tokens > 0 ||
         forced_eos_id >= 0 || !suppressed.empty() || !suppressed_first.empty();
}

void check_logits_processors(const LogitsProcessors& processors, int64_t vocab) {
  TORCH_CHECK_VALUE(std::isfinite(processors.repetition_penalty) && processors.repetition_penalty > 0,
                    "generate: repetitionPenalty must be a number > 0 (1 = off), got ",
                    processors.repetition_penalty);
  TORCH_CHECK_VALUE(processors.no_repeat_ngram_size >= 0,
                    "generate: noRepeatNgramSize must be >= 0 (0 = off), got ",
                    processors.no_repeat_ngram_size);
  TORCH_CHECK_VALUE(processors.min_new_tokens >= 0, "generate: minNewTokens must be >= 0, got ",
                    processors.min_new_tokens);
  TORCH_CHECK_VALUE(processors.forced_eos_id < vocab, "generate: forcedEosId ", processors.forced_eos_id,
                    " is outside of the vocabulary [0, ", vocab, ")");
  for (const auto& word : processors.bad_words) {
    TORCH_CHECK_VALUE(!word.empty(), "generate: badWordsIds has a word without ids");
    check_ids("badWordsIds", word, vocab);
  }
  check_ids("suppressTokens", processors.suppressed, vocab);
  check_ids("beginSuppressTokens", processors.suppressed_first, vocab);
}

void process_logits(float* logits, int64_t vocab, const LogitsProcessors& processors,
                    const std::vector<int32_t>& stop_ids, const DrawContext& context) {
  const std::vector<int32_t> ids = ids_of(context);
  const auto drawn = static_cast<int64_t>(context.response.size());
  if (processors.repetition_penalty != 1)
    penalize(logits, ids, static_cast<float>(processors.repetition_penalty));
  if (processors.no_repeat_ngram_size > 0) ban_repeated(logits, ids, processors.no_repeat_ngram_size);
  for (const auto& word : processors.bad_words) {
    const bool is_stop =
        word.size() == 1 && std::find(stop_ids.begin(), stop_ids.end(), word[0]) != stop_ids.end();
    if (!is_stop) ban_word(logits, ids, word);
  }
  if (drawn < processors.min_new_tokens) {
    for (const int32_t id : stop_ids) logits[id] = kBanned;
  }
  if (processors.forced_eos_id >= 0 && drawn + 1 == context.limit) {
    std::fill_n(logits, vocab, kBanned);
    logits[processors.forced_eos_id] = 0;
  }
  for (const int32_t id : processors.suppressed) logits[id] = kBanned;
  if (drawn == 0) {
    for (const int32_t id : processors.suppressed_first) logits[id] = kBanned;
  }
}

}  // namespace cream
