#include "ops/host_memory.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <sys/mman.h>

#ifdef CREAM_CUDA
#include <cuda_runtime_api.h>
#endif

namespace cream::gpu {

namespace {

constexpr int64_t kPage = 4096;

// Threads touch the pages first: the driver would do so one by one.
void touch(char* memory, int64_t bytes) {
  at::parallel_for(0, (bytes + kPage - 1) / kPage, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t page = begin; page < end; ++page) memory[page * kPage] = 0;
  });
}

bool lock([[maybe_unused]] void* memory, [[maybe_unused]] size_t bytes) {
#ifdef CREAM_CUDA
  if (cudaHostRegister(memory, bytes, cudaHostRegisterPortable) == cudaSuccess) return true;
  static_cast<void>(cudaGetLastError());  // the copies are slower, no more
#endif
  return false;
}

void unlock([[maybe_unused]] void* memory) {
#ifdef CREAM_CUDA
  if (cudaHostUnregister(memory) != cudaSuccess) static_cast<void>(cudaGetLastError());
#endif
}

}  // namespace

at::Tensor host_bytes(int64_t bytes, bool pinned) {
  if (bytes == 0) return at::empty({0}, at::kByte);
  const auto size = static_cast<size_t>(bytes);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  TORCH_CHECK(memory != MAP_FAILED, "DefaultCPUAllocator: can't allocate memory: you tried to allocate ",
              bytes, " bytes of host memory");
#ifdef MADV_HUGEPAGE
  madvise(memory, size, MADV_HUGEPAGE);
#endif
  touch(static_cast<char*>(memory), bytes);
  const bool is_locked = pinned && lock(memory, size);
  const auto release = [size, is_locked](void* begin) {
    if (is_locked) unlock(begin);
    munmap(begin, size);
  };
  return at::from_blob(memory, {bytes}, release, at::kByte);
}

}  // namespace cream::gpu
