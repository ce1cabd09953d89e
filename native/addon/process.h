// What the addon does to its process: ending it cleanly while the engine works, ending it with its parent,
// and tuning its allocator.
#pragma once

#include <napi.h>

namespace cream::addon {

// Makes the end of the process wait shortly for the engine, or leave without running static destructors under
// it, with the exit code that Node gave. The latest registration runs first, so calling it again is useful.
void guard_exit();

// Calls guard_exit and stops the engine when the main thread's `process` emits 'exit'.
void stop_engine_on_exit(Napi::Env env);

// Linux: the kernel ends this process when the one that started it dies.
void die_with_parent();

// Keeps big buffers in the process between steps. For a process of our own: it changes malloc for everyone.
void tune_malloc();

}  // namespace cream::addon
