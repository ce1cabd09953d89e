// Where the time of a verb goes: per kind of work, by events on the GPU's stream, by the clock on the CPU,
// whose ops end when they return. Off unless asked for: then an op costs one comparison more.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <vector>

namespace cream {

enum class Phase { kGemm, kAttention, kElementwise, kHead, kSampler, kOptimizer, kStep };

namespace phases {

// kOps counts each op. What is inside a CUDA graph cannot be seen, so a generator runs its steps without
// graphs meanwhile. kSteps leaves them as they are and counts a recorded step as one piece of work: for how
// long the device had nothing to do.
enum class Mode { kOff, kOps, kSteps };

// Forgets what was counted and goes on in this mode.
void set_mode(Mode mode);
Mode mode();

struct Total {
  const char* name;
  double seconds;
  int64_t count;
};
// Waits for the device.
std::vector<Total> totals();

}  // namespace phases

// Counts the work between construction and destruction. Inside another one it counts nothing: the outermost
// names it.
class PhaseScope {
 public:
  PhaseScope(Phase phase, c10::Device device);
  ~PhaseScope();
  PhaseScope(const PhaseScope&) = delete;
  PhaseScope& operator=(const PhaseScope&) = delete;

 private:
  enum class Kind { kOff, kNested, kUnseen, kClock, kEvents };
  Kind kind_ = Kind::kOff;
};

}  // namespace cream
