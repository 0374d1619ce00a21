// Layers that libtorch has as they are; those that differ for frozen weights are in frozen.cpp.
#define AT_PER_OPERATOR_HEADERS
#include "flash.h"
#include "handles.h"

#include <ATen/ops/baddbmm.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/upsample_nearest2d.h>

#include <cmath>
#include <optional>

using namespace neti;

extern "C" {

ct_tensor ct_matmul(ct_tensor a, ct_tensor b) { return make("matmul", {a, b}, [&] { return at::matmul(borrow(a), borrow(b)); }); }
ct_tensor ct_baddbmm(ct_tensor input, ct_tensor a, ct_tensor b, double beta, double alpha) {
  return make("baddbmm", {input, a, b}, [&] { return at::baddbmm(borrow(input), borrow(a), borrow(b), beta, alpha); });
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
ct_tensor ct_attention(ct_tensor q, ct_tensor k, ct_tensor v, ct_tensor mask, bool causal, double scale) {
  return make("attention", {q, k, v, mask}, [&] {
    // The fused kernel does not look at the length of v, and would read past its end.
    const at::Tensor &x = borrow(k), &y = borrow(v);
    TORCH_CHECK(x.dim() >= 2 && x.dim() == y.dim() && x.sizes().slice(0, x.dim() - 1) == y.sizes().slice(0, y.dim() - 1),
                "keys and values must differ in their last dimension only");
    if (!mask && !causal && neti::suits_flash(borrow(q), x, y))
      return neti::flash_attention(borrow(q), x, y, scale > 0 ? scale : 1 / std::sqrt(double(x.size(3))));
    return at::scaled_dot_product_attention(borrow(q), borrow(k), borrow(v), maybe(mask), 0.0, causal,
                                            scale > 0 ? std::optional<double>(scale) : std::nullopt);
  });
}
bool ct_has_flash(ct_tensor q, ct_tensor k, ct_tensor v) { return neti::suits_flash(borrow(q), borrow(k), borrow(v)); }
ct_tensor ct_upsample_nearest(ct_tensor x, int64_t height, int64_t width) {
  return make("upsample_nearest", {x}, [&] { return at::upsample_nearest2d(borrow(x), {height, width}); });
}

} // extern "C"
