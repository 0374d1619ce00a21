// Elementwise functions and reductions.
#define AT_PER_OPERATOR_HEADERS
#include "frozen.h"
#include "handles.h"

#include <ATen/ops/abs.h>
#include <ATen/ops/add.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/amin.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/div.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/floor.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/log.h>
#include <ATen/ops/lt.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/mish.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/neg.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/round.h>
#include <ATen/ops/rsub.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/square.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/where.h>

#include <iterator>
#include <vector>

using namespace neti;

extern "C" {

// One operation a line.
// clang-format off
ct_tensor ct_add(ct_tensor a, ct_tensor b) { return make("add", {a, b}, [&] { return at::add(borrow(a), borrow(b)); }); }
ct_tensor ct_sub(ct_tensor a, ct_tensor b) { return make("sub", {a, b}, [&] { return at::sub(borrow(a), borrow(b)); }); }
ct_tensor ct_mul(ct_tensor a, ct_tensor b) { return make("mul", {a, b}, [&] { return at::mul(borrow(a), borrow(b)); }); }
ct_tensor ct_div(ct_tensor a, ct_tensor b) { return make("div", {a, b}, [&] { return at::div(borrow(a), borrow(b)); }); }
ct_tensor ct_add_scalar(ct_tensor a, double b) { return make("add", {a}, [&] { return at::add(borrow(a), b); }); }
ct_tensor ct_mul_scalar(ct_tensor a, double b) { return make("mul", {a}, [&] { return at::mul(borrow(a), b); }); }
ct_tensor ct_div_scalar(ct_tensor a, double b) { return make("div", {a}, [&] { return at::div(borrow(a), b); }); }
ct_tensor ct_rsub_scalar(ct_tensor a, double b) { return make("rsub", {a}, [&] { return at::rsub(borrow(a), b); }); }
ct_tensor ct_pow_scalar(ct_tensor a, double b) { return make("pow", {a}, [&] { return at::pow(borrow(a), b); }); }
int ct_add_(ct_tensor a, ct_tensor b, double alpha) {
  return perform("add_", {a, b}, [&] { borrow(a).add_(borrow(b), alpha); });
}
int ct_mul_(ct_tensor a, double b) { return perform("mul_", {a}, [&] { borrow(a).mul_(b); }); }
int ct_zero_(ct_tensor a) { return perform("zero_", {a}, [&] { borrow(a).zero_(); }); }
ct_tensor ct_leaky_relu(ct_tensor a, double slope) { return make("leaky_relu", {a}, [&] { return at::leaky_relu(borrow(a), slope); }); }
ct_tensor ct_clamp(ct_tensor a, double low, double high) { return make("clamp", {a}, [&] { return at::clamp(borrow(a), low, high); }); }
ct_tensor ct_less(ct_tensor a, ct_tensor b) { return make("lt", {a, b}, [&] { return at::lt(borrow(a), borrow(b)); }); }
ct_tensor ct_where(ct_tensor c, ct_tensor a, ct_tensor b) { return make("where", {c, a, b}, [&] { return at::where(borrow(c), borrow(a), borrow(b)); }); }
ct_tensor ct_softmax(ct_tensor a, int64_t dim) { return make("softmax", {a}, [&] { return at::softmax(borrow(a), dim); }); }
ct_tensor ct_mse_loss(ct_tensor a, ct_tensor b) { return make("mse_loss", {a, b}, [&] { return at::mse_loss(borrow(a), borrow(b)); }); }
ct_tensor ct_argsort(ct_tensor a, int64_t dim, bool descending) { return make("argsort", {a}, [&] { return at::argsort(borrow(a), dim, descending); }); }
// clang-format on

ct_tensor ct_unary(int operation, ct_tensor a) {
  static const char *const names[] = {"neg",     "exp",      "log",    "sqrt",       "sin",       "cos",  "abs",
                                      "sigmoid", "silu",     "tanh",   "gelu",       "gelu_tanh", "relu", "round",
                                      "floor",   "isfinite", "square", "quick_gelu", "mish"};
  const bool known = operation >= 0 && operation < static_cast<int>(std::size(names));
  return make(known ? names[operation] : "unary", {a}, [&]() -> at::Tensor {
    const at::Tensor &x = borrow(a);
    switch (operation) {
    case CT_NEG: return at::neg(x);
    case CT_EXP: return at::exp(x);
    case CT_LOG: return at::log(x);
    case CT_SQRT: return at::sqrt(x);
    case CT_SIN: return at::sin(x);
    case CT_COS: return at::cos(x);
    case CT_ABS: return at::abs(x);
    case CT_SIGMOID: return at::sigmoid(x);
    case CT_SILU: return at::silu(x);
    case CT_TANH: return at::tanh(x);
    case CT_GELU: return at::gelu(x);
    case CT_GELU_TANH: return at::gelu(x, "tanh");
    case CT_RELU: return at::relu(x);
    case CT_ROUND: return at::round(x);
    case CT_FLOOR: return at::floor(x);
    case CT_ISFINITE: return at::isfinite(x);
    case CT_SQUARE: return at::square(x);
    case CT_QUICK_GELU: return quick_gelu(x);
    case CT_MISH: return at::mish(x);
    }
    TORCH_CHECK(false, "no unary operation ", operation);
  });
}
ct_tensor ct_reduce(int operation, ct_tensor a, const int64_t *dims, int n, bool keep) {
  static const char *const names[] = {"sum", "mean", "amax", "amin", "norm"};
  const bool known = operation >= 0 && operation < static_cast<int>(std::size(names));
  return make(known ? names[operation] : "reduce", {a}, [&]() -> at::Tensor {
    const at::Tensor &x = borrow(a);
    std::vector<int64_t> d(dims, dims + n);
    if (n == 0)
      for (int64_t i = 0; i < x.dim(); i++) d.push_back(i);
    switch (operation) {
    case CT_SUM: return at::sum(x, d, keep);
    case CT_MEAN: return at::mean(x, d, keep);
    case CT_AMAX: return at::amax(x, d, keep);
    case CT_AMIN: return at::amin(x, d, keep);
    case CT_NORM: return at::linalg_vector_norm(x, 2, d, keep);
    }
    TORCH_CHECK(false, "no reduction ", operation);
  });
}

} // extern "C"
