/* Products and sums of two tensors of codes: one function for each instruction set.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 *
 *     product   y = clamp(round_half_even((a - a_zero)·(b - b_zero)·ratio + y_zero))
 *     sum       y = clamp(round_half_even(fma(a, a_ratio, fma(b, b_ratio, constant))))
 *
 * Each operation rounds to float, fma once for both of its operations: so ONNX Runtime computes QLinearMul and
 * QLinearAdd on x86-64, and these functions compute the same everywhere.
 */
#ifndef LSQ_EXPORT_PAIR_H
#define LSQ_EXPORT_PAIR_H

#include <stddef.h>
#include <stdint.h>

/* `flip` is 0 for unsigned codes and 128 for signed ones; a_zero is that of the flipped code, the true one plus flip.
 * low, high: the smallest and the largest code. y_zero: the true one. */
typedef struct Product {
    float a_zero, ratio, y_zero, low, high;
    uint8_t flip;
} Product;

typedef struct Sum {
    float a_ratio, b_ratio, constant, low, high;
    uint8_t flip;
} Sum;

/* factors [count]: b - b_zero. `out` is `a`, or does not overlap it. No address needs to be aligned. */
typedef void (*ProductFunction)(const Product *product, const float *factors, const uint8_t *a, uint8_t *out,
                                size_t count);
typedef void (*SumFunction)(const Sum *sum, const uint8_t *a, const uint8_t *b, uint8_t *out, size_t count);
/* As SumFunction, of an inner fma that is known. inner [count]. */
typedef void (*ShiftFunction)(const Sum *sum, const float *inner, const uint8_t *a, uint8_t *out, size_t count);

void shift_portable(const Sum *sum, const float *inner, const uint8_t *a, uint8_t *out, size_t count);
void product_portable(const Product *product, const float *factors, const uint8_t *a, uint8_t *out, size_t count);
void sum_portable(const Sum *sum, const uint8_t *a, const uint8_t *b, uint8_t *out, size_t count);
#if defined(__x86_64__) && defined(__GNUC__)
void product_avx2(const Product *product, const float *factors, const uint8_t *a, uint8_t *out, size_t count);
void shift_avx2(const Sum *sum, const float *inner, const uint8_t *a, uint8_t *out, size_t count);
void sum_avx2(const Sum *sum, const uint8_t *a, const uint8_t *b, uint8_t *out, size_t count);
void product_avx512(const Product *product, const float *factors, const uint8_t *a, uint8_t *out, size_t count);
void shift_avx512(const Sum *sum, const float *inner, const uint8_t *a, uint8_t *out, size_t count);
void sum_avx512(const Sum *sum, const uint8_t *a, const uint8_t *b, uint8_t *out, size_t count);
#endif

/* a·b + c, rounded once. */
float exact_fma(float a, float b, float c);

#endif
