#include "model/residence.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>

#include <chrono>

#include "ops/device.h"
#include "ops/gpu.h"

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

}  // namespace

double offload(Model& model) {
  TORCH_CHECK_VALUE(!model.in_training, "offload: the model is in training; dispose of its trainer first");
  Weights& weights = model.weights;
  const at::NoGradGuard no_grad;
  const DeviceScope scope(model.device, weights.emulated);
  if (!gpu::active(weights.flat) || weights.away->defined()) return 0;
  const auto start = std::chrono::steady_clock::now();
  model.generation.reset();  // recorded steps read the weights where they are now
  const at::Tensor bytes = bytes_of(weights.flat);
  at::Tensor host =
      at::empty({bytes.numel()}, at::TensorOptions().dtype(at::kByte).pinned_memory(model.device.is_cuda()));
  host.copy_(bytes);
  set_memory(weights.flat, c10::DataPtr(nullptr, model.device), 0);
  *weights.away = std::move(host);
  release_cached_memory();
  return seconds_since(start);
}

double onload(Model& model) {
  Weights& weights = model.weights;
  const at::NoGradGuard no_grad;
  const DeviceScope scope(model.device, weights.emulated);
  if (!weights.away->defined()) return 0;
  const auto start = std::chrono::steady_clock::now();
  const auto size = static_cast<size_t>(weights.away->numel());
  set_memory(weights.flat, weights.flat.storage().unsafeGetStorageImpl()->allocator()->allocate(size), size);
  bytes_of(weights.flat).copy_(*weights.away);
  weights.away->reset();
  return seconds_since(start);
}

void check_resident(const Weights& weights, const char* verb) {
  TORCH_CHECK_VALUE(!weights.away->defined(), verb,
                    ": the model's weights are in host memory; call onload() before this");
}

}  // namespace cream
