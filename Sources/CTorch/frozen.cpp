#define AT_PER_OPERATOR_HEADERS
#include "frozen.h"
#include "handles.h"
#include "parallel.h"
#include "winograd.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/constant_pad_nd.h>
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
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <tuple>
#include <vector>

using namespace neti;
using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

/// Whether a gradient will be asked of what is computed from x.
bool is_recorded(const Tensor &x) { return at::GradMode::is_enabled() && x.requires_grad(); }

bool needs_gradient(const std::optional<Tensor> &t) { return t && t->requires_grad(); }

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

// ---- convolution

/// Whether a convolution is best one matrix product over the patches: with channels last the filters are
/// that matrix as they lie, where oneDNN's convolution rearranges them at every call. That counts when there
/// are many of them and few positions; measured.
bool suits_patches(const Tensor &x, const Tensor &weight, int64_t positions) {
  return x.device().is_cpu() && weight.device().is_cpu() && x.scalar_type() == weight.scalar_type() && x.dim() == 4 &&
      weight.dim() == 4 && weight.size(2) == weight.size(3) && positions > 0 && positions < 256 && weight.numel() >= 1 << 20 &&
      weight.is_contiguous(at::MemoryFormat::ChannelsLast);
}

/// [K, C, k, k] as [K, k k C].
Tensor filter_matrix(const Tensor &weight) { return weight.permute({0, 2, 3, 1}).view({weight.size(0), -1}); }

int64_t output_side(int64_t side, int64_t kernel, int64_t stride, int64_t padding) {
  return (side + 2 * padding - kernel) / stride + 1;
}

Tensor convolve_patches(const Tensor &x, const Tensor &weight, const std::optional<Tensor> &bias, int64_t stride, int64_t padding) {
  const int64_t N = x.size(0), C = x.size(1), k = weight.size(2);
  const int64_t H = output_side(x.size(2), k, stride, padding), W = output_side(x.size(3), k, stride, padding);
  const Tensor p = at::constant_pad_nd(x, {padding, padding, padding, padding}).permute({0, 2, 3, 1}).contiguous();
  const Tensor patches =
      p.as_strided({N, H, W, k, k, C}, {p.stride(0), stride * p.stride(1), stride * p.stride(2), p.stride(1), p.stride(2), 1})
          .reshape({N * H * W, k * k * C});
  return multiply(patches, filter_matrix(weight), bias).view({N, H, W, -1}).permute({0, 3, 1, 2});
}

/// The gradient of an input of size `shape`.
Tensor patches_backward(const Tensor &g, const Tensor &weight, at::IntArrayRef shape, int64_t stride, int64_t padding) {
  const int64_t N = g.size(0), K = g.size(1), H = g.size(2), W = g.size(3), C = weight.size(1), k = weight.size(2);
  const Tensor rows = g.permute({0, 2, 3, 1}).reshape({N * H * W, K});
  const Tensor patches = multiply(rows, filter_matrix(weight).t(), std::nullopt).view({N, H, W, k, k, C});
  // Summed in fp32: a position is in up to k k patches.
  const Tensor sum =
      at::zeros({N, shape[2] + 2 * padding, shape[3] + 2 * padding, C}, g.options().dtype(at::kFloat).memory_format(std::nullopt));
  for (int64_t y = 0; y < k; y++)
    for (int64_t x = 0; x < k; x++)
      sum.slice(1, y, y + stride * (H - 1) + 1, stride)
          .slice(2, x, x + stride * (W - 1) + 1, stride)
          .add_(patches.select(4, x).select(3, y));
  return sum.narrow(1, padding, shape[2])
      .narrow(2, padding, shape[3])
      .permute({0, 3, 1, 2})
      .to(g.scalar_type())
      .contiguous(at::MemoryFormat::ChannelsLast);
}

Tensor convolve(const Tensor &x, const Tensor &weight, const std::optional<Tensor> &bias, int64_t stride, int64_t padding) {
  if (suits_winograd(x, weight, stride, padding)) return winograd(x, weight, bias.value_or(Tensor()), false);
  if (x.dim() == 4 && weight.dim() == 4 && x.size(1) == weight.size(1) && stride > 0 && padding >= 0 &&
      std::min(x.size(2), x.size(3)) + 2 * padding >= weight.size(2)) {
    const int64_t H = output_side(x.size(2), weight.size(2), stride, padding),
                  W = output_side(x.size(3), weight.size(3), stride, padding);
    if (suits_patches(x, weight, x.size(0) * H * W)) return convolve_patches(x, weight, bias, stride, padding);
  }
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
    const std::vector<int64_t> shape = context->saved_data["shape"].toIntVector();
    const int64_t stride = context->saved_data["stride"].toInt(), padding = context->saved_data["padding"].toInt();
    Tensor result;
    if (suits_winograd(g, weight, stride, padding)) {
      result = winograd(g, weight, Tensor(), true);
    } else if (suits_patches(g, weight, g.numel() / g.size(1))) {
      result = patches_backward(g, weight, shape, stride, padding);
    } else {
      // Only the shape and the layout of the input are looked at.
      const Tensor x = at::empty(shape, g.options(), weight.suggest_memory_format());
      result = std::get<0>(at::convolution_backward(g, x, weight, std::nullopt, {stride, stride}, {padding, padding}, {1, 1}, false,
                                                    {0, 0}, 1, {true, false, false}));
    }
    return {result, Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

// ---- group norm, then SiLU

std::tuple<Tensor, Tensor, Tensor> normalize(const Tensor &x, int64_t groups, const Tensor &weight, const Tensor &bias,
                                             double eps) {
  return at::native_group_norm(x, weight, bias, x.size(0), x.size(1), x.numel() / (x.size(0) * x.size(1)), groups, eps);
}

/// Keeps x and two numbers per group; the normalised x is computed again.
struct GroupNormSiLU : torch::autograd::Function<GroupNormSiLU> {
  static Tensor forward(AutogradContext *context, const Tensor &input, int64_t groups, const Tensor &weight, const Tensor &bias,
                        double eps) {
    const Tensor x = input.contiguous(input.suggest_memory_format());
    auto [y, mean, inverse_deviation] = normalize(x, groups, weight, bias, eps);
    context->save_for_backward({x, weight, bias, mean, inverse_deviation});
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

// ---- GEGLU

/// a · gelu(g) of rows [a; g].
Tensor gated(const Tensor &ag) {
  const int64_t half = ag.size(1) / 2;
  return at::gelu(ag.narrow(1, half, half)).mul_(ag.narrow(1, 0, half));
}

/// The gradient of [a; g] from d, that of a · gelu(g). On the CPU in small blocks of rows, whose
/// temporaries stay in the nearest cache.
Tensor gated_backward(const Tensor &d, const Tensor &ag) {
  const int64_t half = d.size(1), total = d.size(0);
  const int64_t rows = d.device().is_cpu() ? std::max<int64_t>((1 << 15) / half, 1) : total;
  const Tensor result = at::empty(ag.sizes(), ag.options());
  neti::parallel_for((total + rows - 1) / rows, [&](int64_t first, int64_t last) {
    const at::NoGradGuard guard;
    for (int64_t begin = first * rows; begin < std::min(last * rows, total); begin += rows) {
      const auto part = [&](const Tensor &t, int64_t column) {
        return t.narrow(0, begin, std::min(rows, total - begin)).narrow(1, column, half);
      };
      const Tensor a = part(ag, 0), g = part(ag, half), dy = part(d, 0);
      Tensor da = part(result, 0), dg = part(result, half);
      at::gelu_out(da, g).mul_(dy);
      at::gelu_backward_out(dg, at::mul(dy, a), g);
    }
  });
  return result;
}

/// W₂ (a · gelu(g)) + b₂ with [a; g] = W₁ x + b₁ (Shazeer, *GLU Variants Improve Transformer*), in blocks of
/// rows: what is made of a block is small, and its products are still large. Keeps [a; g].
struct GEGLU : torch::autograd::Function<GEGLU> {
  static constexpr int64_t block = 1024;

  /// Calls body(begin, count) for every block and puts what it returns one below the other.
  template <typename F> static Tensor by_blocks(const Tensor &x, int64_t width, const F &body) {
    const int64_t total = x.size(0), most = x.device().is_cpu() ? block : total;
    if (total <= most) return body(0, total);
    const Tensor result = at::empty({total, width}, x.options());
    for (int64_t begin = 0; begin < total; begin += most) {
      const int64_t count = std::min(most, total - begin);
      result.narrow(0, begin, count).copy_(body(begin, count));
    }
    return result;
  }

  static Tensor forward(AutogradContext *context, const Tensor &input, const Tensor &w1, const std::optional<Tensor> &b1,
                        const Tensor &w2, const std::optional<Tensor> &b2) {
    TORCH_CHECK(input.dim() >= 2 && w1.dim() == 2 && w2.dim() == 2 && input.size(-1) == w1.size(1) &&
                    w1.size(0) == 2 * w2.size(1) && w2.size(1) > 0,
                "[.., C] with matrices [2 D, C] and [E, D] are wanted");
    const Tensor x = input.reshape({input.numel() / std::max<int64_t>(input.size(-1), 1), input.size(-1)});
    Tensor ag;
    if (context) {
      ag = multiply(x, w1, b1);
      context->save_for_backward({ag, w1, w2});
      context->saved_data["shape"] = input.sizes().vec();
    }
    const Tensor y = by_blocks(x, w2.size(0), [&](int64_t begin, int64_t count) {
      return multiply(gated(ag.defined() ? ag.narrow(0, begin, count) : multiply(x.narrow(0, begin, count), w1, b1)), w2, b2);
    });
    std::vector<int64_t> shape = input.sizes().vec();
    shape.back() = w2.size(0);
    return y.view(shape);
  }

  static variable_list backward(AutogradContext *context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor &ag = saved[0], &w1 = saved[1], &w2 = saved[2];
    const Tensor dy = gradients[0].reshape({-1, w2.size(0)}), w1t = w1.t(), w2t = w2.t();
    const Tensor dx = by_blocks(dy, w1.size(1), [&](int64_t begin, int64_t count) {
      const Tensor d = multiply(dy.narrow(0, begin, count), w2t, std::nullopt);
      return multiply(gated_backward(d, ag.narrow(0, begin, count)), w1t, std::nullopt);
    });
    return {dx.view(context->saved_data["shape"].toIntVector()), Tensor(), Tensor(), Tensor(), Tensor()};
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
    if (w.requires_grad() || needs_gradient(b)) return at::conv2d(input, w, b, {stride, stride}, at::IntArrayRef{padding, padding});
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

ct_tensor ct_geglu(ct_tensor x, ct_tensor w1, ct_tensor b1, ct_tensor w2, ct_tensor b2) {
  return make("geglu", {x, w1, b1, w2, b2}, [&] {
    const Tensor &input = borrow(x), &first = borrow(w1), &second = borrow(w2);
    const std::optional<Tensor> b = maybe(b1), c = maybe(b2);
    TORCH_CHECK(!first.requires_grad() && !second.requires_grad() && !needs_gradient(b) && !needs_gradient(c),
                "the weights must be frozen");
    return is_recorded(input) ? GEGLU::apply(input, first, b, second, c) : GEGLU::forward(nullptr, input, first, b, second, c);
  });
}

} // extern "C"
