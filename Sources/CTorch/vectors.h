// Vectors of 16 floats, for loops that the compiler would not turn into vectors as well.
#ifndef CTORCH_VECTORS_H
#define CTORCH_VECTORS_H

#include <cstdint>

#define INLINE static inline __attribute__((always_inline))

namespace {

constexpr int64_t lanes = 16;

typedef float vec __attribute__((vector_size(64), aligned(4)));

// By reference: how a vector is passed by value would depend on the processor.
INLINE vec &at(float *p) { return *reinterpret_cast<vec *>(p); }
INLINE const vec &at(const float *p) { return *reinterpret_cast<const vec *>(p); }

} // namespace

#endif
