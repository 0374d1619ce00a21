#define AT_PER_OPERATOR_HEADERS
#include "frozen.h"
#include "handles.h"
#include "winograd.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/gelu_backward.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/native_group_norm.h>
#include <ATen/ops/native_group_norm_backward.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/silu_backward.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <tuple>

using namespace neti;
using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

/// Whether a gradient will be asked of what is computed from x.
bool is_recorded(const Tensor &x) { return at::GradMode::is_enabled() && x.requires_grad(); }

bool needs_gradient(const std::optional<Tensor> &t) { return t && t->requires_grad(); }

// ---- convolution

Tensor convolve(const Tensor &x, const Tensor &weight, const std::optional<Tensor> &bias, int64_t stride, int64_t padding) {
  if (suits_winograd(x, weight, stride, padding)) return winograd(x, weight, bias.value_or(Tensor()), false);
  return at::conv2d(x, weight, bias, {stride, stride}, at::IntArrayRef{padding, padding});
}

/// Keeps the weight, which is there anyway; libtorch's own would keep the input, too.
struct FrozenConvolution : torch::autograd::Function<FrozenConvolution> {
  static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &weight, const std::optional<Tensor> &bias,
                        int64_t stride, int64_t padding) {
    context->save_for_backward({weight});
    context->saved_data["shape"] = x.sizes().vec();
    context->saved_data["stride"] = stride;
    context->saved_data["padding"] = padding;
    return convolve(x, weight, bias, stride, padding);
  }
  static variable_list backward(AutogradContext *context, variable_list gradients) {
    const Tensor weight = context->get_saved_variables()[0], &g = gradients[0];
    const int64_t stride = context->saved_data["stride"].toInt(), padding = context->saved_data["padding"].toInt();
    Tensor result;
    if (suits_winograd(g, weight, stride, padding)) {
      result = winograd(g, weight, Tensor(), true);
    } else {
      // Only the shape and the layout of the input are looked at.
      const Tensor x = at::empty(context->saved_data["shape"].toIntVector(), g.options(), weight.suggest_memory_format());
      result = std::get<0>(at::convolution_backward(
          g, x, weight, std::nullopt, {stride, stride}, {padding, padding}, {1, 1}, false, {0, 0}, 1, {true, false, false}));
    }
    return {result, Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

// ---- matrix

using LinearPointwise = Tensor(const Tensor &, const Tensor &, const std::optional<Tensor> &, std::string_view,
                               c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);

/// oneDNN's matrix product, which libtorch has and does not take for fp32 of its own accord; none in
/// builds without oneDNN.
const std::optional<c10::TypedOperatorHandle<LinearPointwise>> &onednn_linear() {
  static const auto handle = [] {
    const auto schema = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
    return schema && schema->hasKernelForDispatchKey(c10::DispatchKey::CPU) ? std::optional(schema->typed<LinearPointwise>())
                                                                           : std::nullopt;
  }();
  return handle;
}

/// Whether oneDNN takes x Wᵀ + b and is faster than the BLAS: from some rows on; measured.
bool suits_onednn(const Tensor &x, const Tensor &weight) {
  return x.device().is_cpu() && x.scalar_type() == at::kFloat && weight.device().is_cpu() && weight.scalar_type() == at::kFloat &&
      weight.dim() == 2 && x.dim() >= 2 && x.size(-1) == weight.size(1) && x.numel() >= 64 * x.size(-1) && x.numel() > 0 &&
      onednn_linear();
}

Tensor multiply(const Tensor &x, const Tensor &weight, const std::optional<Tensor> &bias) {
  if (!suits_onednn(x, weight)) return at::linear(x, weight, bias);
  TORCH_CHECK(!bias || (bias->scalar_type() == at::kFloat && bias->dim() == 1 && bias->size(0) == weight.size(0)),
              "the bias must be fp32 and have ", weight.size(0), " elements");
  return onednn_linear()->call(x, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), std::nullopt);
}

/// Keeps the weight only.
struct FrozenLinear : torch::autograd::Function<FrozenLinear> {
  static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &weight, const std::optional<Tensor> &bias) {
    context->save_for_backward({weight});
    return multiply(x, weight, bias);
  }
  static variable_list backward(AutogradContext *context, variable_list gradients) {
    return {multiply(gradients[0], context->get_saved_variables()[0].t(), std::nullopt), Tensor(), Tensor()};
  }
};

// ---- group norm, then SiLU

std::tuple<Tensor, Tensor, Tensor> normalize(const Tensor &x, int64_t groups, const Tensor &weight, const Tensor &bias, double eps) {
  return at::native_group_norm(x, weight, bias, x.size(0), x.size(1), x.numel() / (x.size(0) * x.size(1)), groups, eps);
}

/// Keeps x and two numbers per group; the normalised x is computed again.
struct GroupNormSiLU : torch::autograd::Function<GroupNormSiLU> {
  static Tensor forward(AutogradContext *context, const Tensor &input, int64_t groups, const Tensor &weight, const Tensor &bias, double eps) {
    const Tensor x = input.contiguous(input.suggest_memory_format());
    auto [y, mean, deviation] = normalize(x, groups, weight, bias, eps);
    context->save_for_backward({x, weight, bias, mean, deviation});
    context->saved_data["groups"] = groups;
    context->saved_data["eps"] = eps;
    return at::silu_(y);
  }
  static variable_list backward(AutogradContext *context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1];
    const int64_t groups = context->saved_data["groups"].toInt();
    const Tensor y = std::get<0>(normalize(x, groups, weight, saved[2], context->saved_data["eps"].toDouble()));
    const Tensor g = at::silu_backward(gradients[0].contiguous(x.suggest_memory_format()), y);
    const Tensor result = std::get<0>(at::native_group_norm_backward(
        g, x, saved[3], saved[4], weight, x.size(0), x.size(1), x.numel() / (x.size(0) * x.size(1)), groups, {true, false, false}));
    return {result, Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

// ---- activations

/// Keeps x; libtorch's own operations would keep three tensors of its size.
struct QuickGELU : torch::autograd::Function<QuickGELU> {
  // x sigmoid(s x) = silu(s x) / s, and its derivative is that of silu at s x.
  static constexpr double scale = 1.702;
  static Tensor forward(AutogradContext *context, const Tensor &x) {
    if (context) context->save_for_backward({x});
    Tensor y = at::mul(x, scale);
    return at::silu_(y).mul_(1 / scale);
  }
  static variable_list backward(AutogradContext *context, variable_list gradients) {
    return {at::silu_backward(gradients[0], at::mul(context->get_saved_variables()[0], scale))};
  }
};

/// Keeps x; libtorch's own operations would keep half of it once more.
struct GEGLU : torch::autograd::Function<GEGLU> {
  static Tensor forward(AutogradContext *context, const Tensor &x) {
    TORCH_CHECK(x.dim() > 0 && x.size(-1) % 2 == 0, "the last dimension must have two halves");
    if (context) context->save_for_backward({x});
    const int64_t half = x.size(-1) / 2;
    return at::gelu(x.narrow(-1, half, half)).mul_(x.narrow(-1, 0, half));
  }
  static variable_list backward(AutogradContext *context, variable_list gradients) {
    const Tensor x = context->get_saved_variables()[0], &y = gradients[0];
    const int64_t half = x.size(-1) / 2;
    const Tensor a = x.narrow(-1, 0, half), g = x.narrow(-1, half, half);
    Tensor result = at::empty(x.sizes(), x.options());
    result.narrow(-1, 0, half).copy_(at::gelu(g).mul_(y));
    result.narrow(-1, half, half).copy_(at::gelu_backward(at::mul(y, a), g));
    return {result};
  }
};

} // namespace

namespace neti {

Tensor quick_gelu(const Tensor &x) { return is_recorded(x) ? QuickGELU::apply(x) : QuickGELU::forward(nullptr, x); }

} // namespace neti

extern "C" {

ct_tensor ct_conv2d(ct_tensor x, ct_tensor weight, ct_tensor bias, int64_t stride, int64_t padding) {
  return make("conv2d", {x, weight, bias}, [&] {
    const Tensor &input = borrow(x), &w = borrow(weight);
    const std::optional<Tensor> b = maybe(bias);
    if (w.requires_grad() || needs_gradient(b))
      return at::conv2d(input, w, b, {stride, stride}, at::IntArrayRef{padding, padding});
    return is_recorded(input) ? FrozenConvolution::apply(input, w, b, stride, padding) : convolve(input, w, b, stride, padding);
  });
}

ct_tensor ct_linear(ct_tensor x, ct_tensor weight, ct_tensor bias) {
  return make("linear", {x, weight, bias}, [&] {
    const Tensor &input = borrow(x), &w = borrow(weight);
    const std::optional<Tensor> b = maybe(bias);
    if (w.requires_grad() || needs_gradient(b) || !suits_onednn(input, w)) return at::linear(input, w, b);
    return is_recorded(input) ? FrozenLinear::apply(input, w, b) : multiply(input, w, b);
  });
}

ct_tensor ct_group_norm(ct_tensor x, int64_t groups, ct_tensor weight, ct_tensor bias, double eps, bool silu) {
  return make("group_norm", {x, weight, bias}, [&] {
    const Tensor &input = borrow(x);
    const std::optional<Tensor> w = maybe(weight), b = maybe(bias);
    if (silu && w && b && is_recorded(input) && !needs_gradient(w) && !needs_gradient(b) && input.dim() >= 2 && input.numel() > 0)
      return GroupNormSiLU::apply(input, groups, *w, *b, eps);
    Tensor y = at::group_norm(input, groups, w, b, eps);
    if (!silu) return y;
    return y.requires_grad() ? at::silu(y) : at::silu_(y);
  });
}

ct_tensor ct_geglu(ct_tensor x) {
  return make("geglu", {x}, [&] { return is_recorded(borrow(x)) ? GEGLU::apply(borrow(x)) : GEGLU::forward(nullptr, borrow(x)); });
}

} // extern "C"
