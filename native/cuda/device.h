// The language of the kernels: CUDA under nvcc, a host emulation of it under any other compiler.
#pragma once

#include "cuda/types.h"

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace cream::gpu {

using bf16 = __nv_bfloat16;

#define CREAM_DYNAMIC_SHARED(type, name)                        \
  extern __shared__ __align__(16) unsigned char cream_shared[]; \
  type* const name = reinterpret_cast<type*>(cream_shared)

// Before a loop that is to stay one.
#define CREAM_NO_UNROLL _Pragma("unroll 1")

// Starts kernel<<<grid, block, shared bytes, stream>>>(arguments).
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, Stream stream,
            Arguments... arguments) {
  constexpr size_t kDefaultShared = 48 << 10;
  cudaError_t status = cudaSuccess;
  if (shared > kDefaultShared) {
    status =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  }
  if (status == cudaSuccess) {
    kernel<<<grid, block, shared, static_cast<cudaStream_t>(stream)>>>(static_cast<Parameters>(arguments)...);
    status = cudaGetLastError();
  }
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string("a CUDA kernel did not start: ") + cudaGetErrorString(status));
  }
}

}  // namespace cream::gpu

#else
#include "cuda/emulate/simt.h"
#endif
