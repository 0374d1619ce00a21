// Layers whose weights are frozen, differentiated with respect to their input only. What is cheap to
// compute again is not kept for the backward pass.
#ifndef CTORCH_FROZEN_H
#define CTORCH_FROZEN_H

#include <ATen/core/Tensor.h>

namespace neti {

/// x · sigmoid(1.702 x); keeps x.
at::Tensor quick_gelu(const at::Tensor &x);

} // namespace neti

#endif
