#include "addon/engine.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <napi.h>

#include <chrono>
#include <thread>

#include "addon/process.h"

namespace cream::addon {

std::shared_ptr<Channel> Channel::open(napi_env env) {
  auto channel = std::make_shared<Channel>();
  channel->env_ = env;
  napi_value name = nullptr;
  if (napi_create_string_utf8(env, "cream", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, nullptr,
                                      &Channel::call_js, &channel->function_) != napi_ok)
    throw std::runtime_error("the addon cannot connect to the event loop");
  napi_unref_threadsafe_function(env, channel->function_);
  // Hooks run last in, first out: this one before the thread-safe function's own.
  napi_add_env_cleanup_hook(env, &Channel::on_cleanup, new std::shared_ptr<Channel>(channel));
  return channel;
}

void Channel::begin() {
  if (pending_++ == 0) napi_ref_threadsafe_function(env_, function_);
}

void Channel::finish() {
  if (--pending_ == 0) napi_unref_threadsafe_function(env_, function_);
}

bool Channel::is_closed() const {
  const std::lock_guard lock(mutex_);
  return closed_;
}

void Channel::post(Message message) {
  auto data = std::make_unique<Message>(std::move(message));
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  if (napi_call_threadsafe_function(function_, data.get(), napi_tsfn_nonblocking) == napi_ok)
    static_cast<void>(data.release());  // call_js owns it
}

void Channel::call_js(napi_env env, napi_value, void*, void* data) {
  const std::unique_ptr<Message> message(static_cast<Message*>(data));
  if (env == nullptr) return;
  try {
    (*message)(env);
  } catch (const Napi::Error&) {
    // Messages handle the errors of user code themselves. What is left is a terminated worker, in which no
    // JavaScript can run and nobody waits for the message.
  }
}

void Channel::on_cleanup(void* data) {
  const std::unique_ptr<std::shared_ptr<Channel>> channel(static_cast<std::shared_ptr<Channel>*>(data));
  (*channel)->close();
}

void Channel::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    napi_release_threadsafe_function(function_, napi_tsfn_abort);
  }
  Engine::get().cancel(this);
  guard_exit();
}

Engine& Engine::get() {
  static Engine* engine = new Engine();
  return *engine;
}

void Engine::enqueue(std::function<void()> task, std::shared_ptr<Job> job) {
  const std::lock_guard lock(mutex_);
  queue_.push_back({std::move(task), std::move(job)});
  if (!started_ && !stopped_) {
    started_ = true;
    std::thread([this] { loop(); }).detach();
  }
  wake_.notify_one();
}

void Engine::submit(std::shared_ptr<Job> job) { enqueue(nullptr, std::move(job)); }

void Engine::release(std::shared_ptr<void> object) {
  if (object == nullptr) return;
  enqueue([object = std::move(object)]() mutable { object.reset(); }, nullptr);
}

void Engine::set_threads(int threads) {
  {
    const std::lock_guard lock(mutex_);
    threads_ = threads;
  }
  // The number belongs to the calling thread.
  enqueue([threads] { at::set_num_threads(threads); }, nullptr);
}

int Engine::threads() const {
  const std::lock_guard lock(mutex_);
  return threads_ > 0 ? threads_ : at::get_num_threads();
}

void Engine::cancel(const Channel* channel) {
  const std::lock_guard lock(mutex_);
  const auto mark = [&](const std::shared_ptr<Job>& job) {
    if (job != nullptr && (channel == nullptr || job->channel.get() == channel)) *job->cancelled = true;
  };
  mark(running_);
  for (const auto& item : queue_) mark(item.job);
}

bool Engine::has_waiting() const {
  const std::lock_guard lock(mutex_);
  for (const auto& item : queue_)
    if (item.job != nullptr) return true;
  return false;
}

bool Engine::shut_down(int timeout_ms) {
  cancel(nullptr);
  std::unique_lock lock(mutex_);
  stopped_ = true;
  return idle_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [this] { return !busy_; });
}

void Engine::loop() {
  const at::NoGradGuard no_grad;
  std::unique_lock lock(mutex_);
  while (true) {
    // Once stopped, what is queued stays where it is: the process ends.
    wake_.wait(lock, [this] { return !stopped_ && !queue_.empty(); });
    Item item = std::move(queue_.front());
    queue_.pop_front();
    running_ = item.job;
    busy_ = true;
    lock.unlock();
    if (item.task) {
      item.task();
    } else if (!item.job->channel->is_closed()) {
      item.job->run();
      const auto channel = item.job->channel;
      channel->post([job = item.job](napi_env env) {
        job->channel->finish();
        job->settle(env);
      });
    }
    // The job may hold a model's last reference: it goes on this thread, before the next job needs the
    // memory.
    {
      const std::lock_guard relock(mutex_);
      running_ = nullptr;
    }
    item = {};
    lock.lock();
    busy_ = false;
    idle_.notify_all();
  }
}

}  // namespace cream::addon
