// What every launch of a kernel takes from its tensors.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>
#ifdef CREAM_CUDA
#include <c10/cuda/CUDAStream.h>
#endif

#include "cuda/types.h"

namespace cream::gpu {

inline Stream stream_of([[maybe_unused]] const at::Tensor& x) {
#ifdef CREAM_CUDA
  return c10::cuda::getCurrentCUDAStream(x.device().index()).stream();
#else
  return nullptr;
#endif
}

inline Dtype dtype_of(const at::Tensor& x) {
  TORCH_CHECK_VALUE(x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16,
                    "expected float32 or bfloat16 on the GPU, got ", x.scalar_type());
  return x.scalar_type() == at::kFloat ? Dtype::kFloat32 : Dtype::kBFloat16;
}

}  // namespace cream::gpu
