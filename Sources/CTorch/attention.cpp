// Attention: the one place that decides which kernel computes it.
#define AT_PER_OPERATOR_HEADERS
#include "flash.h"
#include "handles.h"

#include <ATen/ops/baddbmm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>

#include <cmath>
#include <optional>

using namespace neti;
using at::Tensor;

namespace {

// Measured (Benchmarks/trials.md), on the CPU and forward and backward together:
//
// - Without a mask our own kernel is the fastest or close to it at every length. Where it does not suit,
//   libtorch's fused kernel is the faster one in fp32 at every length. In bf16 it has a slow backward pass, and
//   plain products with a softmax between them are faster below `fused_keys`, as long as their scores fit in
//   `score_bytes`: larger ones are never formed. Other types are taken as bf16 is.
// - With a mask (the text encoder's, at most 77 positions) our kernel does not apply. The fused one takes 0.56 of
//   the time of plain products in fp32 and 3.4 times theirs in bf16.
//
// On other devices libtorch chooses among its own kernels, but for a mask in bf16, which is taken as on the CPU.
constexpr int64_t fused_keys = 1024;
constexpr double score_bytes = 512 << 20;

/// Whether the queries, keys and values are of one batch and so many heads each, and a mask, where there is one, is
/// the same for all of them and is added as it is: what `plain` takes.
bool fits_plain(const Tensor &q, const Tensor &k, const Tensor &v, const std::optional<Tensor> &mask) {
  if (q.dim() != 4 || k.dim() != 4 || v.dim() != 4) return false;
  const auto dtype = q.scalar_type();
  if (k.scalar_type() != dtype || v.scalar_type() != dtype || !at::isFloatingType(dtype)) return false;
  if (q.sizes().slice(0, 2) != k.sizes().slice(0, 2) || q.size(3) != k.size(3) || q.size(3) == 0) return false;
  return !mask || (mask->scalar_type() == dtype && (mask->dim() == 2 || (mask->dim() == 3 && mask->size(0) == 1)));
}

int kernel(const Tensor &q, const Tensor &k, const Tensor &v, const std::optional<Tensor> &mask, bool causal) {
  if (!mask && !causal && suits_flash(q, k, v)) return CT_OWN_ATTENTION;
  if (causal || q.scalar_type() == at::kFloat || !fits_plain(q, k, v, mask)) return CT_FUSED_ATTENTION;
  if (mask) return CT_PLAIN_ATTENTION;
  const double scores = double(q.size(0) * q.size(1)) * double(q.size(2)) * double(k.size(2)) * double(q.element_size());
  return q.device().is_cpu() && k.size(2) < fused_keys && scores <= score_bytes ? CT_PLAIN_ATTENTION : CT_FUSED_ATTENTION;
}

/// softmax(q kᵀ · scale + mask) v, with all scores at once.
Tensor plain(const Tensor &q, const Tensor &k, const Tensor &v, const std::optional<Tensor> &mask, double scale) {
  const int64_t N = q.size(0), heads = q.size(1), L = q.size(2);
  const auto flat = [&](const Tensor &t) { return t.reshape({N * heads, t.size(2), t.size(3)}); };
  const Tensor keys = flat(k).transpose(1, 2);
  // Without a mask, scaling q costs least: it is by far the smallest of what could be scaled.
  const Tensor scores = mask ? at::baddbmm(*mask, flat(q), keys, 1, scale) : at::matmul(flat(at::mul(q, scale)), keys);
  return at::matmul(at::softmax(scores, -1), flat(v)).reshape({N, heads, L, v.size(3)});
}

} // namespace

extern "C" {

ct_tensor ct_attention(ct_tensor q, ct_tensor k, ct_tensor v, ct_tensor mask, bool causal, double scale) {
  return make("attention", {q, k, v, mask}, [&] {
    // The fused kernel does not look at the length of v, and would read past its end.
    const Tensor &queries = borrow(q), &x = borrow(k), &y = borrow(v);
    TORCH_CHECK(x.dim() >= 2 && x.dim() == y.dim() && x.sizes().slice(0, x.dim() - 1) == y.sizes().slice(0, y.dim() - 1),
                "keys and values must differ in their last dimension only");
    const std::optional<Tensor> added = maybe(mask);
    const auto factor = [&] { return scale > 0 ? scale : 1 / std::sqrt(double(x.size(3))); };
    switch (kernel(queries, x, y, added, causal)) {
    case CT_OWN_ATTENTION: return flash_attention(queries, x, y, factor());
    case CT_PLAIN_ATTENTION: return plain(queries, x, y, added, factor());
    default:
      return at::scaled_dot_product_attention(queries, x, y, added, 0.0, causal,
                                              scale > 0 ? std::optional<double>(scale) : std::nullopt);
    }
  });
}

int ct_attention_kernel(ct_tensor q, ct_tensor k, ct_tensor v, ct_tensor mask, bool causal) {
  return kernel(borrow(q), borrow(k), borrow(v), maybe(mask), causal);
}

} // extern "C"
