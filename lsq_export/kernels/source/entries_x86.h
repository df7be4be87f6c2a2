/* Tables for kernels of AVX-512 with VBMI.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#ifndef LSQ_EXPORT_ENTRIES_X86_H
#define LSQ_EXPORT_ENTRIES_X86_H

#include <immintrin.h>
#include <stdint.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")))
#define INLINE AVX512 static inline __attribute__((always_inline))

/* A table of 256 entries, or none, and the bits of codes that are turned to have their place in it. */
typedef struct Entries {
    __m512i quarters[4], flip;
    int is_none;
} Entries;

INLINE Entries entries_of(const uint8_t *table, uint8_t flip) {
    Entries entries = {.flip = _mm512_set1_epi8((char)flip), .is_none = !table};
    for (int i = 0; i < 4 && table; ++i) entries.quarters[i] = _mm512_loadu_si512(table + 64 * i);
    return entries;
}

/* The entries of 64 codes: a permutation of two registers looks up the low seven bits in one half of the table. */
INLINE __m512i look_up(const Entries *entries, __m512i codes) {
    const __m512i index = _mm512_xor_si512(codes, entries->flip), *quarters = entries->quarters;
    const __m512i low = _mm512_permutex2var_epi8(quarters[0], index, quarters[1]);
    const __m512i high = _mm512_permutex2var_epi8(quarters[2], index, quarters[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), low, high);
}

#endif
