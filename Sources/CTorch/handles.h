// Handles as tensors, and exceptions as the calling thread's last error: what every C function is made of.
#ifndef CTORCH_HANDLES_H
#define CTORCH_HANDLES_H

#include "ctorch.h"

#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <optional>
#include <sstream>
#include <string>

namespace neti {

inline thread_local std::string last_error;

inline at::Tensor &borrow(ct_tensor &handle) {
  // An at::Tensor is one pointer to its TensorImpl; the handle is that pointer.
  static_assert(sizeof(at::Tensor) == sizeof(ct_tensor));
  return reinterpret_cast<at::Tensor &>(handle);
}

inline ct_tensor give(at::Tensor &&t) { return reinterpret_cast<ct_tensor>(t.unsafeReleaseTensorImpl()); }

inline void describe(const char *operation, std::initializer_list<ct_tensor> inputs, const char *message) {
  std::ostringstream s;
  s << operation << '(';
  bool first = true;
  for (ct_tensor t : inputs) {
    if (!first) s << ", ";
    first = false;
    if (!t) {
      s << "none";
      continue;
    }
    const at::Tensor &x = borrow(t);
    s << x.sizes() << ' ' << c10::toString(x.scalar_type());
  }
  s << "): " << message;
  last_error = s.str();
}

inline void fail(const char *operation, std::initializer_list<ct_tensor> inputs, const char *message) noexcept {
  try {
    describe(operation, inputs, message);
  } catch (...) {
    last_error.clear();  // out of memory: an error without words
  }
}

/// Whether `body` ran to its end; else `last_error` says why.
template <typename F>
bool succeeds(const char *operation, std::initializer_list<ct_tensor> inputs, F body) {
  try {
    body();
    return true;
  } catch (const c10::Error &e) {
    fail(operation, inputs, e.what_without_backtrace());
  } catch (const std::exception &e) {
    fail(operation, inputs, e.what());
  } catch (...) {
    fail(operation, inputs, "an unknown error");
  }
  return false;
}

/// The tensor that `body` makes, or none after an error.
template <typename F>
ct_tensor make(const char *operation, std::initializer_list<ct_tensor> inputs, F body) {
  ct_tensor result = nullptr;
  succeeds(operation, inputs, [&] { result = give(body()); });
  return result;
}

/// 0, or 1 after an error.
template <typename F>
int perform(const char *operation, std::initializer_list<ct_tensor> inputs, F body) {
  return succeeds(operation, inputs, body) ? 0 : 1;
}

inline std::optional<at::Tensor> maybe(ct_tensor t) { return t ? std::optional<at::Tensor>(borrow(t)) : std::nullopt; }

} // namespace neti

#endif
