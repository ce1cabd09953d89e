#include "ops/cpu_features.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string_view>

#ifdef __x86_64__
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace cream::cpu {

namespace {

enum class Level { kBaseline, kAvx2, kAvx512, kAvx512Bf16, kAmxBf16 };

constexpr std::array<const char*, 5> kNames{"baseline", "avx2", "avx512", "avx512_bf16", "amx_bf16"};
const char* name_of(Level level) { return kNames[static_cast<size_t>(level)]; }

// A name and the level that it stands for.
struct Named {
  const char* name;
  Level level;
};

// The level of the compiler's own instructions, which is also that of the kernels that could be compiled.
constexpr Level kCompiled =
#if defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__AVX512BF16__)
    Level::kAmxBf16;
#elif defined(__AVX512BF16__) && defined(__AVX512BW__)
    Level::kAvx512Bf16;
#elif defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && \
    defined(__AVX512VL__)
    Level::kAvx512;
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
    Level::kAvx2;
#else
    Level::kBaseline;
#endif

#ifdef __x86_64__

struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r;
  __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);
  return r;
}

// The registers that the operating system saves when it switches threads (XCR0).
uint64_t saved_registers() {
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

bool has_bits(uint64_t word, std::initializer_list<int> bits) {
  return std::all_of(bits.begin(), bits.end(), [&](int bit) { return word >> bit & 1; });
}

// Linux hands out the tile registers on request, once per process.
bool request_tiles() {
#ifdef __linux__
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

Level machine_level() {
  const Registers basic = cpuid(1, 0);
  const bool saves = has_bits(basic.c, {27});  // OSXSAVE: xgetbv may be asked
  const uint64_t saved = saves ? saved_registers() : 0;
  const Registers more = cpuid(7, 0), most = cpuid(7, 1);
  if (!has_bits(saved, {1, 2}) || !has_bits(basic.c, {12, 29}) || !has_bits(more.b, {5}))
    return Level::kBaseline;
  if (!has_bits(saved, {5, 6, 7}) || !has_bits(more.b, {16, 17, 28, 30, 31})) return Level::kAvx2;
  if (!has_bits(most.a, {5})) return Level::kAvx512;
  if (!has_bits(saved, {17, 18}) || !has_bits(more.d, {22, 24}) || !request_tiles())
    return Level::kAvx512Bf16;
  return Level::kAmxBf16;
}

bool machine_is_intel() {
  const Registers r = cpuid(0, 0);
  return r.b == 0x756e6547 && r.d == 0x49656e69 && r.c == 0x6c65746e;  // "GenuineIntel"
}

#else

Level machine_level() { return Level::kBaseline; }
bool machine_is_intel() { return false; }

#endif

// The other libraries' variables: each value's level. A value that is not listed limits nothing here, as the
// library itself passes over what it does not know.
constexpr std::array kAten{Named{"default", Level::kBaseline}, Named{"avx2", Level::kAvx2}};
constexpr std::array kOnednn{Named{"sse41", Level::kBaseline},
                             Named{"avx", Level::kBaseline},
                             Named{"avx2", Level::kAvx2},
                             Named{"avx2_vnni", Level::kAvx2},
                             Named{"avx2_vnni_2", Level::kAvx2},
                             Named{"avx512_core", Level::kAvx512},
                             Named{"avx512_core_vnni", Level::kAvx512},
                             Named{"avx512_core_bf16", Level::kAvx512Bf16},
                             Named{"avx512_core_fp16", Level::kAvx512Bf16},
                             Named{"avx10_1_512", Level::kAvx512Bf16}};
constexpr std::array kMkl{Named{"sse4_2", Level::kBaseline},  Named{"avx", Level::kBaseline},
                          Named{"avx2", Level::kAvx2},        Named{"avx2_e1", Level::kAvx2},
                          Named{"avx512", Level::kAvx512},    Named{"avx512_e1", Level::kAvx512},
                          Named{"avx512_e2", Level::kAvx512}, Named{"avx512_e3", Level::kAvx512Bf16}};

// What the libraries are told for each level of CREAM_CPU; null where they need no limit.
struct Limits {
  const char *aten, *onednn, *mkl;
};
constexpr std::array<Limits, 5> kLimits{Limits{"default", "SSE41", "SSE4_2"}, Limits{"avx2", "AVX2", "AVX2"},
                                        Limits{"avx512", "AVX512_CORE", "AVX512"},
                                        Limits{"avx512", "AVX512_CORE_BF16", "AVX512_E3"},
                                        Limits{nullptr, nullptr, nullptr}};

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

// Empty where the variable is not set.
std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// The level at most, and why.
struct Cap {
  Level level;
  std::string reason;

  void lower_to(Level other, const std::string& why) {
    if (other < level) *this = {other, why};
  }
  template <typename Values>
  void lower_by(const char* name, const Values& values) {
    const std::string value = variable(name);
    const auto found = std::find_if(values.begin(), values.end(),
                                    [&](const Named& known) { return lower(value) == known.name; });
    if (found != values.end()) lower_to(found->level, std::string(name) + "=" + value);
  }
};

Cap highest() {
  Cap cap{machine_level(), "this CPU and its operating system"};
  cap.lower_to(kCompiled, "what the addon was compiled for (-march)");
  cap.lower_by("ATEN_CPU_CAPABILITY", kAten);
  cap.lower_by(std::getenv("ONEDNN_MAX_CPU_ISA") ? "ONEDNN_MAX_CPU_ISA" : "DNNL_MAX_CPU_ISA", kOnednn);
  cap.lower_by("MKL_ENABLE_INSTRUCTIONS", kMkl);
  return cap;
}

struct Features {
  Level level;
  bool intel;
};

Features read_features() {
  const Cap cap = highest();
  Features features{cap.level, machine_is_intel()};
  if (const std::string wish = variable("CREAM_CPU"); !wish.empty()) {
    const auto found = std::find(kNames.begin(), kNames.end(), wish);
    if (found == kNames.end()) {
      throw std::invalid_argument("CREAM_CPU must be baseline, avx2, avx512, avx512_bf16 or amx_bf16, got '" +
                                  wish + "'");
    }
    features.level = static_cast<Level>(found - kNames.begin());
    if (features.level > cap.level) {
      throw std::invalid_argument("CREAM_CPU=" + wish + " is more than " + name_of(cap.level) +
                                  ", the limit of " + cap.reason);
    }
  }
  if (const std::string wish = variable("CREAM_CPU_VENDOR"); !wish.empty()) {
    if (wish != "intel" && wish != "other") {
      throw std::invalid_argument("CREAM_CPU_VENDOR must be intel or other, got '" + wish + "'");
    }
    features.intel = wish == "intel";
  }
  return features;
}

const Features& features() {
  static const Features read = read_features();
  return read;
}

}  // namespace

bool has_avx2() { return features().level >= Level::kAvx2; }
bool has_avx512() { return features().level >= Level::kAvx512; }
bool has_avx512_bf16() { return features().level >= Level::kAvx512Bf16; }
bool has_amx_bf16() { return features().level >= Level::kAmxBf16; }
bool is_intel() { return features().intel; }

std::string path() { return std::string(name_of(features().level)) + (is_intel() ? " intel" : " other"); }

void configure() {
  const Limits& limits = kLimits[static_cast<size_t>(features().level)];
  if (variable("CREAM_CPU").empty()) return;
  // Only where the caller has set none: a limit of theirs is as low as CREAM_CPU or has its own reason.
  const auto limit = [](const char* name, const char* value) {
    if (value != nullptr) setenv(name, value, /*overwrite=*/0);
  };
  limit("ATEN_CPU_CAPABILITY", limits.aten);
  if (std::getenv("DNNL_MAX_CPU_ISA") == nullptr) limit("ONEDNN_MAX_CPU_ISA", limits.onednn);
  limit("MKL_ENABLE_INSTRUCTIONS", limits.mkl);
}

}  // namespace cream::cpu
