// Exports of the bench: what matrix products and copies reach on this machine, by the calls that the ops
// make, and what counting an op costs.
#include "addon/machine_speed.h"

#include <ATen/Functions.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <thread>

#include "addon/errors.h"
#include "addon/test_device.h"
#include "ops/host_memory.h"
#include "ops/linear.h"
#include "ops/phases.h"

namespace cream {

namespace {

using addon::Argument;
using addon::TestDevice;
using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// Repeats `call` and waits; returns the seconds of one.
double repeat(const std::function<void()>& call, int64_t times) {
  const auto begin = Clock::now();
  for (int64_t i = 0; i < times; ++i) call();
  synchronize(TestDevice::current());
  return since(begin) / static_cast<double>(times);
}

struct Rate {
  double burst;      // seconds of a call, best of five bursts, each after a rest
  double sustained;  // the mean over all that was asked for, after a third of it
  double seconds;    // in which it was counted
};

// A GPU that has rested runs at clocks that its power does not allow for long.
Rate rate_of(const std::function<void()>& call, double seconds) {
  constexpr double kBurst = 0.02, kChunk = 0.05;
  constexpr auto kRest = std::chrono::milliseconds(100);
  repeat(call, 2);  // libraries choose their kernels
  const double once = std::max(repeat(call, 1), 1e-7);
  const auto times = [&](double span) { return std::max<int64_t>(1, static_cast<int64_t>(span / once)); };
  Rate rate{once, 0, 0};
  for (int burst = 0; burst < 5; ++burst) {
    std::this_thread::sleep_for(kRest);
    rate.burst = std::min(rate.burst, repeat(call, times(kBurst)));
  }
  for (auto begin = Clock::now(); since(begin) < seconds / 3;) repeat(call, times(kChunk));
  int64_t calls = 0;
  const auto begin = Clock::now();
  while (rate.seconds < seconds) {
    repeat(call, times(kChunk));
    calls += times(kChunk);
    rate.seconds = since(begin);
  }
  rate.sustained = rate.seconds / static_cast<double>(calls);
  rate.burst = std::min(rate.burst, rate.sustained);
  return rate;
}

Napi::Value to_object(Napi::Env env, const Rate& rate) {
  auto output = Napi::Object::New(env);
  output.Set("burst", rate.burst);
  output.Set("sustained", rate.sustained);
  output.Set("seconds", rate.seconds);
  return output;
}

// _productSpeed({rows, k, n, seconds, device}) -> {burst, sustained, seconds}: of one product of bfloat16
// [rows, k] and [n, k]. Its numbers are random: zeros take less power, so that a product of them is faster.
Napi::Value ProductSpeed(const Napi::CallbackInfo& info) {
  c10::InferenceMode no_grad;
  const auto options = info[0].As<Napi::Object>();
  const TestDevice scope(options);
  const Argument given(options, "_productSpeed: options");
  constexpr int64_t kMost = 1 << 20;
  const int64_t rows = given.field("rows").integer(1, kMost), k = given.field("k").integer(1, kMost),
                n = given.field("n").integer(1, kMost);
  const auto like = at::TensorOptions().device(TestDevice::current()).dtype(at::kBFloat16);
  const at::Tensor x = at::randn({rows, k}, like), w = at::randn({n, k}, like).mul_(0.02);
  return to_object(info.Env(), rate_of([&] { cream::linear(x, w); }, given.field("seconds").number(0, 600)));
}

// _copySpeed({bytes, kind, seconds, device}) -> the same, of one copy: 'device' within it, 'in' from pinned
// memory of the host, 'out' to it.
Napi::Value CopySpeed(const Napi::CallbackInfo& info) {
  c10::InferenceMode no_grad;
  const auto options = info[0].As<Napi::Object>();
  const TestDevice scope(options);
  const Argument given(options, "_copySpeed: options");
  const int64_t bytes = given.field("bytes").integer(1, int64_t{1} << 40);
  const size_t kind = given.field("kind").choice({"device", "in", "out"});
  const at::Device device = TestDevice::current();
  const auto on_device = [&] {
    return at::zeros({bytes}, at::TensorOptions().device(device).dtype(at::kByte));
  };
  const at::Tensor a = on_device();
  const at::Tensor b = kind == 0 ? on_device() : gpu::host_bytes(bytes, device.is_cuda());
  const at::Tensor &from = kind == 1 ? b : a, &to = kind == 1 ? a : b;
  return to_object(info.Env(), rate_of([&] { to.copy_(from, /*non_blocking=*/true); },
                                       given.field("seconds").number(0, 600)));
}

// _countingCost({device, count}) -> seconds that an op is seen to take which does nothing: what its two
// events take between them, while the device has other work before them.
Napi::Value CountingCost(const Napi::CallbackInfo& info) {
  c10::InferenceMode no_grad;
  const auto options = info[0].As<Napi::Object>();
  const TestDevice scope(options);
  const int64_t count = Argument(options, "_countingCost: options").field("count").integer(1, 1 << 15);
  const at::Device device = TestDevice::current();
  // Some ten milliseconds of other work on a large GPU: the host is done with the events before it ends.
  const int64_t rows = device.is_cuda() ? 8192 : 1, copies = device.is_cuda() ? 256 : 1;
  const at::Tensor x = at::zeros({rows, 4096}, at::TensorOptions().device(device).dtype(at::kBFloat16));
  const at::Tensor y = at::empty_like(x);
  phases::set_mode(phases::Mode::kOff);
  double seconds = 0;
  for (int round = 0; round < 2; ++round) {  // events are made in the first
    phases::set_mode(phases::Mode::kOps);
    for (int64_t i = 0; i < copies; ++i) y.copy_(x);
    for (int64_t i = 0; i < count; ++i) const PhaseScope nothing(Phase::kElementwise, device);
    seconds = phases::totals()[static_cast<size_t>(Phase::kElementwise)].seconds;
  }
  phases::set_mode(phases::Mode::kOff);
  return Napi::Number::New(info.Env(), seconds / static_cast<double>(count));
}

template <Napi::Value (*function)(const Napi::CallbackInfo&)>
Napi::Value checked(const Napi::CallbackInfo& info) {
  return addon::guarded(info.Env(), [&] { return function(info); });
}

}  // namespace

void register_machine_speed(Napi::Env env, Napi::Object exports) {
  exports.Set("_productSpeed", Napi::Function::New(env, checked<ProductSpeed>));
  exports.Set("_copySpeed", Napi::Function::New(env, checked<CopySpeed>));
  exports.Set("_countingCost", Napi::Function::New(env, checked<CountingCost>));
}

}  // namespace cream
