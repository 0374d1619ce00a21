// 3×3 convolutions with frozen weights, in fp32 on the CPU, by Winograd's algorithm.
#ifndef CTORCH_WINOGRAD_H
#define CTORCH_WINOGRAD_H

#define AT_PER_OPERATOR_HEADERS
#include <ATen/core/Tensor.h>

namespace neti {

/// Whether `winograd` takes these, and is faster than libtorch's own convolution for them.
bool suits_winograd(const at::Tensor &x, const at::Tensor &weight, int64_t stride, int64_t padding);

/// The convolution of x [N, C, H, W] with weight [K, C, 3, 3] at stride 1 and padding 1: [N, K, H, W],
/// channels last. `transposed`: of x [N, K, H, W], giving [N, C, H, W]: the gradient with respect to
/// the input.
at::Tensor winograd(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &bias, bool transposed);

} // namespace neti

#endif
