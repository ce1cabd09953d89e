// A checkpoint and an adapter over it, merged from file to file: one tensor at a time is in memory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/adapter.h"

namespace cream {

// Writes the checkpoint of `files` with W + scale B A in place of every adapted W, which is added in float32
// from the file's own values and rounded once, to the file's own dtype (float16 too) or to `dtype`. Every
// other tensor keeps its bytes where its dtype stays. Refuses what load_model and load_adapter refuse, and a
// sum that the dtype does not hold. Returns the names of the files, as save_model.
std::vector<std::string> merge_checkpoint(const ModelConfig& config, const std::vector<std::string>& files,
                                          const LoraOptions& options, const std::string& adapter_file,
                                          std::optional<at::ScalarType> dtype, const std::string& directory,
                                          uint64_t max_shard_bytes);

}  // namespace cream
