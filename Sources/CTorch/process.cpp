// The library, its devices and its threads.
#define AT_PER_OPERATOR_HEADERS
#include "handles.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <torch/version.h>

#include <dlfcn.h>

#include <string>

static_assert(TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 11),
              "neti needs libtorch 2.11 or newer: run scripts/setup.py, or point LIBTORCH at one");

using namespace neti;

extern "C" {

const char *ct_last_error(void) { return last_error.c_str(); }

const char *ct_version(void) { return TORCH_VERSION; }
// A CUDA build keeps its kernels in a library that nothing links to, so that one binary serves both
// builds. It must be loaded before libtorch first asks for CUDA, since the answer is kept.
static std::string cuda_problem;
static bool load_cuda() {
  static const bool loaded = [] {
    if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL)) {
      // fp32 is fp32 unless someone asks for less; libtorch's convolutions would not be.
      at::globalContext().setAllowTF32CuBLAS(false);
      at::globalContext().setAllowTF32CuDNN(false);
      return true;
    }
    const char *reason = dlerror();
    cuda_problem = reason ? reason : "libtorch_cuda.so was not loaded";
    return false;
  }();
  return loaded;
}
const char *ct_cuda_problem(void) {
  try {
    return load_cuda() ? (ct_cuda_device_count() > 0 ? "" : "no CUDA device is visible") : cuda_problem.c_str();
  } catch (...) {
    return "CUDA failed to start";
  }
}
int ct_allow_tf32(bool on) {
  return perform("allow_tf32", {}, [&] {
    at::globalContext().setAllowTF32CuBLAS(on);
    at::globalContext().setAllowTF32CuDNN(on);
  });
}
bool ct_mps_available(void) {
  try {
    return at::hasMPS();
  } catch (...) {
    return false;
  }
}
int ct_cuda_device_count(void) {
  try {
    return load_cuda() && at::hasCUDA()
        ? static_cast<int>(at::globalContext().getAcceleratorHooksInterface(c10::DeviceType::CUDA).deviceCount())
        : 0;
  } catch (...) {
    return 0;
  }
}
int ct_set_threads(int n) {
  return perform("set_num_threads", {}, [&] { at::set_num_threads(n); });
}
int ct_threads(void) { return at::get_num_threads(); }

} // extern "C"
