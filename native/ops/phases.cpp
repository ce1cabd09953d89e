#include "ops/phases.h"

#include <atomic>
#include <chrono>
#ifdef CREAM_CUDA
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#endif

namespace cream {

namespace {

constexpr const char* kNames[] = {"gemm", "attention", "elementwise", "head", "sampler", "optimizer", "step"};
constexpr size_t kNumPhases = std::size(kNames);

using Clock = std::chrono::steady_clock;

struct Span {
  size_t phase;
#ifdef CREAM_CUDA
  c10::Device device{c10::kCPU};
  cudaEvent_t begin = nullptr, end = nullptr;
#endif
};

// Of the engine thread, like the ops that it counts; only the switch is read from elsewhere.
std::atomic<phases::Mode> counting{phases::Mode::kOff};
int depth = 0;
size_t current = 0;
Clock::time_point started;
double seconds[kNumPhases];
int64_t counts[kNumPhases];

#ifdef CREAM_CUDA
std::vector<Span> spans;
std::vector<cudaEvent_t> free_events;
constexpr size_t kMostSpans =
    1 << 16;  // events are a resource of the driver: collected before there are too many

cudaEvent_t take_event() {
  cudaEvent_t event = nullptr;
  if (free_events.empty()) {
    C10_CUDA_CHECK(cudaEventCreate(&event));
  } else {
    event = free_events.back();
    free_events.pop_back();
  }
  return event;
}

bool is_capturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  return cudaStreamIsCapturing(stream, &status) != cudaSuccess || status != cudaStreamCaptureStatusNone;
}

void collect() {
  for (const Span& span : spans) {
    float milliseconds = 0;
    C10_CUDA_CHECK(cudaEventSynchronize(span.end));
    C10_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, span.begin, span.end));
    seconds[span.phase] += milliseconds / 1e3;
    free_events.insert(free_events.end(), {span.begin, span.end});
  }
  spans.clear();
}
#endif

}  // namespace

void phases::set_mode(Mode mode) {
#ifdef CREAM_CUDA
  collect();
#endif
  std::fill(std::begin(seconds), std::end(seconds), 0);
  std::fill(std::begin(counts), std::end(counts), 0);
  counting = mode;
}

phases::Mode phases::mode() { return counting; }

std::vector<phases::Total> phases::totals() {
#ifdef CREAM_CUDA
  collect();
#endif
  std::vector<Total> result;
  for (size_t i = 0; i < kNumPhases; ++i) result.push_back({kNames[i], seconds[i], counts[i]});
  return result;
}

PhaseScope::PhaseScope(Phase phase, [[maybe_unused]] c10::Device device) {
  if (counting == phases::Mode::kOff) return;
  kind_ = depth++ > 0 ? Kind::kNested : Kind::kClock;
  if (kind_ == Kind::kNested) return;
  current = static_cast<size_t>(phase);
  ++counts[current];
#ifdef CREAM_CUDA
  if (device.is_cuda()) {
    const auto stream = c10::cuda::getCurrentCUDAStream(device.index()).stream();
    kind_ = is_capturing(stream) ? Kind::kUnseen : Kind::kEvents;
    if (kind_ == Kind::kUnseen) return;
    if (spans.size() == kMostSpans) collect();
    spans.push_back({current, device, take_event(), take_event()});
    C10_CUDA_CHECK(cudaEventRecord(spans.back().begin, stream));
    return;
  }
#endif
  started = Clock::now();
}

PhaseScope::~PhaseScope() {
  if (kind_ == Kind::kOff) return;
  --depth;
#ifdef CREAM_CUDA
  if (kind_ == Kind::kEvents) {
    const auto stream = c10::cuda::getCurrentCUDAStream(spans.back().device.index()).stream();
    static_cast<void>(cudaEventRecord(spans.back().end, stream));
  }
#endif
  if (kind_ == Kind::kClock)
    seconds[current] += std::chrono::duration<double>(Clock::now() - started).count();
}

}  // namespace cream
