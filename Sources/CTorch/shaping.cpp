// Moving, copying and shaping.
#define AT_PER_OPERATOR_HEADERS
#include "handles.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/index_copy.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/scatter.h>
#include <ATen/ops/stack.h>

using namespace neti;

extern "C" {

ct_tensor ct_to(ct_tensor t, int dtype, int device, int index, int memory_format, bool copy) {
  return make("to", {t}, [&] { return borrow(t).to(options(dtype, device, index), false, copy, format(memory_format)); });
}
ct_tensor ct_contiguous(ct_tensor t, int memory_format) {
  return make("contiguous", {t}, [&] { return borrow(t).contiguous(format(memory_format)); });
}
ct_tensor ct_clone(ct_tensor t) {
  return make("clone", {t}, [&] { return borrow(t).clone(); });
}
int ct_copy_into(ct_tensor destination, ct_tensor source) {
  return perform("copy_", {destination, source}, [&] {
    at::NoGradGuard guard;
    borrow(destination).copy_(borrow(source));
  });
}
ct_tensor ct_reshape(ct_tensor t, const int64_t *sizes, int rank) {
  return make("reshape", {t}, [&] { return borrow(t).reshape(shape(sizes, rank)); });
}
ct_tensor ct_permute(ct_tensor t, const int64_t *dims, int rank) {
  return make("permute", {t}, [&] { return borrow(t).permute(shape(dims, rank)); });
}
ct_tensor ct_transpose(ct_tensor t, int64_t a, int64_t b) {
  return make("transpose", {t}, [&] { return borrow(t).transpose(a, b); });
}
ct_tensor ct_unsqueeze(ct_tensor t, int64_t dim) {
  return make("unsqueeze", {t}, [&] { return borrow(t).unsqueeze(dim); });
}
ct_tensor ct_squeeze(ct_tensor t, int64_t dim) {
  return make("squeeze", {t}, [&] { return borrow(t).squeeze(dim); });
}
ct_tensor ct_expand(ct_tensor t, const int64_t *sizes, int rank) {
  return make("expand", {t}, [&] { return borrow(t).expand(shape(sizes, rank)); });
}
ct_tensor ct_slice(ct_tensor t, int64_t dim, int64_t start, int64_t end, int64_t step) {
  return make("slice", {t}, [&] {
    // libtorch would clamp the range in silence.
    const int64_t size = borrow(t).size(dim);
    TORCH_CHECK(start >= 0 && start <= end && end <= size, "range ", start, "..<", end, " of dimension ", dim, ", which has ",
                size);
    return borrow(t).slice(dim, start, end, step);
  });
}
ct_tensor ct_select(ct_tensor t, int64_t dim, int64_t index) {
  return make("select", {t}, [&] { return borrow(t).select(dim, index); });
}
ct_tensor ct_index_select(ct_tensor t, int64_t dim, ct_tensor index) {
  return make("index_select", {t, index}, [&] { return at::index_select(borrow(t), dim, borrow(index)); });
}
ct_tensor ct_index_copy(ct_tensor t, int64_t dim, ct_tensor index, ct_tensor source) {
  return make("index_copy", {t, index, source}, [&] { return at::index_copy(borrow(t), dim, borrow(index), borrow(source)); });
}
ct_tensor ct_gather(ct_tensor t, int64_t dim, ct_tensor index) {
  return make("gather", {t, index}, [&] { return at::gather(borrow(t), dim, borrow(index)); });
}
ct_tensor ct_scatter(ct_tensor t, int64_t dim, ct_tensor index, ct_tensor source) {
  return make("scatter", {t, index, source}, [&] { return at::scatter(borrow(t), dim, borrow(index), borrow(source)); });
}
ct_tensor ct_repeat_interleave(ct_tensor t, int64_t n, int64_t dim) {
  return make("repeat_interleave", {t}, [&] { return borrow(t).repeat_interleave(n, dim); });
}
ct_tensor ct_flip(ct_tensor t, int64_t dim) {
  return make("flip", {t}, [&] { return at::flip(borrow(t), {dim}); });
}
ct_tensor ct_cat(const ct_tensor *tensors, int n, int64_t dim) {
  return make("cat", {n > 0 ? tensors[0] : nullptr, n > 1 ? tensors[1] : nullptr}, [&] { return at::cat(list(tensors, n), dim); });
}
ct_tensor ct_stack(const ct_tensor *tensors, int n, int64_t dim) {
  return make("stack", {n > 0 ? tensors[0] : nullptr, n > 1 ? tensors[1] : nullptr},
              [&] { return at::stack(list(tensors, n), dim); });
}
ct_tensor ct_pad(ct_tensor t, const int64_t *amounts, int n, double value) {
  return make("pad", {t}, [&] { return at::constant_pad_nd(borrow(t), shape(amounts, n), value); });
}

} // extern "C"
