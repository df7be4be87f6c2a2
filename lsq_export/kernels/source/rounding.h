/* Rounding of floats to codes.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#ifndef LSQ_EXPORT_ROUNDING_H
#define LSQ_EXPORT_ROUNDING_H

#include <stdint.h>
#include <string.h>

/* Half-even rounding of what is clamped to integers `low` and `high`, below 2^22: the low bits of 1.5 · 2^23 + x are the
 * integer. */
static inline int32_t rounded(float x, float low, float high) {
    int32_t bits;
    x = x < low ? low : x > high ? high : x;
    x += 12582912.0F;
    memcpy(&bits, &x, sizeof bits);
    return bits - 0x4B400000;
}

#endif
