#include "addon/response_stream.h"

#include <chrono>

#include "addon/convert.h"
#include "addon/errors.h"

namespace cream::addon {

namespace {

constexpr int kMaxInFlight = 256;
constexpr std::chrono::milliseconds kPoll{20};  // how soon a cancellation is seen while waiting

}  // namespace

ResponseStream::ResponseStream(std::shared_ptr<Channel> channel, const Napi::Function& on_response,
                               CancelFlag cancelled)
    : channel_(std::move(channel)),
      cancelled_(std::move(cancelled)),
      on_response_(Napi::Persistent(on_response)) {
  // The last owner may be the engine thread, after the environment has gone and freed its references itself.
  on_response_.SuppressDestruct();
  thrown_.SuppressDestruct();
}

void ResponseStream::push(Response&& response) {
  {
    std::unique_lock lock(mutex_);
    while (in_flight_ >= kMaxInFlight && !*cancelled_ && !Engine::get().has_waiting())
      acknowledged_.wait_for(lock, kPoll);
    if (*cancelled_) throw Cancelled();
    ++in_flight_;
  }
  auto shared = std::make_shared<Response>(std::move(response));
  channel_->post([self = shared_from_this(), shared](napi_env env) { self->deliver(env, *shared); });
}

void ResponseStream::acknowledge() {
  {
    const std::lock_guard lock(mutex_);
    --in_flight_;
  }
  acknowledged_.notify_one();
}

void ResponseStream::deliver(Napi::Env env, const Response& response) {
  if (*cancelled_) {
    has_dropped_ = true;
    return acknowledge();
  }
  const Napi::HandleScope scope(env);
  try {
    auto object = Napi::Object::New(env);
    object.Set("promptIndex", static_cast<double>(response.prompt_index));
    object.Set("sample", static_cast<double>(response.sample));
    object.Set("ids", to_int32_array(env, response.ids));
    object.Set("logprobs", to_float32_array(env, response.logprobs));
    object.Set("finishReason", response.finish_reason == FinishReason::kStop ? "stop" : "length");
    const Napi::Value result = on_response_.Value().Call({object});
    if (!result.IsPromise()) return acknowledge();
    const auto settled = Napi::Function::New(
        env, [self = shared_from_this()](const Napi::CallbackInfo&) { self->acknowledge(); });
    result.As<Napi::Object>().Get("then").As<Napi::Function>().Call(result, {settled, settled});
  } catch (const Napi::Error& error) {
    *cancelled_ = true;
    if (thrown_.IsEmpty()) {
      thrown_ = Napi::Reference<Napi::Value>::New(error.Value(), 1);
      thrown_.SuppressDestruct();
    }
    acknowledge();
  }
}

Napi::Value ResponseStream::finish(Napi::Env env) {
  on_response_.Reset();
  if (!thrown_.IsEmpty()) {
    const Napi::Value value = thrown_.Value();
    thrown_.Reset();
    return value;
  }
  if (!has_dropped_) return {};
  // The engine may have been done before the cancellation; without this the call would end as if it had
  // delivered everything.
  try {
    throw Cancelled();
  } catch (...) {
    return to_error(env, current_failure()).Value();
  }
}

}  // namespace cream::addon
