// Fills the weights of a device from files through two pinned buffers: one is read into while the other is
// copied.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>

#include <array>
#include <optional>
#include <string>

#include "model/safetensors.h"

namespace cream {

class Upload {
 public:
  // Buffers of `bytes` each. On the CPU the way is the same, without pinned memory and without overlap.
  explicit Upload(at::Device device, int64_t bytes = int64_t{64} << 20);
  // Waits for the copies: the buffers must outlive them.
  ~Upload();
  Upload(const Upload&) = delete;
  Upload& operator=(const Upload&) = delete;

  // As read_tensor (model/read_tensors.h); `to` is contiguous and on the device.
  void read(const safetensors::File& file, const std::string& name, const safetensors::Entry& entry,
            const at::Tensor& to);

 private:
  struct Buffer {
    at::Tensor bytes;
    std::optional<c10::Event> copied;
  };

  at::Device device_;
  std::array<Buffer, 2> buffers_;
  size_t next_ = 0;
};

}  // namespace cream
