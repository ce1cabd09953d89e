// Weights that leave their device for host memory and come back, so that another model has room.
#pragma once

#include "model/model.h"

namespace cream {

// Moves a model's weights to host memory (pinned, where the device is a GPU) and frees the device's. Handles
// that share the weights (adapters over a base) go with it; an adapter's own factors stay. Until `onload` no
// verb but dispose may use them. Both return the seconds that they took; a model on the CPU stays where it
// is, in 0 seconds, and so does one that is there already.
double offload(Model& model);
double onload(Model& model);

// Throws unless the weights are on their device.
void check_resident(const Weights& weights, const char* verb);

}  // namespace cream
