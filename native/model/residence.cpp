#include "model/residence.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>

#include <chrono>

#include "model/adapter.h"
#include "ops/device.h"
#include "ops/gpu.h"
#include "ops/host_memory.h"

namespace cream {

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

at::Tensor bytes_of(const at::Tensor& flat) { return flat.view(at::kByte); }

// Exchanges the memory behind `flat` and behind every view of it.
void set_memory(const at::Tensor& flat, c10::DataPtr memory, size_t bytes) {
  c10::StorageImpl* storage = flat.storage().unsafeGetStorageImpl();
  storage->set_data_ptr_noswap(std::move(memory));
  storage->set_nbytes(bytes);
}

at::Tensor copy_on_host(const Model& model) {
  const at::Tensor bytes = bytes_of(model.weights.flat);
  at::Tensor host = gpu::host_bytes(bytes.numel(), model.device.is_cuda());
  host.copy_(bytes);
  return host;
}

}  // namespace

double offload(Model& model) {
  TORCH_CHECK_VALUE(!model.in_training, "offload: the model is in training; dispose of its trainer first");
  Weights& weights = model.weights;
  Residence& residence = *weights.residence;
  const at::NoGradGuard no_grad;
  const DeviceScope scope(model.device, weights.emulated);
  if (!gpu::active(weights.flat) || residence.is_away) return 0;
  const auto start = std::chrono::steady_clock::now();
  model.generation.reset();  // recorded steps read the weights where they are now
  if (!residence.host.defined()) residence.host = copy_on_host(model);
  synchronize(model.device);  // nothing reads them any more
  set_memory(weights.flat, c10::DataPtr(nullptr, model.device), 0);
  residence.is_away = true;
  release_cached_memory();
  return seconds_since(start);
}

double onload(Model& model) {
  Weights& weights = model.weights;
  Residence& residence = *weights.residence;
  const at::NoGradGuard no_grad;
  const DeviceScope scope(model.device, weights.emulated);
  if (!residence.is_away) return 0;
  const auto start = std::chrono::steady_clock::now();
  const auto size = static_cast<size_t>(residence.host.numel());
  set_memory(weights.flat, weights.flat.storage().unsafeGetStorageImpl()->allocator()->allocate(size), size);
  bytes_of(weights.flat).copy_(residence.host);
  residence.is_away = false;
  return seconds_since(start);
}

std::shared_ptr<Model> snapshot(const Model& model, bool on_host) {
  check_resident(model.weights, "snapshot");
  const at::NoGradGuard no_grad;
  const DeviceScope scope(model.device, model.weights.emulated);
  if (model.weights.adapter != nullptr) {
    Weights weights = model.weights;
    weights.adapter = copied(*weights.adapter, weights.config);
    return std::make_shared<Model>(Model{std::move(weights), model.dtype, model.device});
  }
  if (!on_host || !gpu::active(model.weights.flat)) return clone_model(model);
  Weights weights = make_hollow_weights(model.weights.config, model.dtype, model.device);
  weights.emulated = model.weights.emulated;
  *weights.residence = {copy_on_host(model), true};
  return std::make_shared<Model>(Model{std::move(weights), model.dtype, model.device});
}

void forget_host_copy(Weights& weights) {
  if (!weights.residence->is_away) weights.residence->host.reset();
}

void check_resident(const Weights& weights, const char* verb) {
  TORCH_CHECK_VALUE(!weights.residence->is_away, verb,
                    ": the model's weights are in host memory; call onload() before this");
}

}  // namespace cream
