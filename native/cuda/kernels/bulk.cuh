// Bulk copies from global to shared memory with the barriers that count their bytes, and loads of 8 x 8
// matrices from shared memory (PTX ISA: cp.async.bulk, mbarrier, ldmatrix). For compute capability 9.0 and
// later.
//
// A barrier has a count of arrivals and a count of bytes. When all expected arrivals and bytes are there, its
// phase ends and the next begins with the same number of arrivals. Phases have parity 0, 1, 0, ...; to wait
// for parity 1 before the first phase has ended returns at once.
#pragma once

#include "cuda/device.h"

namespace cream::gpu {

using Barrier = uint64_t;  // in shared memory

#if defined(__CUDACC__) && (!defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900)

__device__ __forceinline__ uint32_t shared_address(const void* x) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(x));
}

__device__ __forceinline__ void init_barrier(Barrier* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals)
               : "memory");
}

// Makes barriers that this thread initialised visible to the engine that copies.
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void arrive(Barrier* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

// Arrives, and adds to the bytes that the phase needs.
__device__ __forceinline__ void arrive_expecting(Barrier* barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(bytes)
               : "memory");
}

// Waits until the phase of this parity has ended. Seconds of waiting can only be an error of the program.
__device__ __forceinline__ void wait_for_phase(Barrier* barrier, uint32_t parity) {
  constexpr int kMostTries = 1 << 26;
  const uint32_t address = shared_address(barrier);
  for (int i = 0; i < kMostTries; ++i) {
    uint32_t ended;
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\n"
        "selp.u32 %0, 1, 0, done;\n"
        "}"
        : "=r"(ended)
        : "r"(address), "r"(parity)
        : "memory");
    if (ended != 0) return;
  }
  __trap();
}

// Copies bytes (a multiple of 16, both ends at multiples of 16) and counts them at the barrier.
__device__ __forceinline__ void copy_bulk(void* to, const void* from, uint32_t bytes, Barrier* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          shared_address(to)),
      "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
}

// Four matrices of 8 rows by 8 two-byte values: lane l gives the address of row l % 8 of matrix l / 8. Word m
// gets values 2 (l % 4) and the next of row l / 4 of matrix m.
__device__ __forceinline__ void load_matrices(uint32_t (&words)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(shared_address(row))
               : "memory");
}

// The same with each matrix transposed: rows 2 (l % 4) and the next of column l / 4.
__device__ __forceinline__ void load_transposed(uint32_t (&words)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(shared_address(row))
               : "memory");
}

#elif defined(__CUDACC__)

// Compiled for older devices too, where nobody starts what uses them.
__device__ __forceinline__ void init_barrier(Barrier*, int) { __trap(); }
__device__ __forceinline__ void publish_barriers() {}
__device__ __forceinline__ void arrive(Barrier*) {}
__device__ __forceinline__ void arrive_expecting(Barrier*, uint32_t) {}
__device__ __forceinline__ void wait_for_phase(Barrier*, uint32_t) {}
__device__ __forceinline__ void copy_bulk(void*, const void*, uint32_t, Barrier*) {}
__device__ __forceinline__ void load_matrices(uint32_t (&words)[4], const void*) { words[0] = 0; }
__device__ __forceinline__ void load_transposed(uint32_t (&words)[4], const void*) { words[0] = 0; }

#else

inline void init_barrier(Barrier* barrier, int arrivals) { simt::init_barrier(barrier, arrivals); }
inline void publish_barriers() {}
inline void arrive(Barrier* barrier) { simt::arrive(barrier, 0); }
inline void arrive_expecting(Barrier* barrier, uint32_t bytes) { simt::arrive(barrier, bytes); }
inline void wait_for_phase(Barrier* barrier, uint32_t parity) { simt::wait_for_phase(barrier, parity); }
inline void copy_bulk(void* to, const void* from, uint32_t bytes, Barrier* barrier) {
  simt::copy_bulk(to, from, bytes, barrier);
}
inline void load_matrices(uint32_t (&words)[4], const void* row) { simt::load_matrices(words, row, false); }
inline void load_transposed(uint32_t (&words)[4], const void* row) { simt::load_matrices(words, row, true); }

#endif

}  // namespace cream::gpu
