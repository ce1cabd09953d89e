// The GPUs that this process can use, their memory, and where the work of a thread goes.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/DeviceGuard.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "ops/gpu.h"

namespace cream {

// A device is asked for that this build or this machine cannot use.
struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct DeviceInfo {
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int64_t total_bytes = 0;
  int64_t num_multiprocessors = 0;
  int64_t l2_bytes = 0;
};

// In the order of their numbers. Empty without CUDA; `why`, if given, then says why.
std::vector<DeviceInfo> list_devices(std::string* why = nullptr);

// Versions as CUDA writes them (13000 is 13.0); 0 where there is none.
struct CudaVersions {
  int driver = 0, runtime = 0;
};
CudaVersions cuda_versions();

// Compute capabilities that the kernels are compiled for, as "80 90"; empty without CUDA.
const char* built_archs();

// "cpu", "cuda" (the first GPU), "cuda:N"; throws std::invalid_argument for other words.
c10::Device parse_device(const std::string& name);

// Throws DeviceError, with what is there, unless the device can be used.
void check_device(c10::Device device);

struct DeviceMemory {
  int64_t free = 0, total = 0;  // of the whole device, whoever uses it
  int64_t allocated = 0;        // in tensors of this process
  int64_t reserved = 0;         // taken from the device by this process, tensors or not
  int64_t peak = 0;             // most allocated since the last reset
};
DeviceMemory device_memory(c10::Device device);
void reset_peak_memory(c10::Device device);

// Gives memory back that is reserved and holds no tensor; after a failed allocation.
void release_cached_memory();

// Matrix products on GPUs add up in float32: float32 ones do not use TF32, whatever the environment says, and
// those of bfloat16 no shorter sums. Once per process, before the first product.
void use_full_precision();

// The library that GPUs multiply matrices with: "default" (LibTorch's choice), or by CREAM_BLAS "cublas" or
// "cublaslt". Read once, when the addon loads; throws std::invalid_argument for other words. Sums of products
// are cut in other places under another library, so a run records it.
void choose_gpu_products();
const char* gpu_products();

// Waits until all work of the device is done, and reports its errors.
void synchronize(c10::Device device);

// Where this thread's tensors are made and its kernels run, while it lives. Every verb on a model has one.
class DeviceScope {
 public:
  explicit DeviceScope(c10::Device device, bool emulated = false);

 private:
  c10::OptionalDeviceGuard guard_;
  gpu::EmulationScope emulation_;
};

}  // namespace cream
