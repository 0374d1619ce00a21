#include "ctorch_distributed.h"

// c10d's headers name types of Gloo, whose own headers no wheel of PyTorch carries; gloo/ declares these names. c10d
// holds them by pointer, so that it is enough if they compile, as they do with 2.11, 2.13 and 2.15.
#define AT_PER_OPERATOR_HEADERS
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

thread_local std::string last_error;

template <typename F>
auto guarded(F body) noexcept -> decltype(body()) {
  try {
    try {
      return body();
    } catch (const c10::Error &e) {
      last_error = e.what_without_backtrace();
    } catch (const std::exception &e) {
      last_error = e.what();
    } catch (...) {
      last_error = "an unknown error";
    }
  } catch (...) {
    last_error.clear();  // out of memory: an error without words
  }
  return {};
}

std::chrono::milliseconds milliseconds(double seconds) { return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000)); }

}  // namespace

struct ctd_group_s {
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
  std::chrono::milliseconds timeout;
};

extern "C" const char *ctd_last_error(void) { return last_error.c_str(); }

extern "C" ctd_group ctd_join(const char *host, int port, int rank, int size, bool is_client, const char *prefix,
                              const char *interface, bool is_local, double join_seconds, double seconds) {
  // What goes wrong is told by an error; c10d would add a page of its own for each attempt.
  setenv("TORCH_CPP_LOG_LEVEL", "FATAL", 0);
  return guarded([&]() -> ctd_group {
    c10::initLogging();
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(port);
    options.isServer = rank == 0 && !is_client;
    options.numWorkers = size;
    options.waitWorkers = !is_client;
    options.timeout = milliseconds(join_seconds);
    auto tcp = c10::make_intrusive<c10d::TCPStore>(host, options);
    auto store = c10::make_intrusive<c10d::PrefixStore>(prefix, tcp);
    store->setTimeout(milliseconds(join_seconds));
    auto how = c10d::ProcessGroupGloo::Options::create(milliseconds(join_seconds));
    how->devices.push_back(interface      ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
                               : is_local ? c10d::ProcessGroupGloo::createDeviceForHostname(host)
                                          : c10d::ProcessGroupGloo::createDefaultDevice());
    auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, how);
    return new ctd_group_s{gloo, milliseconds(seconds)};
  });
}

extern "C" void ctd_free(ctd_group group) { delete group; }

extern "C" int ctd_sum(ctd_group group, float *values, long n) {
  const bool done = guarded([&]() -> bool {
    std::vector<at::Tensor> tensors{at::from_blob(values, {static_cast<int64_t>(n)}, at::kFloat)};
    c10d::AllreduceOptions options;
    options.timeout = group->timeout;
    group->gloo->allreduce(tensors, options)->wait();
    return true;
  });
  return done ? 0 : 1;
}
