// How the memory of tensors on the CPU comes from glibc.
#include "ctorch.h"

#include <c10/core/CPUAllocator.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__GLIBC__)
#include <malloc.h>

namespace {

/// Aligns within what `malloc` gives.
///
/// libtorch's own allocator asks for aligned memory, and glibc (2.36) looks for a hole that is larger than
/// that and splits what it does not need off: a tensor that was freed leaves a hole that one of the same size
/// does not fit into. Over a training step of Stable Diffusion that is half a gigabyte of holes.
struct Allocator final : c10::Allocator {
  static constexpr size_t alignment = 64;

  c10::DataPtr allocate(size_t n) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (n == 0) return {nullptr, nullptr, &release, cpu};
    void *base = n <= PTRDIFF_MAX - alignment ? std::malloc(n + alignment) : nullptr;
    TORCH_CHECK(base, "not enough memory: ", n, " bytes were asked for");
    // The next multiple after `base`, which malloc aligned to more than a pointer's size.
    void **data = reinterpret_cast<void **>((reinterpret_cast<uintptr_t>(base) / alignment + 1) * alignment);
    data[-1] = base;
    return {data, data, &release, cpu};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void *to, const void *from, size_t n) const override { std::memcpy(to, from, n); }

 private:
  static void release(void *data) {
    if (data) std::free(static_cast<void **>(data)[-1]);
  }
};

} // namespace
#endif

extern "C" {

void ct_tune_allocator(void) {
#if defined(__GLIBC__)
  // Tensors over 32 MB would otherwise be mapped, and their pages cleared, at every allocation.
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_TOP_PAD, 64 << 20);
  // libtorch keeps it to the end of the process.
  static Allocator *allocator = new Allocator;
  c10::SetCPUAllocator(allocator, 1);
#endif
}

} // extern "C"
