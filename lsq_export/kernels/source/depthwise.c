/* Depthwise convolutions in portable C: what kernels leave, less than PART codes.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#include "depthwise.h"
#include "rounding.h"

void depthwise_part(const Depthwise *d, const uint8_t *const *x, uint8_t *out, size_t at, size_t place, size_t count) {
    const size_t block = place / BLOCK, from = place % BLOCK, end = d->first[block + 1] * GROUP;
    uint32_t sums[PART]; /* modulo 2^32: parts may leave the range of the whole */
    memcpy(sums, d->start + place, sizeof sums);
    for (size_t slot = d->first[block] * GROUP; slot < end; ++slot) {
        const uint8_t *codes = x[d->taps[slot]] + at;
        const int8_t *weights = d->weights + slot * BLOCK + from;
        for (size_t j = 0; j < count; ++j) sums[j] += (uint32_t)((codes[j] ^ d->flip) * weights[j]);
    }
    for (size_t j = 0; j < count; ++j) {
        const float value = (float)(int32_t)sums[j] * d->scale[place + j];
        out[at + j] = (uint8_t)(rounded(value, d->low, d->high) + d->y_zero);
    }
}
