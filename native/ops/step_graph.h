// A step of kernels that is recorded once and then started as a whole: a CUDA graph on a GPU; elsewhere the
// function itself.
#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <memory>

namespace cream::gpu {

// Memory that the recordings of one owner share; they run one after another.
class GraphPool {
 public:
  GraphPool();
  ~GraphPool();
  GraphPool(const GraphPool&) = delete;
  GraphPool& operator=(const GraphPool&) = delete;

  struct Handle;
  const Handle& handle() const { return *handle_; }

 private:
  std::unique_ptr<Handle> handle_;
};

class StepGraph {
 public:
  // On a GPU `step` runs twice before it is recorded, for what libraries set up in first calls. It must not
  // wait for the device, and what it reads and writes must keep its address. The current stream must not be
  // the default one. With CUDA_LAUNCH_BLOCKING=1 nothing is recorded.
  StepGraph(std::function<void()> step, c10::Device device, const GraphPool& pool);
  ~StepGraph();
  StepGraph(const StepGraph&) = delete;
  StepGraph& operator=(const StepGraph&) = delete;

  void replay();

 private:
  struct Recording;
  std::function<void()> step_;
  c10::Device device_;
  std::unique_ptr<Recording> recording_;
};

// While it lives, this thread's work goes to a stream of its own, which begins after the work before it and
// is done when it ends. A device has one such stream: memory that the allocator keeps and the workspaces of
// cuBLAS belong to a stream.
class StreamScope {
 public:
  explicit StreamScope(c10::Device device);
  ~StreamScope();
  StreamScope(const StreamScope&) = delete;
  StreamScope& operator=(const StreamScope&) = delete;

 private:
  struct Guard;
  c10::Device device_;
  std::unique_ptr<Guard> guard_;
};

// A point of the current stream that the host can wait for.
class StreamMark {
 public:
  explicit StreamMark(c10::Device device);
  ~StreamMark();
  StreamMark(StreamMark&&) noexcept;
  StreamMark& operator=(StreamMark&&) noexcept;
  void wait();

 private:
  struct Event;
  std::unique_ptr<Event> event_;
};

}  // namespace cream::gpu
