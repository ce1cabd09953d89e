#include "model/upload.h"

#include <ATen/Functions.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>

#include "model/read_tensors.h"

namespace cream {

Upload::Upload(at::Device device, int64_t bytes) : device_(device) {
  for (Buffer& buffer : buffers_)
    buffer.bytes = at::empty({bytes}, at::TensorOptions().dtype(at::kByte).pinned_memory(!device.is_cpu()));
}

Upload::~Upload() {
  try {
    for (const Buffer& buffer : buffers_)
      if (buffer.copied) buffer.copied->synchronize();
  } catch (const std::exception&) {
    // A failed device has copied nothing more; what failed is reported by the next call on it.
  }
}

void Upload::read(const safetensors::File& file, const std::string& name, const safetensors::Entry& entry,
                  const at::Tensor& to) {
  const at::Tensor flat = to.view({to.numel()});
  const int64_t room = buffers_[0].bytes.numel() / to.element_size();
  for (int64_t begin = 0; begin < flat.numel(); begin += room) {
    const int64_t size = std::min(room, flat.numel() - begin);
    Buffer& buffer = buffers_[next_];
    next_ = 1 - next_;
    if (buffer.copied) buffer.copied->synchronize();
    const at::Tensor part = buffer.bytes.narrow(0, 0, size * to.element_size()).view(to.scalar_type());
    read_elements(file, name, entry, begin, part);
    flat.narrow(0, begin, size).copy_(part, /*non_blocking=*/true);
    if (device_.is_cpu()) continue;
    buffer.copied.emplace(device_.type());
    buffer.copied->record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
  }
}

}  // namespace cream
