#include "addon/errors.h"

#include <c10/util/Exception.h>

#include <array>
#include <new>
#include <regex>
#include <stdexcept>

#include "model/model.h"
#include "model/safetensors.h"
#include "ops/device.h"

namespace cream::addon {

namespace {

// LibTorch on the CPU reports a failed allocation as a plain error.
bool is_allocation_failure(const std::string& message) {
  return message.find("DefaultCPUAllocator") != std::string::npos &&
         message.find("allocate memory") != std::string::npos;
}

// "GPU 0 has a total capacity of 139.81 GiB of which ..." without what LibTorch advises users of Python to
// do.
std::string device_memory_message(const std::string& message) {
  static const std::regex kNumbers(
      R"(Tried to allocate ([\d.]+ \w+)\. GPU (\d+) has a total capacity of ([\d.]+ \w+) of which ([\d.]+ \w+) is free)");
  static const std::regex kOwn(R"(Of the allocated memory ([\d.]+ \w+) is allocated by PyTorch)");
  std::smatch numbers, own;
  if (!std::regex_search(message, numbers, kNumbers)) return message.substr(0, message.find('\n'));
  const std::string device = "cuda:" + numbers.str(2);
  const std::string used = std::regex_search(message, own, kOwn) ? ", " + own.str(1) + " in tensors" : "";
  return device + " is out of memory: " + numbers.str(1) + " more were asked for; it has " + numbers.str(3) +
         ", of which " + numbers.str(4) + " are free" + used;
}

// A failure of CUDA by its text. After some errors every later call of the process fails.
Failure cuda_failure(const std::string& message) {
  constexpr std::array kLost{"device-side assert",
                             "illegal memory access",
                             "illegal instruction",
                             "misaligned address",
                             "invalid address space",
                             "invalid program counter",
                             "unspecified launch failure",
                             "hardware stack error",
                             "launch timed out",
                             "uncorrectable",
                             "unknown error",
                             "context is destroyed",
                             "external device has",
                             "Contained",
                             "fallen off the bus"};
  const std::string first = message.substr(0, message.find('\n'));
  for (const char* text : kLost) {
    if (first.find(text) == std::string::npos) continue;
    return {"ENGINE_LOST",
            first +
                "; the GPU can do nothing more for this process: start it again (a run continues "
                "where it was). CUDA_LAUNCH_BLOCKING=1 shows which call failed"};
  }
  const bool no_memory = first.find("out of memory") != std::string::npos ||
                         first.find("STATUS_ALLOC_FAILED") != std::string::npos;
  return {no_memory ? "OUT_OF_MEMORY" : "TORCH", first};
}

bool is_of_cuda(const std::string& message) {
  return message.rfind("CUDA error", 0) == 0 || message.rfind("a CUDA kernel", 0) == 0;
}

}  // namespace

Failure current_failure() {
  try {
    throw;
  } catch (const Cancelled& error) {
    return {"ABORTED", error.what()};
  } catch (const InvalidArgument& error) {
    return {"INVALID_ARGUMENT", error.what()};
  } catch (const safetensors::IoError& error) {
    return {"IO", error.what()};
  } catch (const safetensors::Error& error) {
    return {"INVALID_CHECKPOINT", error.what()};
  } catch (const c10::OutOfMemoryError& error) {
    return {"OUT_OF_MEMORY", device_memory_message(error.what_without_backtrace())};
  } catch (const c10::ValueError& error) {
    return {"INVALID_ARGUMENT", error.what_without_backtrace()};
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    if (is_of_cuda(message)) return cuda_failure(message);
    return {is_allocation_failure(message) ? "OUT_OF_MEMORY" : "TORCH", message};
  } catch (const std::bad_alloc&) {
    return {"OUT_OF_MEMORY", "the engine ran out of memory"};
  } catch (const DeviceError& error) {
    return {"ENVIRONMENT", error.what()};
  } catch (const std::exception& error) {
    if (is_of_cuda(error.what())) return cuda_failure(error.what());
    return {"NATIVE", error.what()};
  } catch (...) {
    return {"NATIVE", "an unknown exception"};
  }
}

Napi::Error to_error(Napi::Env env, const Failure& failure) {
  Napi::Error error = Napi::Error::New(env, failure.message);
  error.Set("code", failure.code);
  return error;
}

}  // namespace cream::addon
