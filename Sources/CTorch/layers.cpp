// Layers that libtorch has as they are; those that differ for frozen weights are in frozen.cpp.
#define AT_PER_OPERATOR_HEADERS
#include "handles.h"

#include <ATen/ops/embedding.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/upsample_nearest2d.h>

using namespace neti;

extern "C" {

ct_tensor ct_matmul(ct_tensor a, ct_tensor b) {
  return make("matmul", {a, b}, [&] { return at::matmul(borrow(a), borrow(b)); });
}
ct_tensor ct_layer_norm(ct_tensor x, ct_tensor weight, ct_tensor bias, double eps) {
  return make("layer_norm", {x, weight, bias}, [&] {
    const at::Tensor &w = borrow(weight);
    return at::layer_norm(borrow(x), w.sizes(), w, maybe(bias), eps);
  });
}
ct_tensor ct_embedding(ct_tensor weight, ct_tensor indices) {
  return make("embedding", {weight, indices}, [&] { return at::embedding(borrow(weight), borrow(indices)); });
}
ct_tensor ct_upsample_nearest(ct_tensor x, int64_t height, int64_t width) {
  return make("upsample_nearest", {x}, [&] { return at::upsample_nearest2d(borrow(x), {height, width}); });
}

} // extern "C"
