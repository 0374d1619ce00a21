// Blocks of matrices: oneDNN's small products, and the packing that they want.
//
// The second factor of a product lies in groups of `group` rows, those of a column next to each other:
// [K / group][N][group], with groups of two in bf16, as its instructions want it, and of one in fp32.
#ifndef CTORCH_BLOCKS_H
#define CTORCH_BLOCKS_H

#define AT_PER_OPERATOR_HEADERS
#include "vectors.h"

#include <ATen/core/Tensor.h>
#include <ATen/native/CPUBlas.h>
#include <c10/core/CPUAllocator.h>

#include <algorithm>

#if defined(__x86_64__) && defined(CPUBLAS_BRGEMM_BF16BF16F32) && defined(CPUBLAS_BRGEMM_F32F32F32)
#define NETI_HAS_SMALL_PRODUCTS

#include <immintrin.h>

#define KERNEL __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))

namespace {

/// Of a block.
constexpr int64_t queries = 64;

typedef int32_t ivec __attribute__((vector_size(64), aligned(4)));
typedef __bf16 half_vec __attribute__((vector_size(32), aligned(2)));
typedef __bf16 pair_vec __attribute__((vector_size(64), aligned(2)));

/// Rows of a second factor whose elements are next to each other.
template <class T> constexpr int64_t group = sizeof(T) == 2 ? 2 : 1;

/// n or the next multiple of `unit`.
int64_t up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

/// Memory that is not filled, and given back at the end of the scope.
template <class T> struct Scratch {
  c10::DataPtr memory;
  T *data;
  explicit Scratch(int64_t count)
      : memory(c10::GetCPUAllocator()->allocate(count * sizeof(T))), data(static_cast<T *>(memory.get())) {}
};

/// The matrices of a tensor [N, heads, rows, columns], contiguous in its columns.
template <class T> struct Matrices {
  T *data;
  int64_t heads, batch_stride, head_stride, stride;
  explicit Matrices(const at::Tensor &t)
      : data(static_cast<T *>(t.mutable_data_ptr())), heads(t.size(1)), batch_stride(t.stride(0)), head_stride(t.stride(1)),
        stride(t.stride(2)) {}
  /// From row `row` on of matrix i of N · heads.
  T *at(int64_t i, int64_t row = 0) const { return data + i / heads * batch_stride + i % heads * head_stride + row * stride; }
};

/// c [M, N] = a [M, K] times the second factor b [K, N], or added to it.
void multiply(int64_t M, int64_t N, int64_t K, const float *a, int64_t lda, const float *b, float *c, bool add) {
  at::native::cpublas::brgemm(M, N, K, lda, N, N, add, a, b, c, false);
}
void multiply(int64_t M, int64_t N, int64_t K, const __bf16 *a, int64_t lda, const __bf16 *b, float *c, bool add) {
  using Half = const c10::BFloat16 *;
  at::native::cpublas::brgemm(M, N, K, lda, N, N, add, reinterpret_cast<Half>(a), reinterpret_cast<Half>(b), c, true);
}

// ---- vectors

INLINE void raise(vec &a, const vec &b) { a = b > a ? b : a; }

/// x becomes eˣ, to 2 units in the last place; 0 or nearly so below −87. After Cephes' expf. NaN stays.
INLINE void exponential(vec &x) {
  x = x < -87.f ? vec{} - 87.f : x;
  const vec magic = vec{} + 12582912.f; // 1.5 · 2²³: adding it rounds to a whole number in the low bits
  const vec shifted = x * 1.44269504088896341f + magic;
  const vec n = shifted - magic;
  const vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
  vec p = vec{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.f;
  x = (vec)((ivec)p + ((ivec)shifted << 23));
}

/// Rows a and b of a matrix of `stride` columns to where the group of these rows is; in fp32 b is the next group.
INLINE void store_group(float *to, int64_t stride, const vec &a, const vec &b) {
  at(to) = a;
  at(to + stride) = b;
}
INLINE KERNEL void store_group(__bf16 *to, int64_t, const vec &a, const vec &b) {
  const half_vec x = __builtin_convertvector(a, half_vec), y = __builtin_convertvector(b, half_vec);
  *reinterpret_cast<pair_vec *>(to) = __builtin_shufflevector(x, y, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24,
                                                              9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
/// A mask of the first `count` lanes.
INLINE __mmask16 first(int64_t count) { return __mmask16((1 << count) - 1); }
INLINE KERNEL void store_first(int64_t count, float *to, const vec &a) { _mm512_mask_storeu_ps(to, first(count), (__m512)a); }
INLINE KERNEL void store_first(int64_t count, __bf16 *to, const vec &a) {
  _mm256_mask_storeu_epi16(to, first(count), (__m256i) __builtin_convertvector(a, half_vec));
}
INLINE void store_row(float *to, const vec &a) { at(to) = a; }
INLINE KERNEL void store_row(__bf16 *to, const vec &a) { *reinterpret_cast<half_vec *>(to) = __builtin_convertvector(a, half_vec); }

// ---- packing

/// A square of 16 × 16.
INLINE KERNEL void transpose(ivec x[lanes]) {
  // Four perfect shuffles of 256 elements exchange the upper and the lower half of the bits of their index.
  for (int round = 0; round < 4; round++) {
    ivec y[lanes];
    for (int64_t i = 0; i < lanes / 2; i++) {
      const ivec &a = x[i], &b = x[i + lanes / 2];
      y[2 * i] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      y[2 * i + 1] = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
    for (int64_t i = 0; i < lanes; i++) x[i] = y[i];
  }
}

/// x [rows, columns] transposed to [columns, width], zeros from `rows` on.
template <class T> KERNEL void transpose(const T *x, int64_t stride, int64_t rows, int64_t columns, T *out, int64_t width) {
  for (int64_t c = 0; c < columns; c++)
    for (int64_t r = 0; r < width; r++) out[c * width + r] = r < rows ? x[r * stride + c] : T(0);
}

/// A block x [rows, columns] of queries, transposed, as a second factor: [columns / group][queries][group].
template <class T> KERNEL void pack_transposed(const T *x, int64_t stride, int64_t rows, int64_t columns, T *out) {
  // A group is 32 bits in either dtype, and its elements are neighbours in x.
  const int64_t words = columns / group<T>;
  for (int64_t r = 0; r < queries; r += lanes)
    for (int64_t w = 0; w < words; w += lanes) {
      const int64_t count = std::min(lanes, words - w);
      ivec v[lanes]{};
      for (int64_t i = 0; i < lanes && r + i < rows; i++)
        v[i] = (ivec)_mm512_maskz_loadu_epi32(first(count), x + (r + i) * stride + w * group<T>);
      transpose(v);
      for (int64_t i = 0; i < count; i++) _mm512_storeu_si512(out + ((w + i) * queries + r) * group<T>, (__m512i)v[i]);
    }
}

/// A block x [rows, columns] of queries as a second factor, [queries / group][width][group], zeros beyond x.
template <class T> KERNEL void pack(const T *x, int64_t stride, int64_t rows, int64_t columns, T *out, int64_t width) {
  for (int64_t r = 0; r < queries; r += group<T>, out += width * group<T>) {
    const T *a = x + r * stride, *b = a + (group<T> - 1) * stride;
    if (r + group<T> <= rows) {
      for (int64_t c = 0; c < columns; c++)
        if (group<T> == 1) out[c] = a[c];
        else out[2 * c] = a[c], out[2 * c + 1] = b[c];
      std::fill(out + columns * group<T>, out + width * group<T>, T(0));
    } else {
      std::fill(out, out + width * group<T>, T(0));
      for (int64_t c = 0; r < rows && c < columns; c++) out[c * group<T>] = a[c];
    }
  }
}

/// out [rows, columns] = scale · (the sum of `parts` blocks x [columns][queries], `distance` apart)ᵀ, or divided by
/// `divisors` of the queries where there are any.
template <class T>
KERNEL void unpack_transposed(const float *x, int64_t parts, int64_t distance, int64_t rows, int64_t columns, float scale,
                              const float *divisors, T *out, int64_t stride) {
  for (int64_t r = 0; r < rows; r += lanes) {
    vec factor = vec{} + scale;
    if (divisors) factor /= at(divisors + r);
    for (int64_t c = 0; c < columns; c += lanes) {
      const int64_t count = std::min(lanes, columns - c);
      ivec v[lanes]{};
      for (int64_t i = 0; i < count; i++) {
        vec sum{};
        for (int64_t j = 0; j < parts; j++) sum += at(x + j * distance + (c + i) * queries + r);
        v[i] = (ivec)(sum * factor);
      }
      transpose(v);
      for (int64_t i = 0; i < lanes && r + i < rows; i++) store_first(count, out + (r + i) * stride + c, (vec)v[i]);
    }
  }
}

/// out [rows, columns] = scale · x, whose rows are `width` apart.
template <class T>
KERNEL void unpack(const float *x, int64_t width, int64_t rows, int64_t columns, float scale, T *out, int64_t stride) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < columns; c++) out[r * stride + c] = T(x[r * width + c] * scale);
}

/// The sums of a ⊙ b over the columns.
template <class T>
KERNEL void row_products(const T *a, int64_t a_stride, const T *b, int64_t b_stride, int64_t rows, int64_t columns, float *out) {
  for (int64_t r = 0; r < rows; r++) {
#pragma clang fp reassociate(on)
    float sum = 0;
    for (int64_t c = 0; c < columns; c++) sum += float(a[r * a_stride + c]) * float(b[r * b_stride + c]);
    out[r] = sum;
  }
}

} // namespace

#endif
#endif
