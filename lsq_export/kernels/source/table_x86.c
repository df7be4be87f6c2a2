/* Kernels for x86-64: AVX-512 VBMI and AVX2. The file is compiled for any x86-64; the functions are for their own.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#include "table.h"

#ifdef HAS_X86
#include "entries_x86.h"

AVX512 void lookup_avx512vbmi(const uint8_t *table, uint8_t flip, const uint8_t *in, uint8_t *out, size_t count) {
    const Entries entries = entries_of(table, flip);
    size_t i = 0;
    for (; i + 64 <= count; i += 64) _mm512_storeu_si512(out + i, look_up(&entries, _mm512_loadu_si512(in + i)));
    const __mmask64 rest = ((__mmask64)1 << (count - i)) - 1; /* fewer than 64 are left: the others are not touched */
    _mm512_mask_storeu_epi8(out + i, rest, look_up(&entries, _mm512_maskz_loadu_epi8(rest, in + i)));
}

/* Entries at both ends of a table are often the same (what cannot occur, or is clipped): `first` and `last` bound the
 * entries that are needed, and codes outside of them are moved to the bound. */
static void window(const uint8_t *table, int *first, int *last) {
    int low = 0, high = 255;
    while (low < 255 && table[low + 1] == table[low]) ++low;
    while (high > low && table[high - 1] == table[high]) --high;
    *first = low;
    *last = high;
}

enum { SMALL = 512 }; /* codes for which it does not pay to prepare the table */

/* 32 codes at a time. A shuffle looks up 16 entries, and gives 0 where bit 7 of its index is set. With entries stored as
 * differences (XOR) to those 16 before them, blocks 0, 1, … of which the index, less 16 each time, is not yet negative
 * add up to the entry. 128 entries are the reach of that; the others are looked up with bit 7 inverted. */
__attribute__((target("avx2"))) static void lookup_blocks(
    const uint8_t *entries, int blocks, uint8_t flip, int first, int span, const uint8_t *in, uint8_t *out) {
    const __m256i sixteen = _mm256_set1_epi8(16);
    __m256i index = _mm256_xor_si256(_mm256_loadu_si256((const void *)in), _mm256_set1_epi8((char)flip));
    index = _mm256_subs_epu8(index, _mm256_set1_epi8((char)first));
    index = _mm256_min_epu8(index, _mm256_set1_epi8((char)span));
    __m256i upper = _mm256_xor_si256(index, _mm256_set1_epi8((char)128)), result = _mm256_setzero_si256();
    for (int b = 0; b < blocks && b < 8; ++b) {
        const __m256i block = _mm256_broadcastsi128_si256(_mm_load_si128((const void *)(entries + 16 * b)));
        result = _mm256_xor_si256(result, _mm256_shuffle_epi8(block, index));
        index = _mm256_subs_epi8(index, sixteen);
    }
    for (int b = 8; b < blocks; ++b) {
        const __m256i block = _mm256_broadcastsi128_si256(_mm_load_si128((const void *)(entries + 16 * b)));
        result = _mm256_xor_si256(result, _mm256_shuffle_epi8(block, upper));
        upper = _mm256_subs_epi8(upper, sixteen);
    }
    _mm256_storeu_si256((void *)out, result);
}

__attribute__((target("avx2"))) void lookup_avx2(
    const uint8_t *table, uint8_t flip, const uint8_t *in, uint8_t *out, size_t count) {
    int first, last;
    if (count < SMALL) {
        lookup_portable(table, flip, in, out, count);
        return;
    }
    window(table, &first, &last);
    const int span = last - first, blocks = span / 16 + 1;
    _Alignas(16) uint8_t entries[256];
    for (int k = 0; k < 16 * blocks; ++k) {
        const uint8_t entry = table[first + k < 256 ? first + k : 255];
        const uint8_t before = k % 128 < 16 ? 0 : table[first + k - 16 < 256 ? first + k - 16 : 255];
        entries[k] = entry ^ before;
    }
    size_t i = 0;
    for (; i + 32 <= count; i += 32) lookup_blocks(entries, blocks, flip, first, span, in + i, out + i);
    lookup_portable(table, flip, in + i, out + i, count - i);
}
#endif
