// A C interface over libtorch: the operations that neti needs, by hand.
//
// A tensor is an opaque handle that owns one reference; `ct_free` gives it back. A function that
// returns a handle returns NULL when it failed, a function that returns int returns 0 when it
// succeeded; `ct_last_error` then holds the message for the calling thread: the operation's name,
// the shapes it was given, and libtorch's own words. No C++ exception passes it.
#ifndef CTORCH_H
#define CTORCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ct_tensor_s *ct_tensor;
typedef struct ct_generator_s *ct_generator;

// Numbers of c10::ScalarType.
// clang-format off
enum {
  CT_UINT8 = 0, CT_INT8 = 1, CT_INT16 = 2, CT_INT32 = 3, CT_INT64 = 4,
  CT_FLOAT16 = 5, CT_FLOAT32 = 6, CT_FLOAT64 = 7, CT_BOOL = 11, CT_BFLOAT16 = 15
};
// clang-format on
enum { CT_CPU = 0, CT_CUDA = 1, CT_MPS = 13 };
enum { CT_CONTIGUOUS = 0, CT_PRESERVE = 1, CT_CHANNELS_LAST = 2 };

const char *ct_last_error(void);

// ---- process
const char *ct_version(void);
bool ct_mps_available(void);
int ct_cuda_device_count(void);
/// Why there is no CUDA device, in the system's words; empty when there is one.
const char *ct_cuda_problem(void);
/// Lets CUDA round the factors of fp32 products to 10 bits; off at first.
int ct_allow_tf32(bool on);
int ct_set_threads(int n);
int ct_threads(void);
/// Keeps freed memory in the process instead of mapping large tensors anew (glibc only).
void ct_tune_allocator(void);
bool ct_grad_enabled(void);
void ct_set_grad_enabled(bool on);

// ---- making and freeing
void ct_free(ct_tensor t);
ct_tensor ct_empty(const int64_t *sizes, int rank, int dtype, int device, int index);
ct_tensor ct_full(const int64_t *sizes, int rank, double value, int dtype, int device, int index);
ct_tensor ct_arange(double start, double end, double step, int dtype);
/// Copies `bytes` from `data`.
ct_tensor ct_from_data(const void *data, size_t bytes, const int64_t *sizes, int rank, int dtype);
/// Borrows `data`; `release(context)` is called once: when the last reference to the memory goes, or
/// before this returns NULL.
ct_tensor ct_from_blob(void *data, const int64_t *sizes, int rank, int dtype, void (*release)(void *), void *context);

// ---- random numbers (the CPU generator, mt19937)
ct_generator ct_generator_new(uint64_t seed);
void ct_generator_free(ct_generator g);
ct_tensor ct_randn(ct_generator g, const int64_t *sizes, int rank, int dtype);
ct_tensor ct_rand(ct_generator g, const int64_t *sizes, int rank, int dtype);
ct_tensor ct_randint(ct_generator g, int64_t low, int64_t high, const int64_t *sizes, int rank);
ct_tensor ct_randperm(ct_generator g, int64_t n);

// ---- looking
int ct_rank(ct_tensor t);
int64_t ct_size(ct_tensor t, int dim);
int64_t ct_stride(ct_tensor t, int dim);
int64_t ct_numel(ct_tensor t);
int ct_dtype(ct_tensor t);
int ct_device(ct_tensor t, int *index);
bool ct_is_contiguous(ct_tensor t);
bool ct_requires_grad(ct_tensor t);
/// Copies the elements, in row-major order, into `out`, which holds `bytes`.
int ct_copy_out(ct_tensor t, void *out, size_t bytes);

// ---- autograd
int ct_set_requires_grad(ct_tensor t, bool on);
int ct_backward(ct_tensor t);
/// The gradient, or NULL without an error when there is none.
ct_tensor ct_grad(ct_tensor t);
void ct_clear_grad(ct_tensor t);
/// Gradients of `sum(outputs[i] * seeds[i])` (a NULL seed for a scalar) with respect to inputs.
int ct_gradients(const ct_tensor *outputs, const ct_tensor *seeds, int n_outputs, const ct_tensor *inputs, int n_inputs,
                 ct_tensor *gradients);
ct_tensor ct_detach(ct_tensor t);
int ct_fused_adamw(const ct_tensor *params, const ct_tensor *grads, const ct_tensor *exp_avg, const ct_tensor *exp_avg_sq,
                   const ct_tensor *steps, int n, double lr, double beta1, double beta2, double weight_decay, double eps);

// ---- moving and shaping
ct_tensor ct_to(ct_tensor t, int dtype, int device, int index, int memory_format, bool copy);
ct_tensor ct_contiguous(ct_tensor t, int memory_format);
ct_tensor ct_clone(ct_tensor t);
int ct_copy_into(ct_tensor destination, ct_tensor source);
ct_tensor ct_reshape(ct_tensor t, const int64_t *sizes, int rank);
ct_tensor ct_permute(ct_tensor t, const int64_t *dims, int rank);
ct_tensor ct_transpose(ct_tensor t, int64_t a, int64_t b);
ct_tensor ct_unsqueeze(ct_tensor t, int64_t dim);
ct_tensor ct_squeeze(ct_tensor t, int64_t dim);
ct_tensor ct_expand(ct_tensor t, const int64_t *sizes, int rank);
/// The range must lie within the dimension.
ct_tensor ct_slice(ct_tensor t, int64_t dim, int64_t start, int64_t end, int64_t step);
ct_tensor ct_select(ct_tensor t, int64_t dim, int64_t index);
ct_tensor ct_index_select(ct_tensor t, int64_t dim, ct_tensor index);
ct_tensor ct_index_copy(ct_tensor t, int64_t dim, ct_tensor index, ct_tensor source);
ct_tensor ct_gather(ct_tensor t, int64_t dim, ct_tensor index);
ct_tensor ct_scatter(ct_tensor t, int64_t dim, ct_tensor index, ct_tensor source);
ct_tensor ct_repeat_interleave(ct_tensor t, int64_t n, int64_t dim);
ct_tensor ct_flip(ct_tensor t, int64_t dim);
ct_tensor ct_cat(const ct_tensor *tensors, int n, int64_t dim);
ct_tensor ct_stack(const ct_tensor *tensors, int n, int64_t dim);
ct_tensor ct_pad(ct_tensor t, const int64_t *amounts, int n, double value);

// ---- arithmetic
ct_tensor ct_add(ct_tensor a, ct_tensor b);
ct_tensor ct_sub(ct_tensor a, ct_tensor b);
ct_tensor ct_mul(ct_tensor a, ct_tensor b);
ct_tensor ct_div(ct_tensor a, ct_tensor b);
ct_tensor ct_add_scalar(ct_tensor a, double b);
ct_tensor ct_mul_scalar(ct_tensor a, double b);
ct_tensor ct_div_scalar(ct_tensor a, double b);
ct_tensor ct_rsub_scalar(ct_tensor a, double b);
ct_tensor ct_pow_scalar(ct_tensor a, double b);
int ct_add_(ct_tensor a, ct_tensor b, double alpha);
int ct_mul_(ct_tensor a, double b);
int ct_zero_(ct_tensor a);

// clang-format off
enum {
  CT_NEG, CT_EXP, CT_LOG, CT_SQRT, CT_SIN, CT_COS, CT_ABS, CT_SIGMOID, CT_SILU, CT_TANH,
  CT_GELU, CT_GELU_TANH, CT_RELU, CT_ROUND, CT_FLOOR, CT_ISFINITE, CT_SQUARE, CT_QUICK_GELU, CT_MISH
};
// clang-format on
ct_tensor ct_unary(int operation, ct_tensor a);
ct_tensor ct_leaky_relu(ct_tensor a, double slope);
ct_tensor ct_clamp(ct_tensor a, double low, double high);
ct_tensor ct_less(ct_tensor a, ct_tensor b);
ct_tensor ct_where(ct_tensor condition, ct_tensor a, ct_tensor b);
ct_tensor ct_softmax(ct_tensor a, int64_t dim);
enum { CT_SUM, CT_MEAN, CT_AMAX, CT_AMIN, CT_NORM };
/// Over `dims`; over everything when n == 0.
ct_tensor ct_reduce(int operation, ct_tensor a, const int64_t *dims, int n, bool keep);
ct_tensor ct_mse_loss(ct_tensor a, ct_tensor b);
ct_tensor ct_argsort(ct_tensor a, int64_t dim, bool descending);

// ---- layers
ct_tensor ct_matmul(ct_tensor a, ct_tensor b);
ct_tensor ct_linear(ct_tensor x, ct_tensor weight, ct_tensor bias);
ct_tensor ct_conv2d(ct_tensor x, ct_tensor weight, ct_tensor bias, int64_t stride, int64_t padding);
ct_tensor ct_group_norm(ct_tensor x, int64_t groups, ct_tensor weight, ct_tensor bias, double eps, bool silu);
/// GEGLU between two matrices: w2 (a · gelu(g)) + b2, where [a; g] are the halves of w1 x + b1; the biases may be NULL.
/// Frozen weights only.
ct_tensor ct_geglu(ct_tensor x, ct_tensor w1, ct_tensor b1, ct_tensor w2, ct_tensor b2);
ct_tensor ct_layer_norm(ct_tensor x, ct_tensor weight, ct_tensor bias, double eps);
ct_tensor ct_embedding(ct_tensor weight, ct_tensor indices);
/// softmax(q kᵀ · scale + mask) v. `mask` may be NULL; `scale` <= 0 means 1/sqrt(head size).
ct_tensor ct_attention(ct_tensor q, ct_tensor k, ct_tensor v, ct_tensor mask, bool causal, double scale);
/// Our own kernel in blocks; libtorch's fused one; matrix products with a softmax between them.
enum { CT_OWN_ATTENTION, CT_FUSED_ATTENTION, CT_PLAIN_ATTENTION };
/// Which of these ct_attention takes.
int ct_attention_kernel(ct_tensor q, ct_tensor k, ct_tensor v, ct_tensor mask, bool causal);
ct_tensor ct_upsample_nearest(ct_tensor x, int64_t height, int64_t width);

#ifdef __cplusplus
}
#endif
#endif
