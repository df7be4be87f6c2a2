/* What the checks of kernels share: noise, counts, and what QLinearConv makes of a sum.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef LSQ_EXPORT_CHECK_H
#define LSQ_EXPORT_CHECK_H

#include "layer.h"

#include <math.h>

enum { GUARD = 0xA5 };

static unsigned long long compared, differing;
static unsigned long state = 1;

static inline unsigned noise(unsigned below) {
    state = state * 6364136223846793005UL + 1442695040888963407UL;
    return (unsigned)(state >> 33) % below;
}

/* A code less the zero point of x. */
static inline int32_t centered(const Layer *l, uint8_t code) { return (l->is_signed ? (int8_t)code : code) - l->x_zero; }

/* The code of a channel, by its sum with the bias. */
static inline uint8_t code_of(const Layer *l, size_t channel, int64_t sum) {
    const double low = l->is_signed ? -128 : 0, high = low + 255;
    const volatile float product = l->x_scale * l->scales[l->scale_count == 1 ? 0 : channel];
    const volatile float scale = product / l->y_scale, value = (float)(int32_t)sum * scale;
    return (uint8_t)(int)fmin(fmax(rint((double)value) + l->y_zero, low), high);
}

#endif
