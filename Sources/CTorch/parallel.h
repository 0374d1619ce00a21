// Work divided among libtorch's threads.
#ifndef CTORCH_PARALLEL_H
#define CTORCH_PARALLEL_H

#define AT_PER_OPERATOR_HEADERS
#include <ATen/TensorIterator.h>
#include <ATen/ops/arange.h>

namespace neti {

/// Calls body(first, last) for ranges that make up 0 ..< count, on all of libtorch's threads at once.
///
/// at::parallel_for is a template: compiled here, without the library's OpenMP, it would be a plain loop. An
/// iteration over whole numbers is divided inside the library.
template <typename F> void parallel_for(int64_t count, const F &body) {
  at::Tensor numbers = at::arange(count, at::kLong);
  at::TensorIterator iterator =
      at::TensorIteratorConfig().check_all_same_dtype(false).resize_outputs(false).add_output(numbers).build();
  iterator.for_each(
      [&](char **data, const int64_t *, int64_t n) {
        const int64_t first = *reinterpret_cast<const int64_t *>(data[0]);
        body(first, first + n);
      },
      1);
}

} // namespace neti

#endif
