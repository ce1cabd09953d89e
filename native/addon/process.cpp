#include "addon/process.h"

#include <malloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "addon/engine.h"

namespace cream::addon {

namespace {

// Longer than a verb takes to see that it was cancelled, mostly; short enough for process.exit().
constexpr int kExitWaitMs = 500;

// Handlers run last in, first out, among them the destructors of static objects. What libraries made at their
// first use (oneDNN, MKL, ATen's operators) came after this one and is gone already, so that a thread at work
// must not go on.
void on_process_exit(int status, void*) {
  if (Engine::get().shut_down(0)) return;
  std::fflush(nullptr);
  ::_exit(status);
}

// glibc's exit() destroys the thread-local objects of the thread that calls it before it runs any handler,
// however late that was registered. So here the engine still has everything that it works with.
struct ExitWatch {
  ~ExitWatch() {
    if (!Engine::get().shut_down(kExitWaitMs)) guard_exit();
  }
};

bool is_main_thread() { return ::syscall(SYS_gettid) == ::getpid(); }

const pid_t kParentAtStart = ::getppid();

}  // namespace

void guard_exit() { ::on_exit(on_process_exit, nullptr); }

void stop_engine_on_exit() {
  guard_exit();
  // The end of a worker is not the end of the process.
  if (is_main_thread()) static thread_local const ExitWatch watch;
}

void die_with_parent() {
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
    throw std::runtime_error(std::string("dieWithParent: ") + std::strerror(errno));
  // The parent may have died before the call.
  if (::getppid() != kParentAtStart) ::raise(SIGKILL);
}

void tune_malloc() {
  // glibc before 2.35 accepts at most 32 MiB.
  if (::mallopt(M_MMAP_THRESHOLD, 1 << 30) == 0) ::mallopt(M_MMAP_THRESHOLD, 32 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 2'000'000'000);
  ::mallopt(M_TOP_PAD, 64 << 20);
}

}  // namespace cream::addon
