#include "ops/step_graph.h"

#ifdef CREAM_CUDA
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <map>
#include <string_view>
#endif

#include "ops/device.h"
#include "ops/phases.h"

namespace cream::gpu {

#ifdef CREAM_CUDA

struct GraphPool::Handle {
  c10::MempoolId_t id = at::cuda::graph_pool_handle();
};
struct StepGraph::Recording {
  std::unique_ptr<at::cuda::CUDAGraph> graph = std::make_unique<at::cuda::CUDAGraph>();
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

namespace {

// While a step is recorded the allocator cannot give unused memory back to the device to make room for it.
constexpr int64_t kRoomToRecord = int64_t{1} << 30;

// Then every call waits and reports its own error, which a recorded step as a whole cannot.
bool launches_block() {
  const char* value = std::getenv("CUDA_LAUNCH_BLOCKING");
  return value != nullptr && std::string_view(value) != "0";
}

// Ends a recording that failed, so that this thread's tensors do not go on coming from the graphs' memory.
void abandon(std::unique_ptr<at::cuda::CUDAGraph> graph, c10::MempoolId_t pool, c10::DeviceIndex device) {
  try {
    graph->capture_end();
    return;
  } catch (const std::exception&) {
    static_cast<void>(cudaGetLastError());
  }
  graph.reset();  // from LibTorch 2.14 on this does the rest, and the call below refuses
  try {
    c10::cuda::CUDACachingAllocator::endAllocateToPool(device, pool);
    c10::cuda::CUDACachingAllocator::releasePool(device, pool);
  } catch (const std::exception&) {
    static_cast<void>(cudaGetLastError());
  }
}

// For the engine thread only, like everything that uses it.
c10::cuda::CUDAStream stream_for(c10::DeviceIndex device) {
  static std::map<c10::DeviceIndex, c10::cuda::CUDAStream> streams;
  const auto known = streams.find(device);
  if (known != streams.end()) return known->second;
  return streams.emplace(device, c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device))
      .first->second;
}

}  // namespace

#else

struct GraphPool::Handle {};
struct StepGraph::Recording {};
struct StreamScope::Guard {};
struct StreamMark::Event {};

#endif

GraphPool::GraphPool() : handle_(std::make_unique<Handle>()) {}
GraphPool::~GraphPool() = default;

StepGraph::StepGraph(std::function<void()> step, c10::Device device, [[maybe_unused]] const GraphPool& pool)
    : step_(std::move(step)), device_(device) {
#ifdef CREAM_CUDA
  if (!device.is_cuda() || launches_block()) return;
  step_();
  step_();
  if (device_memory(device).free < kRoomToRecord) release_cached_memory();
  recording_ = std::make_unique<Recording>();
  // Other threads may call CUDA meanwhile.
  recording_->graph->capture_begin(pool.handle().id, cudaStreamCaptureModeThreadLocal);
  try {
    step_();
  } catch (...) {
    abandon(std::move(recording_->graph), pool.handle().id, device.index());
    throw;
  }
  recording_->graph->capture_end();
#endif
}
StepGraph::~StepGraph() = default;

void StepGraph::replay() {
  // Events inside a graph cannot be read, so a step whose ops are counted goes by itself.
  if (phases::mode() == phases::Mode::kOps) return step_();
  const PhaseScope whole(Phase::kStep, device_);
#ifdef CREAM_CUDA
  if (recording_ != nullptr) return recording_->graph->replay();
#endif
  step_();
}

StreamScope::StreamScope(c10::Device device) : device_(device) {
  synchronize(device);
#ifdef CREAM_CUDA
  if (device.is_cuda()) {
    guard_.reset(new Guard{c10::cuda::CUDAStreamGuard(stream_for(device.index()))});
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
