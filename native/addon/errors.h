// An exception of the engine as what JavaScript gets: an Error with a stable `code` (lib/errors.ts).
#pragma once

#include <napi.h>

#include <string>

namespace cream::addon {

struct Failure {
  std::string code;
  std::string message;
};

// Describes the exception in flight; only inside a catch block.
Failure current_failure();

Napi::Error to_error(Napi::Env env, const Failure& failure);

// A wrong argument, found at the door.
struct InvalidArgument : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// Runs a synchronous export's body; what it throws becomes a JavaScript exception with a code.
template <typename Body>
Napi::Value guarded(Napi::Env env, const Body& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;  // already a JavaScript exception
  } catch (...) {
    throw to_error(env, current_failure());
  }
}

// The same for an export that returns a promise: the promise rejects.
template <typename Body>
Napi::Value guarded_promise(Napi::Env env, const Body& body) {
  const auto reject = [&](const Napi::Error& error) {
    const auto deferred = Napi::Promise::Deferred::New(env);
    deferred.Reject(error.Value());
    return deferred.Promise();
  };
  try {
    return body();
  } catch (const Napi::Error& error) {
    return reject(error);
  } catch (...) {
    return reject(to_error(env, current_failure()));
  }
}

}  // namespace cream::addon
