// The operations of tensors, by kind: out of nothing, shaping, arithmetic, layers, gradients.
#define AT_PER_OPERATOR_HEADERS
#include "frozen.h"
#include "handles.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/add.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/amin.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/div.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/floor.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/index_copy.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/log.h>
#include <ATen/ops/lt.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/mish.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/neg.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/round.h>
#include <ATen/ops/rsub.h>
#include <ATen/ops/scatter.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/square.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/upsample_nearest2d.h>
#include <ATen/ops/where.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstring>
#include <iterator>
#include <memory>
#include <vector>

using namespace neti;

struct ct_generator_s {
  at::Generator generator;
};

// ---- the C interface's arguments as libtorch's

namespace {

std::vector<at::Tensor> list(const ct_tensor *tensors, int n) {
  std::vector<at::Tensor> r;
  r.reserve(static_cast<size_t>(n));
  for (int i = 0; i < n; i++) {
    ct_tensor h = tensors[i];
    r.push_back(h ? borrow(h) : at::Tensor());
  }
  return r;
}

at::IntArrayRef shape(const int64_t *sizes, int rank) { return at::IntArrayRef(sizes, static_cast<size_t>(rank)); }

at::TensorOptions options(int dtype, int device = CT_CPU, int index = 0) {
  auto type = static_cast<c10::DeviceType>(device);
  auto d = type == c10::DeviceType::CPU ? c10::Device(type) : c10::Device(type, static_cast<c10::DeviceIndex>(index));
  return at::TensorOptions().dtype(static_cast<c10::ScalarType>(dtype)).device(d);
}

c10::MemoryFormat format(int f) {
  switch (f) {
  case CT_CHANNELS_LAST: return c10::MemoryFormat::ChannelsLast;
  case CT_PRESERVE: return c10::MemoryFormat::Preserve;
  default: return c10::MemoryFormat::Contiguous;
  }
}

} // namespace

extern "C" {

// ---- tensors out of nothing, and memory

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

// ---- moving, copying and shaping

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

// ---- elementwise functions and reductions

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

// ---- layers that libtorch has as they are; those that differ for frozen weights are in frozen.cpp

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

// ---- gradients, and the update of what is learned

bool ct_grad_enabled(void) { return at::GradMode::is_enabled(); }
void ct_set_grad_enabled(bool on) { at::GradMode::set_enabled(on); }

int ct_set_requires_grad(ct_tensor t, bool on) {
  return perform("requires_grad_", {t}, [&] { borrow(t).set_requires_grad(on); });
}
int ct_backward(ct_tensor t) {
  return perform("backward", {t}, [&] { borrow(t).backward(); });
}
ct_tensor ct_grad(ct_tensor t) {
  at::Tensor g = borrow(t).grad();
  return g.defined() ? give(std::move(g)) : nullptr;
}
void ct_clear_grad(ct_tensor t) { borrow(t).mutable_grad() = at::Tensor(); }
int ct_gradients(const ct_tensor *outputs, const ct_tensor *seeds, int n_outputs, const ct_tensor *inputs, int n_inputs,
                 ct_tensor *gradients) {
  return perform("gradients", {n_outputs > 0 ? outputs[0] : nullptr, n_inputs > 0 ? inputs[0] : nullptr}, [&] {
    auto r = torch::autograd::grad(list(outputs, n_outputs), list(inputs, n_inputs), list(seeds, n_outputs));
    for (int i = 0; i < n_inputs; i++) gradients[i] = give(std::move(r[static_cast<size_t>(i)]));
  });
}
ct_tensor ct_detach(ct_tensor t) {
  return make("detach", {t}, [&] { return borrow(t).detach(); });
}
int ct_fused_adamw(const ct_tensor *params, const ct_tensor *grads, const ct_tensor *exp_avg, const ct_tensor *exp_avg_sq,
                   const ct_tensor *steps, int n, double lr, double beta1, double beta2, double weight_decay, double eps) {
  return perform("adamw", {}, [&] {
    at::NoGradGuard guard;
    auto p = list(params, n), g = list(grads, n), m = list(exp_avg, n), v = list(exp_avg_sq, n), s = list(steps, n);
    for (auto &step : s) step.add_(1);
    at::_fused_adamw_(p, g, m, v, {}, s, lr, beta1, beta2, weight_decay, eps, false, false);
  });
}

} // extern "C"
