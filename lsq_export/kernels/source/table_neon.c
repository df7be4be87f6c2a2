/* The kernel for 64-bit Arm: NEON, which all of them have.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#include "table.h"

#ifdef HAS_NEON
#include <arm_neon.h>

/* 16 codes at a time: one lookup reaches 64 entries; an index outside of them leaves what the others found. */
void lookup_neon(const uint8_t *table, uint8_t flip, const uint8_t *in, uint8_t *out, size_t count) {
    const uint8x16x4_t t0 = vld1q_u8_x4(table), t1 = vld1q_u8_x4(table + 64);
    const uint8x16x4_t t2 = vld1q_u8_x4(table + 128), t3 = vld1q_u8_x4(table + 192);
    const uint8x16_t flips = vdupq_n_u8(flip);
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        const uint8x16_t index = veorq_u8(vld1q_u8(in + i), flips);
        uint8x16_t result = vqtbl4q_u8(t0, index);
        result = vqtbx4q_u8(result, t1, vsubq_u8(index, vdupq_n_u8(64)));
        result = vqtbx4q_u8(result, t2, vsubq_u8(index, vdupq_n_u8(128)));
        result = vqtbx4q_u8(result, t3, vsubq_u8(index, vdupq_n_u8(192)));
        vst1q_u8(out + i, result);
    }
    lookup_portable(table, flip, in + i, out + i, count - i);
}
#endif
