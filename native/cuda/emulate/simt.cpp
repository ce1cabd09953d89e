#include "cuda/emulate/simt.h"

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
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

// A barrier's word, from its lowest bit: parity of the phase (1), arrivals of a phase (15), arrivals that are
// missing (16), bytes that are missing (32, signed).
struct BarrierWord {
  uint32_t parity : 1, arrivals : 15, missing : 16;
  int32_t bytes;
};
static_assert(sizeof(BarrierWord) == sizeof(uint64_t));

bool has_ended(uint64_t word, uint32_t parity) { return std::bit_cast<BarrierWord>(word).parity != parity; }

void put(uint64_t* barrier, BarrierWord word) {
  if (word.missing == 0 && word.bytes == 0) {
    word.parity ^= 1;
    word.missing = word.arrivals;
  }
  *barrier = std::bit_cast<uint64_t>(word);
}

struct BulkCopy {
  void* to;
  const void* from;
  uint32_t bytes;
  uint64_t* barrier;
};

void complete(const BulkCopy& copy) {
  std::memcpy(copy.to, copy.from, copy.bytes);
  auto word = std::bit_cast<BarrierWord>(*copy.barrier);
  word.bytes -= static_cast<int32_t>(copy.bytes);
  put(copy.barrier, word);
}
constexpr size_t kSavedRegisters = 6;

enum class State { kReady, kAtWarp, kAtBlock, kAtPhase, kDone };

struct Fiber {
  std::unique_ptr<char[]> stack;
  void* pointer = nullptr;
  State state = State::kDone;
  dim3 index;
  const uint64_t* barrier = nullptr;  // whose phase it waits for
  uint32_t parity = 0;
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<uint64_t> exchange;
  std::vector<TileWords> tiles;
  std::vector<const void*> addresses;
  std::vector<uint64_t> shared;
  std::vector<BulkCopy> copies;  // that have not arrived
  bool is_late = false;          // copies arrive when nothing else can go on, else at once
  const char* error = nullptr;
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
  context.addresses = &block.addresses[index / kWarp * kWarp];
  block.running = &fiber;
  cream_simt_switch(&block.scheduler, fiber.pointer);
  if (block.error != nullptr) throw std::logic_error(std::string("emulated kernel: ") + block.error);
}

void yield(State state) {
  block.running->state = state;
  cream_simt_switch(&block.running->pointer, block.scheduler);
}

// The thread that runs cannot throw: there is nothing below a fiber's stack that could catch it.
void fail(const char* message) {
  block.error = message;
  yield(State::kDone);
}

// Runs a warp until all of its threads wait for the block, for a phase that has not ended, or are done. True
// if any of them ran.
bool run_warp(size_t begin, size_t end, bool backwards) {
  bool has_run = false;
  for (;;) {
    bool runs = false;
    size_t waiting = 0, in_phase = 0;
    for (size_t i = begin; i < end; ++i) {
      const size_t index = backwards ? end - 1 - (i - begin) : i;
      Fiber& fiber = block.fibers[index];
      if (fiber.state == State::kAtPhase && has_ended(*fiber.barrier, fiber.parity))
        fiber.state = State::kReady;
      if (fiber.state != State::kReady) continue;
      resume(fiber, index);
      runs = true;
    }
    has_run |= runs;
    for (size_t i = begin; i < end; ++i) {
      waiting += block.fibers[i].state == State::kAtWarp;
      in_phase += block.fibers[i].state == State::kAtPhase;
    }
    if (waiting == kWarp) {
      for (size_t i = begin; i < end; ++i) block.fibers[i].state = State::kReady;
    } else if (!runs) {
      if (waiting > 0 && in_phase == 0)
        throw std::logic_error("emulated kernel: a warp barrier that not all 32 threads reach");
      return has_run;
    }
  }
}

void run_block(size_t threads, bool backwards) {
  const size_t warps = (threads + kWarp - 1) / kWarp;
  const auto all_are = [&](State state) {
    return std::all_of(block.fibers.begin(), block.fibers.begin() + static_cast<ptrdiff_t>(threads),
                       [&](const Fiber& fiber) { return fiber.state == state; });
  };
  const auto any_is = [&](State state) {
    return std::any_of(block.fibers.begin(), block.fibers.begin() + static_cast<ptrdiff_t>(threads),
                       [&](const Fiber& fiber) { return fiber.state == state; });
  };
  for (;;) {
    bool has_run = false;
    for (size_t w = 0; w < warps; ++w) {
      const size_t warp = backwards ? warps - 1 - w : w;
      has_run |= run_warp(warp * kWarp, std::min(threads, (warp + 1) * kWarp), backwards);
    }
    if (has_run) continue;
    if (all_are(State::kDone)) break;
    if (all_are(State::kAtBlock)) {
      for (size_t i = 0; i < threads; ++i) block.fibers[i].state = State::kReady;
    } else if (!any_is(State::kAtPhase)) {
      throw std::logic_error("emulated kernel: a block barrier that not all threads reach");
    } else if (!block.copies.empty()) {
      // The last first: copies arrive in no order.
      const BulkCopy copy = block.copies.back();
      block.copies.pop_back();
      complete(copy);
    } else {
      throw std::logic_error("emulated kernel: a wait for a phase that nobody ends");
    }
  }
  if (!block.copies.empty())
    throw std::logic_error("emulated kernel: a bulk copy that nobody has waited for");
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

void init_barrier(uint64_t* barrier, int arrivals) {
  if (arrivals < 1 || arrivals >= 1 << 15)
    return fail("a barrier of less than 1 or more than 32767 arrivals");
  const auto count = static_cast<uint32_t>(arrivals);
  *barrier = std::bit_cast<uint64_t>(BarrierWord{0, count & 0x7FFF, count & 0xFFFF, 0});
}

void arrive(uint64_t* barrier, uint32_t bytes) {
  auto word = std::bit_cast<BarrierWord>(*barrier);
  if (word.missing == 0) return fail("more arrivals at a barrier than its phase has");
  word.bytes += static_cast<int32_t>(bytes);
  word.missing -= 1;
  put(barrier, word);
}

void wait_for_phase(const uint64_t* barrier, uint32_t parity) {
  block.running->barrier = barrier;
  block.running->parity = parity;
  yield(State::kAtPhase);
}

void copy_bulk(void* to, const void* from, uint32_t bytes, uint64_t* barrier) {
  if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from) | bytes) % 16 != 0 || bytes == 0)
    return fail("a bulk copy whose ends or length are no multiples of 16 bytes");
  const BulkCopy copy{to, from, bytes, barrier};
  if (block.is_late) {
    block.copies.push_back(copy);
  } else {
    complete(copy);
  }
}

void load_matrices(uint32_t (&words)[4], const void* row, bool transposed) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0)
    return fail("a row of a matrix that does not begin at a multiple of 16 bytes");
  context.addresses[context.lane] = row;
  yield(State::kAtWarp);
  const int group = context.lane / 4, quad = context.lane % 4;
  for (int m = 0; m < 4; ++m) {
    uint16_t halves[2];
    for (int i = 0; i < 2; ++i) {
      const int at_row = transposed ? 2 * quad + i : group, column = transposed ? group : 2 * quad + i;
      halves[i] = static_cast<const uint16_t*>(context.addresses[8 * m + at_row])[column];
    }
    words[m] = halves[0] | static_cast<uint32_t>(halves[1]) << 16;
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
  block.addresses.resize(block.exchange.size());
  block.thread = &thread;
  context.block_size = size;
  context.grid_size = grid;
  size_t count = 0;
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        block.copies.clear();
        block.error = nullptr;
        block.is_late = count % 2 == 0;
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
