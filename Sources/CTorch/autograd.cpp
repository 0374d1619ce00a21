// Gradients, and the update of what is learned.
#define AT_PER_OPERATOR_HEADERS
#include "handles.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <torch/csrc/autograd/autograd.h>

using namespace neti;

extern "C" {

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
