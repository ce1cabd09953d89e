#include "ops/step_graph.h"

#ifdef CREAM_CUDA
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <optional>
#endif

#include "ops/device.h"
#include "ops/phases.h"

namespace cream::gpu {

#ifdef CREAM_CUDA

struct GraphPool::Handle {
  c10::MempoolId_t id = at::cuda::graph_pool_handle();
};
struct StepGraph::Recording {
  at::cuda::CUDAGraph graph;
};
struct StreamScope::Guard {
  c10::cuda::CUDAStreamGuard guard;
};
struct StreamMark::Event {
  cudaEvent_t event = nullptr;
  Event() { C10_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming)); }
  ~Event() { C10_CUDA_CHECK_WARN(cudaEventDestroy(event)); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
};

#else

struct GraphPool::Handle {};
struct StepGraph::Recording {};
struct StreamScope::Guard {};
struct StreamMark::Event {};

#endif

GraphPool::GraphPool() : handle_(std::make_unique<Handle>()) {}
GraphPool::~GraphPool() = default;

StepGraph::StepGraph(std::function<void()> step, [[maybe_unused]] c10::Device device,
                     [[maybe_unused]] const GraphPool& pool)
    : step_(std::move(step)) {
#ifdef CREAM_CUDA
  if (!device.is_cuda()) return;
  step_();
  step_();
  recording_ = std::make_unique<Recording>();
  // Other threads may call CUDA meanwhile.
  recording_->graph.capture_begin(pool.handle().id, cudaStreamCaptureModeThreadLocal);
  try {
    step_();
  } catch (...) {
    try {
      recording_->graph.capture_end();  // gives the allocator back; it fails where the recording is broken
    } catch (const std::exception&) {
      static_cast<void>(cudaGetLastError());
    }
    throw;
  }
  recording_->graph.capture_end();
#endif
}
StepGraph::~StepGraph() = default;

void StepGraph::replay() {
#ifdef CREAM_CUDA
  // Events inside a graph cannot be read, so a step whose time is asked for goes by itself.
  if (recording_ != nullptr && !phases::enabled()) return recording_->graph.replay();
#endif
  step_();
}

StreamScope::StreamScope(c10::Device device) : device_(device) {
  synchronize(device);
#ifdef CREAM_CUDA
  if (device.is_cuda()) {
    const auto stream = c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index());
    guard_.reset(new Guard{c10::cuda::CUDAStreamGuard(stream)});
  }
#endif
}
StreamScope::~StreamScope() {
  try {
    synchronize(device_);
  } catch (const std::exception&) {
    // The device's error was, or will be, reported by a call that may throw.
  }
}

StreamMark::StreamMark([[maybe_unused]] c10::Device device) {
#ifdef CREAM_CUDA
  if (!device.is_cuda()) return;
  event_ = std::make_unique<Event>();
  C10_CUDA_CHECK(cudaEventRecord(event_->event, c10::cuda::getCurrentCUDAStream(device.index()).stream()));
#endif
}
StreamMark::~StreamMark() = default;
StreamMark::StreamMark(StreamMark&&) noexcept = default;
StreamMark& StreamMark::operator=(StreamMark&&) noexcept = default;

void StreamMark::wait() {
#ifdef CREAM_CUDA
  if (event_ != nullptr) C10_CUDA_CHECK(cudaEventSynchronize(event_->event));
#endif
}

}  // namespace cream::gpu
