// Attention in blocks, after Dao et al., *FlashAttention* (https://arxiv.org/abs/2205.14135).
//
// With S = scale · Q Kᵀ, P = softmax(S), O = P V, and D = the sum over channels of dO ⊙ O,
//
//     dV = Pᵀ dO,   dP = dO Vᵀ,   dS = P ⊙ (dP − D),   dQ = scale · dS K,   dK = scale · dSᵀ Q
//
// Scores are formed block by block and *transposed*, keys × queries: vectors then run over queries, and
// neither the softmax nor its derivative ever sums over the lanes of a vector. The products are oneDNN's
// small ones (blocks.h).
#include "flash.h"
#include "blocks.h"
#include "parallel.h"

#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <limits>

using at::Tensor;

#ifdef NETI_HAS_SMALL_PRODUCTS

namespace {

// Keys of a block; half or twice as many are as fast within some percent.
constexpr int64_t keys_forward = 512, keys_backward = 256;
// The backward pass of few matrices is divided into about so many tasks, if what they need stays below so many bytes.
constexpr int64_t tasks = 32, task_bytes = 64 << 20;
/// With fewer keys libtorch's own kernel does as well.
constexpr int64_t fewest_keys = 16;

// ---- the softmax and its derivative, on blocks of transposed scores

/// Scores s [keys][queries] become unnormalised probabilities p, a second factor; the largest scores,
/// their sums, and the output o [channels][queries] so far follow. Rows from `keys` to `height` become 0.
template <class T>
KERNEL void softmax(const float *s, int64_t keys, int64_t height, float scale, T *p, float *largest, float *sum, float *o,
                    int64_t channels) {
  for (int64_t q = 0; q < queries; q += lanes) {
    vec most = at(largest + q);
    for (int64_t i = 0; i < keys; i++) raise(most, at(s + i * queries + q));
    vec shrink = (at(largest + q) - most) * scale;
    exponential(shrink);
    at(largest + q) = most;
    const vec offset = most * scale;
    vec total{};
    for (int64_t i = 0; i < height; i += 2) {
      vec a{}, b{};
      if (i < keys) {
        a = at(s + i * queries + q) * scale - offset;
        exponential(a);
      }
      if (i + 1 < keys) {
        b = at(s + (i + 1) * queries + q) * scale - offset;
        exponential(b);
      }
      total += a + b;
      store_group(p + i * queries + q * group<T>, queries, a, b);
    }
    at(sum + q) = at(sum + q) * shrink + total;
    for (int64_t c = 0; c < channels; c++) at(o + c * queries + q) *= shrink;
  }
}

/// From scores s and dP, both [keys][queries]: P as rows, and dS as rows and as a second factor, which are
/// the same in fp32. Rows from `keys` to `height` of dS become 0.
template <class T>
KERNEL void differentiate(const float *s, const float *dp, int64_t keys, int64_t height, float scale, const float *log_sum,
                          const float *d, T *p, T *ds, T *ds_factor) {
  for (int64_t q = 0; q < queries; q += lanes) {
    const vec offset = at(log_sum + q), mean = at(d + q);
    for (int64_t i = 0; i < height; i += 2) {
      vec a{}, b{};
      for (int64_t j = 0; j < 2; j++) {
        if (i + j >= keys) continue;
        vec &x = j ? b : a;
        x = at(s + (i + j) * queries + q) * scale - offset;
        exponential(x);
        store_row(p + (i + j) * queries + q, x);
        x *= at(dp + (i + j) * queries + q) - mean;
        if (group<T> > 1) store_row(ds + (i + j) * queries + q, x);
      }
      store_group(ds_factor + i * queries + q * group<T>, queries, a, b);
    }
  }
}

// ---- forward

template <class T> void forward(const Tensor &q, const Tensor &k, const Tensor &v, float scale, const Tensor &output,
                                const Tensor &log_sums) {
  const int64_t count = q.size(0) * q.size(1), L = q.size(2), S = k.size(2), D = q.size(3);
  const int64_t query_blocks = (L + queries - 1) / queries, key_blocks = (S + keys_forward - 1) / keys_forward;
  const int64_t width = std::min(keys_forward, up(S, 2));
  const Matrices<T> Q(q), K(k), V(v), O(output);
  float *sums = log_sums.mutable_data_ptr<float>();
  const Scratch<T> values(count * key_blocks * D * width); // Vᵀ, by blocks
  neti::parallel_for(count * key_blocks, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++) {
      const int64_t m = i / key_blocks, j = i % key_blocks * keys_forward;
      transpose(V.at(m, j), V.stride, std::min(keys_forward, S - j), D, values.data + i * D * width, width);
    }
  });
  neti::parallel_for(count * query_blocks, [&](int64_t first, int64_t last) {
    const Scratch<T> factor(D * queries), p(width * queries);
    const Scratch<float> s(width * queries), o(D * queries);
    alignas(64) float largest[queries], sum[queries];
    for (int64_t i = first; i < last; i++) {
      const int64_t m = i / query_blocks, begin = i % query_blocks * queries, rows = std::min(queries, L - begin);
      pack_transposed(Q.at(m, begin), Q.stride, rows, D, factor.data);
      std::fill_n(largest, queries, -std::numeric_limits<float>::infinity());
      std::fill_n(sum, queries, 0.f);
      std::fill_n(o.data, D * queries, 0.f);
      for (int64_t j = 0; j < key_blocks; j++) {
        const int64_t keys = std::min(keys_forward, S - j * keys_forward), height = up(keys, 2);
        multiply(keys, queries, D, K.at(m, j * keys_forward), K.stride, factor.data, s.data, false);
        softmax(s.data, keys, height, scale, p.data, largest, sum, o.data, D);
        multiply(D, queries, height, values.data + (m * key_blocks + j) * D * width, width, p.data, o.data, true);
      }
      unpack_transposed(o.data, 1, 0, rows, D, 1, sum, O.at(m, begin), O.stride);
      for (int64_t r = 0; r < rows; r++) sums[m * L + begin + r] = largest[r] * scale + std::log(sum[r]);
    }
    at::native::cpublas::brgemm_release(group<T> > 1);
  });
}

// ---- backward

template <class T>
void backward(const Tensor &q, const Tensor &k, const Tensor &v, const Tensor &output, const Tensor &log_sums,
              const Tensor &gradient, float scale, const Tensor &gradient_q, const Tensor &gradient_k, const Tensor &gradient_v) {
  const int64_t count = q.size(0) * q.size(1), L = q.size(2), S = k.size(2), D = q.size(3), channels = up(D, lanes);
  const int64_t query_blocks = (L + queries - 1) / queries, key_blocks = (S + keys_backward - 1) / keys_backward;
  const int64_t length = query_blocks * queries;
  const Matrices<T> Q(q), K(k), V(v), O(output), dO(gradient), dQ(gradient_q), dK(gradient_k), dV(gradient_v);
  const float *sums = static_cast<const float *>(log_sums.const_data_ptr());

  // What every block of keys needs, of every matrix and by blocks of queries.
  const Scratch<T> q_transposed(count * length * D), g_transposed(count * length * D), q_factor(count * length * channels),
      g_factor(count * length * channels);
  const Scratch<float> log_sum(count * length), d(count * length);
  neti::parallel_for(count * query_blocks, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++) {
      const int64_t m = i / query_blocks, begin = i % query_blocks * queries, rows = std::min(queries, L - begin);
      pack_transposed(Q.at(m, begin), Q.stride, rows, D, q_transposed.data + i * queries * D);
      pack_transposed(dO.at(m, begin), dO.stride, rows, D, g_transposed.data + i * queries * D);
      pack(Q.at(m, begin), Q.stride, rows, D, q_factor.data + i * queries * channels, channels);
      pack(dO.at(m, begin), dO.stride, rows, D, g_factor.data + i * queries * channels, channels);
      // What is beyond the last query gets the probability 0.
      std::fill_n(log_sum.data + i * queries, queries, std::numeric_limits<float>::max());
      std::fill_n(d.data + i * queries, queries, 0.f);
      std::copy_n(sums + m * L + begin, rows, log_sum.data + i * queries);
      row_products(dO.at(m, begin), dO.stride, O.at(m, begin), O.stride, rows, D, d.data + i * queries);
    }
  });

  // The keys are taken in parts, so that many processors have work; each makes a dQ of its own.
  const int64_t parts = std::clamp<int64_t>(std::min(tasks / count, task_bytes / (count * length * D * 4)), 1, key_blocks);
  const int64_t share = (key_blocks + parts - 1) / parts;
  const Scratch<float> dq(count * parts * length * D);
  neti::parallel_for(count * parts, [&](int64_t first, int64_t last) {
    const Scratch<T> k_transposed(D * keys_backward), p(keys_backward * queries), ds(keys_backward * queries),
        ds_factor(keys_backward * queries);
    const Scratch<float> s(keys_backward * queries), dp(keys_backward * queries), dk(keys_backward * channels),
        dv(keys_backward * channels);
    T *ds_rows = group<T> > 1 ? ds.data : ds_factor.data;
    for (int64_t part = first; part < last; part++) {
      const int64_t m = part / parts, begin = part % parts * share;
      float *const dq_part = dq.data + part * length * D;
      std::fill_n(dq_part, length * D, 0.f);
      for (int64_t block = begin; block < std::min(begin + share, key_blocks); block++) {
        const int64_t j = block * keys_backward, keys = std::min(keys_backward, S - j), height = up(keys, 2);
        transpose(K.at(m, j), K.stride, keys, D, k_transposed.data, height);
        for (int64_t i = 0; i < length; i += queries) {
          const int64_t row = m * length + i;
          multiply(keys, queries, D, K.at(m, j), K.stride, q_transposed.data + row * D, s.data, false);
          multiply(keys, queries, D, V.at(m, j), V.stride, g_transposed.data + row * D, dp.data, false);
          differentiate(s.data, dp.data, keys, height, scale, log_sum.data + row, d.data + row, p.data, ds_rows, ds_factor.data);
          multiply(keys, channels, queries, p.data, queries, g_factor.data + row * channels, dv.data, i > 0);
          multiply(keys, channels, queries, ds_rows, queries, q_factor.data + row * channels, dk.data, i > 0);
          multiply(D, queries, height, k_transposed.data, height, ds_factor.data, dq_part + i * D, true);
        }
        unpack(dk.data, channels, keys, D, scale, dK.at(m, j), dK.stride);
        unpack(dv.data, channels, keys, D, 1, dV.at(m, j), dV.stride);
      }
    }
    at::native::cpublas::brgemm_release(group<T> > 1);
  });
  neti::parallel_for(count * query_blocks, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++) {
      const int64_t m = i / query_blocks, begin = i % query_blocks * queries;
      unpack_transposed<T>(dq.data + m * parts * length * D + begin * D, parts, length * D, std::min(queries, L - begin), D, scale,
                           nullptr, dQ.at(m, begin), dQ.stride);
    }
  });
}

/// A tensor like x [N, heads, rows, columns], with the heads next to each other in memory.
Tensor alike(const Tensor &x) { return at::empty({x.size(0), x.size(2), x.size(1), x.size(3)}, x.options()).transpose(1, 2); }

Tensor contiguous_rows(const Tensor &x) { return x.stride(-1) == 1 ? x : x.contiguous(); }

std::pair<Tensor, Tensor> attend(const Tensor &q, const Tensor &k, const Tensor &v, double scale) {
  const Tensor output = alike(q), sums = at::empty({q.size(0), q.size(1), q.size(2)}, q.options().dtype(at::kFloat));
  if (q.scalar_type() == at::kFloat) forward<float>(q, k, v, float(scale), output, sums);
  else forward<__bf16>(q, k, v, float(scale), output, sums);
  return {output, sums};
}

/// Keeps the output and one number for each query.
struct FlashAttention : torch::autograd::Function<FlashAttention> {
  static Tensor forward(torch::autograd::AutogradContext *context, const Tensor &q, const Tensor &k, const Tensor &v,
                        double scale) {
    auto [output, sums] = attend(q, k, v, scale);
    context->save_for_backward({q, k, v, output, sums});
    context->saved_data["scale"] = scale;
    return output;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2], &output = saved[3], &sums = saved[4];
    const Tensor g = contiguous_rows(gradients[0]);
    const float scale = float(context->saved_data["scale"].toDouble());
    const Tensor dq = alike(q), dk = alike(k), dv = alike(v);
    if (q.scalar_type() == at::kFloat) ::backward<float>(q, k, v, output, sums, g, scale, dq, dk, dv);
    else ::backward<__bf16>(q, k, v, output, sums, g, scale, dq, dk, dv);
    return {dq, dk, dv, Tensor()};
  }
};

/// Whether the processor has the instructions, and the library the products.
bool is_supported() {
  static const bool result = [] {
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512bf16"))
      return false;
    try {
      alignas(64) float a[lanes * lanes] = {}, c[lanes * lanes];
      at::native::cpublas::brgemm(lanes, lanes, lanes, lanes, lanes, lanes, false, a, a, c, false);
      const auto *half = reinterpret_cast<const c10::BFloat16 *>(a);
      at::native::cpublas::brgemm(lanes, lanes, lanes, lanes, lanes, lanes, false, half, half, c, true);
      at::native::cpublas::brgemm_release(true);
      return true;
    } catch (const std::exception &) {
      return false; // a library without oneDNN
    }
  }();
  return result;
}

} // namespace

namespace neti {

bool suits_flash(const Tensor &q, const Tensor &k, const Tensor &v) {
  if (!q.device().is_cpu() || !k.device().is_cpu() || !v.device().is_cpu() || q.dim() != 4 || k.dim() != 4 || v.dim() != 4)
    return false;
  const auto dtype = q.scalar_type();
  return (dtype == at::kFloat || dtype == at::kBFloat16) && k.scalar_type() == dtype && v.scalar_type() == dtype &&
      k.sizes() == v.sizes() && q.size(0) == k.size(0) && q.size(1) == k.size(1) && q.size(3) == k.size(3) && q.size(3) % 2 == 0 &&
      q.numel() > 0 && k.size(2) >= fewest_keys && q.stride(3) == 1 && k.stride(3) == 1 && v.stride(3) == 1 && is_supported();
}

Tensor flash_attention(const Tensor &q, const Tensor &k, const Tensor &v, double scale) {
  const bool recorded = at::GradMode::is_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad());
  return recorded ? FlashAttention::apply(q, k, v, scale) : attend(q, k, v, scale).first;
}

} // namespace neti

#else

namespace neti {
bool suits_flash(const Tensor &, const Tensor &, const Tensor &) { return false; }
Tensor flash_attention(const Tensor &, const Tensor &, const Tensor &, double) { TORCH_CHECK(false, "no AVX-512"); }
} // namespace neti

#endif
