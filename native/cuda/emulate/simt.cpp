#include "cuda/emulate/simt.h"

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

// Saves the caller's registers on its stack and its stack pointer in *save; goes on where `load` was saved.
extern "C" void cream_simt_switch(void** save, void* load);
asm(R"(
.text
.p2align 4
.hidden cream_simt_switch
.globl cream_simt_switch
.type cream_simt_switch, @function
cream_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cream_simt_switch, .-cream_simt_switch
)");

namespace cream::gpu::simt {

constinit thread_local Context context{};

namespace {

constexpr size_t kStackBytes = 128 << 10;
constexpr size_t kSavedRegisters = 6;

enum class State { kReady, kAtWarp, kAtBlock, kDone };

struct Fiber {
  std::unique_ptr<char[]> stack;
  void* pointer = nullptr;
  State state = State::kDone;
  dim3 index;
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<uint64_t> exchange;
  std::vector<TileWords> tiles;
  std::vector<uint64_t> shared;
  const std::function<void()>* thread = nullptr;
  void* scheduler = nullptr;
  Fiber* running = nullptr;
};
thread_local Block block;

[[noreturn]] void fiber_main() {
  (*block.thread)();
  block.running->state = State::kDone;
  cream_simt_switch(&block.running->pointer, block.scheduler);
  __builtin_unreachable();
}

void prepare(Fiber& fiber) {
  if (fiber.stack == nullptr) fiber.stack.reset(new char[kStackBytes]);
  auto top = reinterpret_cast<uintptr_t>(fiber.stack.get() + kStackBytes) & ~uintptr_t{15};
  // fiber_main is entered by `ret`, as if called: the stack is 8 below a multiple of 16.
  auto* slots = reinterpret_cast<void**>(top) - 2 - kSavedRegisters;
  std::fill_n(slots, kSavedRegisters + 2, nullptr);
  slots[kSavedRegisters] = reinterpret_cast<void*>(&fiber_main);
  fiber.pointer = slots;
  fiber.state = State::kReady;
}

void resume(Fiber& fiber, size_t index) {
  context.thread_index = fiber.index;
  context.lane = static_cast<int>(index % kWarp);
  context.exchange = &block.exchange[index / kWarp * kWarp];
  context.tiles = &block.tiles[index / kWarp * kWarp];
  block.running = &fiber;
  cream_simt_switch(&block.scheduler, fiber.pointer);
}

void yield(State state) {
  block.running->state = state;
  cream_simt_switch(&block.running->pointer, block.scheduler);
}

// Runs a warp until all of its threads wait for the block or are done.
void run_warp(size_t begin, size_t end, bool backwards) {
  for (;;) {
    for (size_t i = begin; i < end; ++i) {
      const size_t index = backwards ? end - 1 - (i - begin) : i;
      if (block.fibers[index].state == State::kReady) resume(block.fibers[index], index);
    }
    size_t waiting = 0;
    for (size_t i = begin; i < end; ++i) waiting += block.fibers[i].state == State::kAtWarp;
    if (waiting == 0) return;
    if (waiting != kWarp)
      throw std::logic_error("emulated kernel: a warp barrier that not all 32 threads reach");
    for (size_t i = begin; i < end; ++i) block.fibers[i].state = State::kReady;
  }
}

void run_block(size_t threads, bool backwards) {
  const size_t warps = (threads + kWarp - 1) / kWarp;
  for (;;) {
    for (size_t w = 0; w < warps; ++w) {
      const size_t warp = backwards ? warps - 1 - w : w;
      run_warp(warp * kWarp, std::min(threads, (warp + 1) * kWarp), backwards);
    }
    size_t waiting = 0;
    for (size_t i = 0; i < threads; ++i) waiting += block.fibers[i].state == State::kAtBlock;
    if (waiting == 0) return;
    if (waiting != threads)
      throw std::logic_error("emulated kernel: a block barrier that not all threads reach");
    for (size_t i = 0; i < threads; ++i) block.fibers[i].state = State::kReady;
  }
}

}  // namespace

void wait_for_block() { yield(State::kAtBlock); }

void wait_for_warp(uint32_t mask) {
  // A message and no exception: there is nothing below a fiber's stack that could catch it.
  if (mask != 0xFFFFFFFFu) std::terminate();
  yield(State::kAtWarp);
}

void multiply_tiles(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  TileWords& own = context.tiles[context.lane];
  std::copy_n(a, 4, own.a);
  std::copy_n(b, 2, own.b);
  yield(State::kAtWarp);
  const auto half = [](uint32_t word, int high) {
    return std::bit_cast<float>(high != 0 ? word & 0xFFFF0000u : word << 16);
  };
  const int group = context.lane / 4, quad = context.lane % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = group + i / 2 * 8, column = 2 * quad + i % 2;
    double sum = 0;
    for (int k = 0; k < 16; ++k) {
      const TileWords& of_a = context.tiles[row % 8 * 4 + k % 8 / 2];
      const TileWords& of_b = context.tiles[column * 4 + k % 8 / 2];
      sum += double(half(of_a.a[row / 8 + k / 8 * 2], k % 2)) * double(half(of_b.b[k / 8], k % 2));
    }
    d[i] += static_cast<float>(sum);
  }
  yield(State::kAtWarp);
}

void run(dim3 grid, dim3 size, size_t shared, const std::function<void()>& thread) {
  const size_t threads = size_t{size.x} * size.y * size.z;
  if (threads == 0 || threads > kMaxThreads || grid.x == 0 || grid.y == 0 || grid.z == 0)
    throw std::logic_error("emulated kernel: a grid without threads or a block of more than 1024");
  if (block.fibers.size() < threads) block.fibers.resize(threads);
  block.exchange.assign((threads + kWarp - 1) / kWarp * kWarp, 0);
  block.tiles.resize(block.exchange.size());
  block.thread = &thread;
  context.block_size = size;
  context.grid_size = grid;
  size_t count = 0;
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        block.shared.assign((shared + 23) / 8, ~uint64_t{0});
        context.shared =
            reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(block.shared.data()) + 15) & ~uintptr_t{15});
        context.block_index = {x, y, z};
        for (size_t i = 0; i < threads; ++i) {
          const auto n = static_cast<unsigned>(i);
          block.fibers[i].index = {n % size.x, n / size.x % size.y, n / size.x / size.y};
          prepare(block.fibers[i]);
        }
        run_block(threads, count++ % 2 == 1);
      }
    }
  }
}

}  // namespace cream::gpu::simt
