#include "addon/errors.h"

#include <c10/util/Exception.h>

#include <new>
#include <stdexcept>

#include "model/model.h"
#include "model/safetensors.h"

namespace cream::addon {

namespace {

// LibTorch on the CPU reports a failed allocation as a plain error.
bool is_allocation_failure(const std::string& message) {
  return message.find("DefaultCPUAllocator") != std::string::npos &&
         message.find("allocate memory") != std::string::npos;
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
    return {"OUT_OF_MEMORY", error.what_without_backtrace()};
  } catch (const c10::ValueError& error) {
    return {"INVALID_ARGUMENT", error.what_without_backtrace()};
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    return {is_allocation_failure(message) ? "OUT_OF_MEMORY" : "TORCH", message};
  } catch (const std::bad_alloc&) {
    return {"OUT_OF_MEMORY", "the engine ran out of memory"};
  } catch (const std::exception& error) {
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
