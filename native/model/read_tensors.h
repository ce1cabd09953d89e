// Tensors of safetensors files, checked against the wanted names and shapes before anything is read.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/safetensors.h"
#include "model/weights.h"

namespace cream {

struct Found {
  const safetensors::File* file;
  const safetensors::Entry* entry;
};

// Files of a checkpoint and what is in them, by name.
struct CheckpointFiles {
  std::vector<std::unique_ptr<safetensors::File>> files;
  std::map<std::string, Found> tensors;
};

// Opens them and checks names and shapes against the architecture, as load_model does; reads no values.
CheckpointFiles open_checkpoint(const ModelConfig& config, const std::vector<std::string>& paths);

// "[2, 3]"
std::string shape_text(at::IntArrayRef shape);

// Every tensor of the files by name; one that is there twice is refused.
std::map<std::string, Found> find_tensors(const std::vector<std::unique_ptr<safetensors::File>>& files);

// Names every tensor that is missing, unexpected or of another shape. `may_be_there` excuses extra ones;
// `config` is the file that says what is wanted.
void check_tensors(const std::map<std::string, Found>& found, const std::vector<NamedTensor>& wanted,
                   bool (*may_be_there)(const std::string& name, bool is_tied), bool is_tied,
                   const std::string& where, const char* config);

// Fills a contiguous CPU tensor from a file's bytes, converting F32, BF16 and F16; refuses NaN and infinity.
void read_tensor(const safetensors::File& file, const std::string& name, const safetensors::Entry& entry,
                 at::Tensor out);
// The same for elements [begin, begin + out.numel()) of the tensor.
void read_elements(const safetensors::File& file, const std::string& name, const safetensors::Entry& entry,
                   int64_t begin, at::Tensor out);

}  // namespace cream
