// Winograd's minimal filtering F(4×4, 3×3), after Lavin & Gray, *Fast Algorithms for Convolutional
// Neural Networks* (https://arxiv.org/abs/1509.09308).
//
// A tile of 4×4 outputs needs 6×6 inputs. With d the inputs of one channel and g its 3×3 filter,
//
//     Y = Aᵀ [ Σ over channels (G g Gᵀ) ⊙ (Bᵀ d B) ] A
//
// so that the sum over channels is 36 matrix products, with 36 multiplications for 16 outputs where
// the plain sum has 144. Everything lies with channels last, and vectors run over channels.
#include "winograd.h"

#include "parallel.h"
#include "vectors.h"
#include <ATen/core/grad_mode.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>

#include <algorithm>

// The transforms are compiled for each kind of processor, and the right one is taken at run time: before the sanitizer
// of threads has begun, which then ends the process.
#if defined(__x86_64__) && defined(__linux__) && !__has_feature(thread_sanitizer)
#define FOR_EVERY_PROCESSOR __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EVERY_PROCESSOR
#endif

namespace {

constexpr int tile = 4;       // outputs of a tile, in each direction
constexpr int patch = 6;      // inputs of a tile
constexpr int points = 36;    // matrix products

/// Bᵀ d
INLINE void input_transform(const vec d[6], vec t[6]) {
  t[0] = 4.f * d[0] - 5.f * d[2] + d[4];
  vec a = d[4] - 4.f * d[2], b = d[3] - 4.f * d[1];
  t[1] = a + b;
  t[2] = a - b;
  vec c = d[4] - d[2], e = 2.f * (d[3] - d[1]);
  t[3] = c + e;
  t[4] = c - e;
  t[5] = 4.f * d[1] - 5.f * d[3] + d[5];
}

/// G g
INLINE void filter_transform(const vec g[3], vec t[6]) {
  t[0] = 0.25f * g[0];
  vec a = (-1.f / 6) * (g[0] + g[2]), b = (-1.f / 6) * g[1];
  t[1] = a + b;
  t[2] = a - b;
  vec c = (1.f / 24) * g[0] + (1.f / 6) * g[2], d = (1.f / 12) * g[1];
  t[3] = c + d;
  t[4] = c - d;
  t[5] = g[2];
}

/// Aᵀ m
INLINE void output_transform(const vec m[6], vec t[4]) {
  vec a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], d = m[3] - m[4];
  t[0] = m[0] + a + c;
  t[1] = b + 2.f * d;
  t[2] = a + 4.f * c;
  t[3] = b + 8.f * d + m[5];
}

/// An image with channels last.
struct Image {
  float *data;
  int64_t height, width, channels;
  float *at(int64_t n, int64_t y, int64_t x) const { return data + ((n * height + y) * width + x) * channels; }
};

/// Tiles in rows, of all images of a batch.
struct Tiles {
  int64_t rows, columns, count;
  Tiles(int64_t n, int64_t h, int64_t w) : rows((h + tile - 1) / tile), columns((w + tile - 1) / tile), count(n * rows * columns) {}
  void place(int64_t i, int64_t &n, int64_t &y, int64_t &x) const {
    n = i / (rows * columns);
    y = i / columns % rows * tile;
    x = i % columns * tile;
  }
};

/// Tiles first ..< last to v[36][span][channels], from row `first - origin` on.
FOR_EVERY_PROCESSOR
void transform_inputs(const Image &in, const Tiles &tiles, int64_t first, int64_t last, float *v, int64_t origin, int64_t span) {
  const int64_t C = in.channels;
  for (int64_t i = first; i < last; i++) {
    int64_t n, y0, x0;
    tiles.place(i, n, y0, x0);
    for (int64_t c = 0; c < C; c += lanes) {
      vec t[patch][patch];
      for (int x = 0; x < patch; x++) {
        vec d[patch], r[patch];
        const int64_t px = x0 + x - 1;
        for (int y = 0; y < patch; y++) {
          const int64_t py = y0 + y - 1;
          const bool inside = px >= 0 && px < in.width && py >= 0 && py < in.height;
          if (inside) d[y] = at(in.at(n, py, px) + c);
          else d[y] = vec{};
        }
        input_transform(d, r);
        for (int y = 0; y < patch; y++) t[y][x] = r[y];
      }
      float *out = v + (i - origin) * C + c;
      for (int y = 0; y < patch; y++) {
        vec r[patch];
        input_transform(t[y], r);
        for (int x = 0; x < patch; x++) at(out + (y * patch + x) * span * C) = r[x];
      }
    }
  }
}

/// m[36][tiles first ..< last][width] to the channels channel ..< channel + width of the image.
FOR_EVERY_PROCESSOR
void transform_outputs(const float *m, int64_t width, const float *bias, const Image &out, const Tiles &tiles, int64_t first,
                       int64_t last, int64_t channel) {
  const int64_t span = last - first;
  for (int64_t i = first; i < last; i++) {
    int64_t n, y0, x0;
    tiles.place(i, n, y0, x0);
    for (int64_t c = 0; c < width; c += lanes) {
      const float *in = m + (i - first) * width + c;
      vec t[tile][patch];
      for (int x = 0; x < patch; x++) {
        vec d[patch], r[tile];
        for (int y = 0; y < patch; y++) d[y] = at(in + (y * patch + x) * span * width);
        output_transform(d, r);
        for (int y = 0; y < tile; y++) t[y][x] = r[y];
      }
      vec b{};
      if (bias) b = at(bias + channel + c);
      for (int y = 0; y < tile && y0 + y < out.height; y++) {
        vec r[tile];
        output_transform(t[y], r);
        for (int x = 0; x < tile && x0 + x < out.width; x++) at(out.at(n, y0 + y, x0 + x) + channel + c) = r[x] + b;
      }
    }
  }
}

/// Filters of the rows k ..< k + rows and the columns c ..< c + columns of w [K][3][3][C] to
/// u[36][rows][columns]; `flipped` turns each by half a circle.
FOR_EVERY_PROCESSOR
void transform_filters(const float *w, int64_t C, int64_t k, int64_t rows, int64_t c, int64_t columns, bool flipped, float *u,
                       int64_t first, int64_t last) {
  for (int64_t i = first; i < last; i++) {
    const float *filter = w + (k + i) * 9 * C + c;
    for (int64_t j = 0; j < columns; j += lanes) {
      vec t[3][patch];
      for (int x = 0; x < 3; x++) {
        vec g[3], r[patch];
        for (int y = 0; y < 3; y++) g[y] = at(filter + (flipped ? (2 - y) * 3 + 2 - x : y * 3 + x) * C + j);
        filter_transform(g, r);
        for (int y = 0; y < patch; y++) t[x][y] = r[y];
      }
      float *out = u + i * columns + j;
      for (int y = 0; y < patch; y++) {
        vec r[patch];
        const vec g[3] = {t[0][y], t[1][y], t[2][y]};
        filter_transform(g, r);
        for (int x = 0; x < patch; x++) at(out + (y * patch + x) * rows * columns) = r[x];
      }
    }
  }
}

/// Bytes that a thread's block of transformed filters or inputs takes. Large blocks make large products;
/// with few tiles the products are small anyway, and a block is best kept in the nearest cache. Measured.
int64_t block_bytes(const Tiles &tiles) { return (tiles.count <= 16 ? 3 : 10) << 20; }

/// The size of blocks of `count` things, an even number of about equal ones for two threads or more,
/// each a multiple of `unit` and at most about `most`. It does not depend on the number of threads, so
/// that results do not.
int64_t block_size(int64_t count, int64_t most, int64_t unit) {
  const int64_t blocks = ((count + most - 1) / most + 1) / 2 * 2;
  return ((count + blocks - 1) / blocks + unit - 1) / unit * unit;
}

/// Below this many positions libtorch's own convolution is faster; measured.
constexpr int64_t fewest_positions = 256;

} // namespace

namespace neti {

bool suits_winograd(const at::Tensor &x, const at::Tensor &weight, int64_t stride, int64_t padding) {
  return stride == 1 && padding == 1 && x.dim() == 4 && x.device().is_cpu() && weight.device().is_cpu() &&
      x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat && weight.dim() == 4 && weight.size(2) == 3 &&
      weight.size(3) == 3 && weight.size(0) % lanes == 0 && weight.size(1) % lanes == 0 &&
      x.size(0) * x.size(2) * x.size(3) >= fewest_positions;
}

at::Tensor winograd(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &bias, bool transposed) {
  const at::NoGradGuard guard;
  const at::Tensor input = x.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor filters = weight.contiguous(at::MemoryFormat::ChannelsLast);
  const int64_t N = x.size(0), H = x.size(2), W = x.size(3), C = weight.size(1);
  const int64_t inputs = weight.size(transposed ? 0 : 1), outputs = weight.size(transposed ? 1 : 0);
  TORCH_CHECK(x.size(1) == inputs, "the input has ", x.size(1), " channels, and the filters ", inputs);
  TORCH_CHECK(!bias.defined() || (bias.scalar_type() == at::kFloat && bias.sizes() == at::IntArrayRef{outputs}),
              "the bias must be fp32 and have ", outputs, " elements");
  at::Tensor output = at::empty({N, outputs, H, W}, x.options(), at::MemoryFormat::ChannelsLast);
  const Image in{input.mutable_data_ptr<float>(), H, W, inputs}, out{output.mutable_data_ptr<float>(), H, W, outputs};
  const at::Tensor added = bias.defined() ? bias.contiguous() : bias;
  const float *b = added.defined() ? static_cast<const float *>(added.const_data_ptr()) : nullptr;
  const float *w = static_cast<const float *>(filters.const_data_ptr());
  const Tiles tiles(N, H, W);
  // v [36, T, inputs] times u, which is [36, outputs, inputs], or when transposed [36, inputs, outputs].
  const auto times = [&](const at::Tensor &v, const at::Tensor &u) { return at::bmm(v, transposed ? u : u.transpose(1, 2)); };

  if (tiles.count * 2 >= outputs) {
    // Many tiles: the filters are transformed once, and the tiles taken in blocks.
    at::Tensor u = at::empty({points, weight.size(0), C}, x.options());
    neti::parallel_for(weight.size(0), [&](int64_t first, int64_t last) {
      transform_filters(w, C, 0, weight.size(0), 0, C, transposed, u.mutable_data_ptr<float>(), first, last);
    });
    const int64_t most = std::clamp<int64_t>(block_bytes(tiles) / (points * 4 * std::max(inputs, outputs)), 16, 256);
    const int64_t span = block_size(tiles.count, most, 1);
    neti::parallel_for((tiles.count + span - 1) / span, [&](int64_t first, int64_t last) {
      const at::NoGradGuard guard;
      for (int64_t i = first; i < last; i++) {
        const int64_t begin = i * span, end = std::min(begin + span, tiles.count);
        at::Tensor v = at::empty({points, end - begin, inputs}, x.options());
        transform_inputs(in, tiles, begin, end, v.mutable_data_ptr<float>(), begin, end - begin);
        const at::Tensor m = times(v, u);
        transform_outputs(static_cast<const float *>(m.const_data_ptr()), outputs, b, out, tiles, begin, end, 0);
      }
    });
  } else {
    // Many filters: the tiles are transformed once, and the filters taken in blocks of output channels.
    at::Tensor v = at::empty({points, tiles.count, inputs}, x.options());
    neti::parallel_for(tiles.count, [&](int64_t first, int64_t last) {
      transform_inputs(in, tiles, first, last, v.mutable_data_ptr<float>(), 0, tiles.count);
    });
    const int64_t most = std::clamp<int64_t>(block_bytes(tiles) / (points * 4 * inputs), lanes, 128);
    const int64_t width = block_size(outputs, most, lanes);
    neti::parallel_for((outputs + width - 1) / width, [&](int64_t first, int64_t last) {
      const at::NoGradGuard guard;
      for (int64_t i = first; i < last; i++) {
        const int64_t channel = i * width, count = std::min(width, outputs - channel);
        const int64_t rows = transposed ? inputs : count, columns = transposed ? count : C;
        at::Tensor u = at::empty({points, rows, columns}, x.options());
        transform_filters(w, C, transposed ? 0 : channel, rows, transposed ? channel : 0, columns, transposed,
                          u.mutable_data_ptr<float>(), 0, rows);
        const at::Tensor m = times(v, u);
        transform_outputs(static_cast<const float *>(m.const_data_ptr()), count, b, out, tiles, 0, tiles.count, channel);
      }
    });
  }
  return output;
}

} // namespace neti
