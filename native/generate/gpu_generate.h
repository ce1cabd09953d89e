// `generate` on a GPU: slots that are refilled as responses end, while the others go on.
#pragma once

#include "generate/generate.h"

namespace cream {

void generate_on_gpu(const Model& model, const std::vector<GeneratePrompt>& prompts,
                     const GenerateOptions& options, const std::function<void(Response&&)>& on_response,
                     const CancelFlag& cancelled);

}  // namespace cream
