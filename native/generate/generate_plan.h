// What `generate` will do, decided before anything is computed: the checks of a request, which responses
// start together, and how much memory keys and values may take.
#pragma once

#include <cstdint>
#include <vector>

#include "generate/generate.h"

namespace cream {

// Responses of one prompt that start together and share the prompt's keys and values.
struct Launch {
  int64_t prompt_index;
  int64_t first_sample;
  int64_t num_samples;
};

struct GeneratePlan {
  std::vector<Launch> launches;  // in order of prompts and samples
  int64_t max_rows;              // live sequences
  int64_t response_blocks;       // of the cache, per response
  int64_t num_blocks;            // of the cache, in all
};

// Refuses bad options, empty or too long prompts and unknown ids, with the numbers.
void check_request(const ModelConfig& config, const std::vector<GeneratePrompt>& prompts,
                   const GenerateOptions& options);

int64_t machine_memory();  // bytes that this process may use at most
inline int64_t mebibytes(int64_t bytes) { return (bytes + (1 << 20) - 1) >> 20; }

// Refuses bad requests, and what does not fit into memory, with the numbers. How many responses live at once
// is bounded whatever the number of prompts: by 256, by the memory that is free, and by a
// quarter of the machine's.
GeneratePlan plan_generation(const Model& model, const std::vector<GeneratePrompt>& prompts,
                             const GenerateOptions& options);

}  // namespace cream
