// Tensors out of nothing, memory and random numbers, and what is in them.
#define AT_PER_OPERATOR_HEADERS
#include "handles.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>

#include <cstring>
#include <memory>

using namespace neti;

struct ct_generator_s {
  at::Generator generator;
};

extern "C" {

void ct_free(ct_tensor t) {
  if (t) c10::intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>::reclaim(reinterpret_cast<c10::TensorImpl *>(t));
}

ct_tensor ct_empty(const int64_t *sizes, int rank, int dtype, int device, int index) {
  return make("empty", {}, [&] { return at::empty(shape(sizes, rank), options(dtype, device, index)); });
}
ct_tensor ct_full(const int64_t *sizes, int rank, double value, int dtype, int device, int index) {
  return make("full", {}, [&] { return at::full(shape(sizes, rank), value, options(dtype, device, index)); });
}
ct_tensor ct_arange(double start, double end, double step, int dtype) {
  return make("arange", {}, [&] { return at::arange(start, end, step, options(dtype)); });
}
ct_tensor ct_from_data(const void *data, size_t bytes, const int64_t *sizes, int rank, int dtype) {
  return make("from_data", {}, [&] {
    at::Tensor t = at::empty(shape(sizes, rank), options(dtype));
    TORCH_CHECK(t.nbytes() == bytes, "shape ", t.sizes(), " needs ", t.nbytes(), " bytes, got ", bytes);
    if (bytes) std::memcpy(t.mutable_data_ptr(), data, bytes);
    return t;
  });
}
ct_tensor ct_from_blob(void *data, const int64_t *sizes, int rank, int dtype, void (*release)(void *), void *context) {
  return make("from_blob", {}, [&] {
    // Released once, whether from_blob fails before or after it took the deleter.
    std::shared_ptr<void> owner(context, release);
    return at::from_blob(data, shape(sizes, rank), [owner](void *) {}, options(dtype));
  });
}

// ---- random numbers

ct_generator ct_generator_new(uint64_t seed) {
  try {
    return new ct_generator_s{at::make_generator<at::CPUGeneratorImpl>(seed)};
  } catch (const std::exception &e) {
    last_error = e.what();
    return nullptr;
  }
}
void ct_generator_free(ct_generator g) { delete g; }
ct_tensor ct_randn(ct_generator g, const int64_t *sizes, int rank, int dtype) {
  return make("randn", {}, [&] { return at::randn(shape(sizes, rank), g->generator, options(dtype)); });
}
ct_tensor ct_rand(ct_generator g, const int64_t *sizes, int rank, int dtype) {
  return make("rand", {}, [&] { return at::rand(shape(sizes, rank), g->generator, options(dtype)); });
}
ct_tensor ct_randint(ct_generator g, int64_t low, int64_t high, const int64_t *sizes, int rank) {
  return make("randint", {}, [&] { return at::randint(low, high, shape(sizes, rank), g->generator, options(CT_INT64)); });
}
ct_tensor ct_randperm(ct_generator g, int64_t n) {
  return make("randperm", {}, [&] { return at::randperm(n, g->generator, options(CT_INT64)); });
}

// ---- looking

int ct_rank(ct_tensor t) { return static_cast<int>(borrow(t).dim()); }
int64_t ct_size(ct_tensor t, int dim) { return borrow(t).sizes()[static_cast<size_t>(dim)]; }
int64_t ct_stride(ct_tensor t, int dim) { return borrow(t).strides()[static_cast<size_t>(dim)]; }
int64_t ct_numel(ct_tensor t) { return borrow(t).numel(); }
int ct_dtype(ct_tensor t) { return static_cast<int>(borrow(t).scalar_type()); }
int ct_device(ct_tensor t, int *index) {
  auto d = borrow(t).device();
  *index = d.has_index() ? d.index() : 0;
  return static_cast<int>(d.type());
}
bool ct_is_contiguous(ct_tensor t) { return borrow(t).is_contiguous(); }
bool ct_requires_grad(ct_tensor t) { return borrow(t).requires_grad(); }
int ct_copy_out(ct_tensor t, void *out, size_t bytes) {
  return perform("copy_out", {t}, [&] {
    at::Tensor x = borrow(t).detach().to(c10::kCPU).contiguous();
    TORCH_CHECK(x.nbytes() == bytes, "holds ", x.nbytes(), " bytes, asked for ", bytes);
    if (bytes) std::memcpy(out, x.const_data_ptr(), bytes);
  });
}

} // extern "C"
