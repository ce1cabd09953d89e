#include "ops/device.h"

#include <array>
#include <cstdlib>
#ifdef CREAM_CUDA
#include <ATen/BlasBackend.h>
#include <ATen/Context.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>
#endif

namespace cream {

namespace {

constexpr std::array<const char*, 3> kProducts{"default", "cublas", "cublaslt"};
size_t products = 0;  // of kProducts

std::string text_of(c10::Device device) { return "device '" + device.str() + "'"; }

#ifdef CREAM_CUDA

// Kernels exist for a GPU when they were compiled for its major version and no later minor one, or when the
// PTX of the last architecture can be compiled for it.
bool has_kernels(const DeviceInfo& info) {
  const int own = 10 * info.major + info.minor;
  const std::string archs = built_archs();
  for (size_t at = 0; at < archs.size(); at = archs.find(' ', at) + 1) {
    char* end = nullptr;
    const int arch = static_cast<int>(std::strtol(archs.c_str() + at, &end, 10));
    const bool is_last = archs.find(' ', at) == std::string::npos;
    const bool is_exact = *end == 'a' || *end == 'f';
    if (is_exact ? arch == own : arch / 10 == info.major && arch <= own) return true;
    if (is_last) return !is_exact && arch <= own;
  }
  return false;
}

c10::CachingDeviceAllocator::DeviceStats stats_of(c10::Device device) {
  return c10::cuda::CUDACachingAllocator::getDeviceStats(device.index());
}

#endif

}  // namespace

#ifdef CREAM_CUDA

std::vector<DeviceInfo> list_devices(std::string* why) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    if (why != nullptr)
      *why = cuda_versions().driver == 0 ? "there is no NVIDIA driver" : cudaGetErrorString(status);
    static_cast<void>(cudaGetLastError());  // a failed count must not fail the next call
    return {};
  }
  if (count == 0 && why != nullptr) *why = "the driver knows no GPU";
  std::vector<DeviceInfo> devices;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, i) != cudaSuccess) continue;
    devices.push_back({.name = properties.name,
                       .major = properties.major,
                       .minor = properties.minor,
                       .total_bytes = static_cast<int64_t>(properties.totalGlobalMem),
                       .num_multiprocessors = properties.multiProcessorCount,
                       .l2_bytes = properties.l2CacheSize});
  }
  return devices;
}

CudaVersions cuda_versions() {
  CudaVersions versions;
  if (cudaDriverGetVersion(&versions.driver) != cudaSuccess) versions.driver = 0;
  if (cudaRuntimeGetVersion(&versions.runtime) != cudaSuccess) versions.runtime = 0;
  return versions;
}

const char* built_archs() { return CREAM_CUDA_ARCHS; }

void check_device(c10::Device device) {
  if (!device.is_cuda()) return;
  std::string why;
  const auto devices = list_devices(&why);
  if (devices.empty()) throw DeviceError(text_of(device) + ": no NVIDIA GPU can be used: " + why);
  if (device.index() >= static_cast<int>(devices.size()))
    throw DeviceError(text_of(device) + ": there are " + std::to_string(devices.size()) +
                      " GPUs, numbered from 0 (CUDA_VISIBLE_DEVICES chooses which)");
  const DeviceInfo& info = devices[static_cast<size_t>(device.index())];
  if (!has_kernels(info))
    throw DeviceError(text_of(device) + " is a " + info.name + " of compute capability " +
                      std::to_string(info.major) + "." + std::to_string(info.minor) +
                      ", but the kernels are compiled for " + built_archs() +
                      "; build again with CREAM_CUDA_ARCHS=" + std::to_string(10 * info.major + info.minor));
}

DeviceMemory device_memory(c10::Device device) {
  DeviceMemory memory;
  if (!device.is_cuda()) return memory;
  const c10::cuda::CUDAGuard guard(device);
  size_t free = 0, total = 0;
  C10_CUDA_CHECK(cudaMemGetInfo(&free, &total));
  memory.free = static_cast<int64_t>(free);
  memory.total = static_cast<int64_t>(total);
  if (!c10::cuda::CUDACachingAllocator::get()->initialized()) return memory;
  const auto stats = stats_of(device);
  memory.allocated = stats.allocated_bytes[0].current;
  memory.reserved = stats.reserved_bytes[0].current;
  memory.peak = stats.allocated_bytes[0].peak;
  return memory;
}

void reset_peak_memory(c10::Device device) {
  if (device.is_cuda() && c10::cuda::CUDACachingAllocator::get()->initialized())
    c10::cuda::CUDACachingAllocator::resetPeakStats(device.index());
}

void release_cached_memory() {
  if (c10::cuda::CUDACachingAllocator::get()->initialized()) c10::cuda::CUDACachingAllocator::emptyCache();
}

void use_full_precision() {
  at::globalContext().setAllowTF32CuBLAS(false);
  at::globalContext().setAllowBF16ReductionCuBLAS(false);
}

static void prefer_chosen_products() {
  if (products == 0) return;
  at::globalContext().setBlasPreferredBackend(products == 1 ? at::BlasBackend::Cublas
                                                            : at::BlasBackend::Cublaslt);
}

void synchronize(c10::Device device) {
  if (!device.is_cuda()) return;
  const c10::cuda::CUDAGuard guard(device);
  c10::cuda::device_synchronize();
}

#else

std::vector<DeviceInfo> list_devices(std::string* why) {
  if (why != nullptr) *why = "the addon is built for the CPU alone";
  return {};
}

CudaVersions cuda_versions() { return {}; }

const char* built_archs() { return ""; }

void check_device(c10::Device device) {
  if (device.is_cuda())
    throw DeviceError(
        text_of(device) +
        ": the addon is built for the CPU alone; where a GPU, a LibTorch with CUDA and nvcc 13 are, "
        "build it with: npm run build:native -- --cuda");
}

DeviceMemory device_memory(c10::Device) { return {}; }
void reset_peak_memory(c10::Device) {}
void release_cached_memory() {}
void use_full_precision() {}
static void prefer_chosen_products() {}
void synchronize(c10::Device) {}

#endif

void choose_gpu_products() {
  const char* value = std::getenv("CREAM_BLAS");
  const std::string wish = value == nullptr || *value == '\0' ? kProducts[0] : value;
  for (size_t i = 0; i < kProducts.size(); ++i) {
    if (wish != kProducts[i]) continue;
    products = i;
    return prefer_chosen_products();
  }
  throw std::invalid_argument("CREAM_BLAS must be default, cublas or cublaslt, got '" + wish + "'");
}

const char* gpu_products() { return kProducts[products]; }

c10::Device parse_device(const std::string& name) {
  if (name == "cpu") return c10::kCPU;
  if (name == "cuda") return {c10::kCUDA, 0};
  constexpr size_t kPrefix = 5;  // of "cuda:"
  const std::string number = name.rfind("cuda:", 0) == 0 ? name.substr(kPrefix) : "";
  const bool is_number =
      !number.empty() && number.size() <= 3 && number.find_first_not_of("0123456789") == std::string::npos;
  if (!is_number || std::stoi(number) > INT8_MAX) throw std::invalid_argument("'cpu', 'cuda' or 'cuda:N'");
  return {c10::kCUDA, static_cast<c10::DeviceIndex>(std::stoi(number))};
}

DeviceScope::DeviceScope(c10::Device device, bool emulated) : emulation_(emulated) {
  if (!device.is_cpu()) guard_.reset_device(device);
}

}  // namespace cream
