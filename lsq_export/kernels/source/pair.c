/* Products and sums of codes in portable C.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#include "pair.h"
#include "rounding.h"

#include <string.h>

/* The product of two floats is exact in double. The sum of it and c is rounded to odd there: its last bit says that
 * something was cut off, so that the rounding to float sees on which side of a tie it is. */
float exact_fma(float a, float b, float c) {
#if defined(__aarch64__)
    return __builtin_fmaf(a, b, c);
#else
    const double product = (double)a * b, sum = product + c, part = sum - product;
    const double cut = (product - (sum - part)) + (c - part);
    int64_t bits;
    double odd;
    memcpy(&bits, &sum, sizeof bits);
    if (cut != 0 && !(bits & 1)) bits += (cut > 0) == (sum > 0) ? 1 : -1;
    memcpy(&odd, &bits, sizeof odd);
    return (float)odd;
#endif
}

void product_portable(const Product *p, const float *factors, const uint8_t *a, uint8_t *out, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        const float product = ((float)(a[i] ^ p->flip) - p->a_zero) * factors[i]; /* exact */
        const float scaled = product * p->ratio;
        out[i] = (uint8_t)rounded(scaled + p->y_zero, p->low, p->high);
    }
}

void shift_portable(const Sum *s, const float *inner, const uint8_t *a, uint8_t *out, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        const float first = (float)(a[i] ^ s->flip) - s->flip;
        out[i] = (uint8_t)rounded(exact_fma(first, s->a_ratio, inner[i]), s->low, s->high);
    }
}

void sum_portable(const Sum *s, const uint8_t *a, const uint8_t *b, uint8_t *out, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        const float first = (float)(a[i] ^ s->flip) - s->flip, second = (float)(b[i] ^ s->flip) - s->flip;
        out[i] = (uint8_t)rounded(exact_fma(first, s->a_ratio, exact_fma(second, s->b_ratio, s->constant)), s->low, s->high);
    }
}
