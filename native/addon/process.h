// What the addon does to its process: ending it cleanly while the engine works, ending it with its parent,
// and tuning its allocator.
#pragma once

namespace cream::addon {

// From here on a process that ends while the engine works leaves at once, with the exit code that Node gave:
// static destructors must not run under the engine. The latest registration runs first.
void guard_exit();

// Makes exit(), whoever calls it on the main thread, cancel the engine's work and wait for it shortly before
// anything is destroyed. On any thread it calls guard_exit.
void stop_engine_on_exit();

// Linux: the kernel ends this process when the one that started it dies.
void die_with_parent();

// Keeps big buffers in the process between steps. For a process of our own: it changes malloc for everyone.
void tune_malloc();

}  // namespace cream::addon
