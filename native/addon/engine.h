// The one thread of the process that computes. Verbs are jobs that it runs in order, whichever JavaScript
// environment (main thread or worker) they come from: OpenMP keeps a pool of threads per calling thread.
#pragma once

#include <node_api.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "model/model.h"

namespace cream::addon {

// Delivers messages to the JavaScript thread of one environment, and keeps its event loop alive while jobs
// are pending. Survives the environment: what comes later is dropped.
class Channel {
 public:
  using Message = std::function<void(napi_env)>;

  static std::shared_ptr<Channel> open(napi_env env);

  // JavaScript thread: a job begins, a job was settled.
  void begin();
  void finish();

  // Any thread. The message runs on the JavaScript thread, or is destroyed on an arbitrary one.
  void post(Message message);
  bool is_closed() const;

 private:
  static void call_js(napi_env env, napi_value function, void* context, void* data);
  static void on_cleanup(void* data);
  void close();

  napi_env env_ = nullptr;
  mutable std::mutex mutex_;
  bool closed_ = false;
  napi_threadsafe_function function_ = nullptr;
  int64_t pending_ = 0;
};

struct Job {
  virtual ~Job() = default;
  virtual void run() noexcept = 0;        // engine thread
  virtual void settle(napi_env env) = 0;  // JavaScript thread, after run
  std::shared_ptr<Channel> channel;
  CancelFlag cancelled;
};

class Engine {
 public:
  // Created at first use and never destroyed: static destructors must not meet a working thread.
  static Engine& get();

  void submit(std::shared_ptr<Job> job);

  // Drops the last reference to something after the jobs before it, on the engine thread.
  void release(std::shared_ptr<void> object);

  // Applies to the jobs that follow.
  void set_threads(int threads);
  int threads() const;

  // Cancels the jobs of a channel, or all of them.
  void cancel(const Channel* channel);

  bool has_waiting() const;

  // For the end of the process: accepts nothing any more, cancels everything, and waits at most this long
  // until the thread is idle. True when it is.
  bool shut_down(int timeout_ms);

 private:
  Engine() = default;
  void loop();
  void enqueue(std::function<void()> task, std::shared_ptr<Job> job);

  struct Item {
    std::function<void()> task;  // for engine-internal work
    std::shared_ptr<Job> job;    // or a verb
  };

  mutable std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::deque<Item> queue_;
  std::shared_ptr<Job> running_;
  bool busy_ = false;
  bool started_ = false;
  bool stopped_ = false;
  int threads_ = 0;
};

}  // namespace cream::addon
