/* Depthwise convolutions for 64-bit Arm.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#include "depthwise.h"

#if defined(__aarch64__)
#include <arm_neon.h>

static inline int32x4_t codes_4(const Depthwise *d, int32x4_t sums, const float *scale) {
    float32x4_t values = vmulq_f32(vcvtq_f32_s32(sums), vld1q_f32(scale));
    values = vminq_f32(vmaxq_f32(values, vdupq_n_f32(d->low)), vdupq_n_f32(d->high));
    return vaddq_s32(vcvtnq_s32_f32(values), vdupq_n_s32(d->y_zero));
}

/* PART codes. */
static void part_neon(const Depthwise *d, const uint8_t *const *x, uint8_t *out, size_t at, size_t place) {
    const size_t block = place / BLOCK, from = place % BLOCK, end = d->first[block + 1] * GROUP;
    const uint8x16_t flip = vdupq_n_u8(d->flip);
    const float *scale = d->scale + place;
    int32x4_t sums[4];
    for (int q = 0; q < 4; ++q) sums[q] = vld1q_s32(d->start + place + 4 * q);
    for (size_t slot = d->first[block] * GROUP; slot < end; ++slot) {
        const uint8x16_t codes = veorq_u8(vld1q_u8(x[d->taps[slot]] + at), flip);
        const int8x16_t w = vld1q_s8(d->weights + slot * BLOCK + from);
        const int16x8_t x_low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(codes)));
        const int16x8_t x_high = vreinterpretq_s16_u16(vmovl_high_u8(codes));
        const int16x8_t w_low = vmovl_s8(vget_low_s8(w)), w_high = vmovl_high_s8(w);
        sums[0] = vmlal_s16(sums[0], vget_low_s16(x_low), vget_low_s16(w_low));
        sums[1] = vmlal_high_s16(sums[1], x_low, w_low);
        sums[2] = vmlal_s16(sums[2], vget_low_s16(x_high), vget_low_s16(w_high));
        sums[3] = vmlal_high_s16(sums[3], x_high, w_high);
    }
    const int16x8_t low = vuzp1q_s16(vreinterpretq_s16_s32(codes_4(d, sums[0], scale)),
                                     vreinterpretq_s16_s32(codes_4(d, sums[1], scale + 4)));
    const int16x8_t high = vuzp1q_s16(vreinterpretq_s16_s32(codes_4(d, sums[2], scale + 8)),
                                      vreinterpretq_s16_s32(codes_4(d, sums[3], scale + 12)));
    vst1q_u8(out + at, vuzp1q_u8(vreinterpretq_u8_s16(low), vreinterpretq_u8_s16(high))); /* the low bytes */
}

void depthwise_neon(const Depthwise *d, const uint8_t *const *x, uint8_t *out, size_t count) {
    const size_t period = d->blocks * BLOCK;
    size_t at = 0, place = 0;
    for (; at + PART <= count; at += PART, place = place + PART == period ? 0 : place + PART) part_neon(d, x, out, at, place);
    if (at < count) depthwise_part(d, x, out, at, place, count - at);
}
#endif
