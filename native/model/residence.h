// Weights that leave their device for host memory and come back, so that another model has room.
#pragma once

#include "model/model.h"

namespace cream {

// Moves a model's weights to host memory (pinned, where the device is a GPU) and frees the device's. Handles
// that share the weights (adapters over a base) go with it; an adapter's own factors stay. Until `onload` no
// verb but dispose may use them. Both return the seconds that they took; a model on the CPU stays where it
// is, in 0 seconds, and so does one that is there already. What was copied to the host stays there: weights
// that were not trained since leave again without a copy.
double offload(Model& model);
double onload(Model& model);

// A model of its own with the weights as they are now: of a model with an adapter a copy of the adapter over
// the same base, else a copy of all weights, `on_host` as offload() leaves them, without memory of the device
// in between.
std::shared_ptr<Model> snapshot(const Model& model, bool on_host);

// The weights are about to change: what the host has of them is no copy any more.
void forget_host_copy(Weights& weights);

// Throws unless the weights are on their device.
void check_resident(const Weights& weights, const char* verb);

}  // namespace cream
