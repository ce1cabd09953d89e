#include <initializer_list>

#include "cuda/kernels/bulk.cuh"
#include "cuda/kernels/bulk.h"
#include "cuda/kernels/common.cuh"

namespace cream::gpu {

namespace {

constexpr int kMatrixBytes = 4 * 8 * 8 * 2;
constexpr int kStageBytes = 512;
constexpr int kStages = 2;

__global__ void __launch_bounds__(kLanes)
    matrices_kernel(uint32_t* words, const uint16_t* matrices, bool is_transposed) {
  CREAM_DYNAMIC_SHARED(uint16_t, shared);
  const int lane = threadIdx.x;
  for (int i = lane; i < kMatrixBytes / 2; i += kLanes) shared[i] = matrices[i];
  __syncwarp();
  uint32_t loaded[4];
  is_transposed ? load_transposed(loaded, shared + 8 * lane) : load_matrices(loaded, shared + 8 * lane);
  for (int i = 0; i < 4; ++i) words[4 * lane + i] = loaded[i];
}

__global__ void __launch_bounds__(2 * kLanes)
    ring_kernel(char* to, const char* from, int64_t bytes, RingFault fault) {
  CREAM_DYNAMIC_SHARED(char, shared);
  Barrier* const full = reinterpret_cast<Barrier*>(shared + kStages * kStageBytes);
  Barrier* const read = full + kStages;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      init_barrier(full + i, 1);
      init_barrier(read + i, kLanes);
    }
    publish_barriers();
  }
  __syncthreads();
  const int lane = threadIdx.x % kLanes;
  int64_t done = 0;
  for (int i = 0; done < bytes; ++i, done += kStageBytes) {
    const int stage = i % kStages;
    const uint32_t parity = i / kStages % 2;
    const int64_t left = bytes - done, count = left < kStageBytes ? left : kStageBytes;
    if (threadIdx.x == 0) {
      wait_for_phase(read + stage, parity ^ 1);
      const int wrong = fault == RingFault::kTooFewBytes ? -16 : fault == RingFault::kTooManyBytes ? 16 : 0;
      if (fault != RingFault::kNoArrival)
        arrive_expecting(full + stage, static_cast<uint32_t>(count + wrong));
      if (fault == RingFault::kTwoArrivals) arrive(full + stage);
      copy_bulk(shared + stage * kStageBytes, from + done, static_cast<uint32_t>(count), full + stage);
    } else if (threadIdx.x >= kLanes) {
      wait_for_phase(full + stage, parity);
      for (int64_t c = lane; c < count; c += kLanes) to[done + c] = shared[stage * kStageBytes + c];
      arrive(read + stage);
    }
  }
}

}  // namespace

void load_four_matrices(uint32_t* words, const void* matrices, bool is_transposed, Stream stream) {
  launch(&matrices_kernel, 1, kLanes, kMatrixBytes, stream, words, static_cast<const uint16_t*>(matrices),
         is_transposed);
}

void copy_by_ring(void* to, const void* from, int64_t bytes, RingFault fault, Stream stream) {
  launch(&ring_kernel, 2, 2 * kLanes, kStages * (kStageBytes + 2 * sizeof(Barrier)), stream,
         static_cast<char*>(to), static_cast<const char*>(from), bytes, fault);
}

}  // namespace cream::gpu
