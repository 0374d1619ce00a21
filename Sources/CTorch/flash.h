// Attention in blocks, in fp32 and bf16, on processors with AVX-512.
#ifndef CTORCH_FLASH_H
#define CTORCH_FLASH_H

#define AT_PER_OPERATOR_HEADERS
#include <ATen/core/Tensor.h>

namespace neti {

/// Whether `flash_attention` takes these, and is faster than libtorch's own kernel for them.
bool suits_flash(const at::Tensor &q, const at::Tensor &k, const at::Tensor &v);

/// softmax(q kᵀ · scale) v for q [N, heads, L, D], k and v [N, heads, S, D], all contiguous in their last
/// dimension: [N, heads, L, D], with the heads next to each other in memory. `scale` is positive.
at::Tensor flash_attention(const at::Tensor &q, const at::Tensor &k, const at::Tensor &v, double scale);

} // namespace neti

#endif
