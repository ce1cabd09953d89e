// A verb as a promise: `work` on the engine thread, then `convert` on the JavaScript thread.
#pragma once

#include <napi.h>

#include <optional>
#include <utility>

#include "addon/engine.h"
#include "addon/errors.h"
#include "addon/instance.h"
#include "ops/device.h"

namespace cream::addon {

// Runs on the JavaScript thread before the promise settles, however the work ended. A returned value that is
// not empty becomes the rejection.
using Epilogue = std::function<Napi::Value(Napi::Env)>;

template <typename Work, typename Convert>
class AsyncJob final : public Job {
 public:
  using Result = std::invoke_result_t<Work&>;

  AsyncJob(Napi::Env env, Work work, Convert convert, Epilogue epilogue)
      : work_(std::move(work)),
        convert_(std::move(convert)),
        epilogue_(std::move(epilogue)),
        deferred_(Napi::Promise::Deferred::New(env)) {}

  void run() noexcept override {
    try {
      if (*cancelled) throw Cancelled();
      result_.emplace((*work_)());
    } catch (...) {
      failure_ = current_failure();
    }
    work_.reset();  // what it holds is released here, not when the promise is collected
    if (failure_ && failure_->code == "OUT_OF_MEMORY") release_cached_memory();
  }

  void settle(napi_env raw_env) override {
    const Napi::Env env(raw_env);
    try {
      const Napi::Value rejection = epilogue_ ? epilogue_(env) : Napi::Value();
      if (!rejection.IsEmpty()) {
        deferred_.Reject(rejection);
      } else if (failure_) {
        deferred_.Reject(to_error(env, *failure_).Value());
      } else {
        deferred_.Resolve(convert_(env, std::move(*result_)));
      }
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    } catch (...) {
      deferred_.Reject(to_error(env, current_failure()).Value());
    }
  }

  Napi::Promise promise() const { return deferred_.Promise(); }

 private:
  std::optional<Work> work_;
  Convert convert_;
  Epilogue epilogue_;
  Napi::Promise::Deferred deferred_;
  std::optional<Result> result_;
  std::optional<Failure> failure_;
};

// `work` must not touch JavaScript and returns a value (Done{} for none); `convert(env, result)` makes the
// promise's value. Both own what they use.
template <typename Work, typename Convert>
Napi::Promise run_async(Napi::Env env, Work work, Convert convert, CancelFlag cancelled = nullptr,
                        Epilogue epilogue = nullptr) {
  auto job = std::make_shared<AsyncJob<Work, Convert>>(env, std::move(work), std::move(convert),
                                                       std::move(epilogue));
  job->channel = Instance::of(env).channel;
  job->cancelled = cancelled ? std::move(cancelled) : std::make_shared<std::atomic<bool>>(false);
  const Napi::Promise promise = job->promise();
  job->channel->begin();
  Engine::get().submit(std::move(job));
  return promise;
}

struct Done {};
inline Napi::Value to_undefined(Napi::Env env, Done) { return env.Undefined(); }

}  // namespace cream::addon
