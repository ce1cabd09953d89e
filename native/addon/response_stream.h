// Responses on their way from the engine to a JavaScript callback, a bounded number at a time.
#pragma once

#include <napi.h>

#include <condition_variable>
#include <mutex>

#include "addon/engine.h"
#include "generate/generate.h"

namespace cream::addon {

class ResponseStream : public std::enable_shared_from_this<ResponseStream> {
 public:
  ResponseStream(std::shared_ptr<Channel> channel, const Napi::Function& on_response, CancelFlag cancelled);

  // Engine thread. Waits while too many responses are with JavaScript: a response counts until the callback
  // has returned, or until the promise that it returned has settled. Never waits while another verb is
  // queued, which the callback's owner may be waiting for. Throws Cancelled.
  void push(Response&& response);

  // JavaScript thread, at the end: lets go of the callback. Returns what the callback threw, if it did, and
  // the error of a cancelled verb where a response was on its way when the cancellation came.
  Napi::Value finish(Napi::Env env);

 private:
  void deliver(Napi::Env env, const Response& response);
  void acknowledge();

  const std::shared_ptr<Channel> channel_;
  const CancelFlag cancelled_;
  // JavaScript thread only.
  Napi::FunctionReference on_response_;
  Napi::Reference<Napi::Value> thrown_;
  bool has_dropped_ = false;

  std::mutex mutex_;
  std::condition_variable acknowledged_;
  int in_flight_ = 0;
};

}  // namespace cream::addon
