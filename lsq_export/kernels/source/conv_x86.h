/* What kernels of convolutions for AVX-512 with VNNI share: the sums of a block of channels, and the codes of sums.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#ifndef LSQ_EXPORT_CONV_X86_H
#define LSQ_EXPORT_CONV_X86_H

#include "conv.h"
#include "entries_x86.h"

#include <string.h>

#define APART AVX512 static __attribute__((noinline, unused)) /* where compilers would run out of registers */

enum { HALF = COLUMNS / 2, TOGETHER = 8, AHEAD = STEP * COLUMNS }; /* TOGETHER: rows whose sums are in registers at once */

/* A block of channels, some of which there may not be. */
typedef struct Block {
    __m512 scale[2];
    __m512i start[2];
    __mmask32 mask;
    const int8_t *weights;
    size_t channel, first, end; /* the first channel; fours of codes whose weights are not all 0 */
} Block;

INLINE Block block_of(const Conv *c, size_t number) {
    const size_t channel = number * COLUMNS, left = c->channels - channel;
    Block block = {.mask = left < COLUMNS ? (1U << left) - 1 : 0xFFFFFFFF, .channel = channel,
                   .first = c->spans[2 * number], .end = c->spans[2 * number + 1],
                   .weights = c->weights + channel * c->depth};
    for (int half = 0; half < 2; ++half) {
        block.scale[half] = _mm512_loadu_ps(c->scale + channel + HALF * half);
        block.start[half] = _mm512_loadu_si512(c->start + channel + HALF * half);
    }
    return block;
}

/* Less y_zero, and not clamped below: what is too low saturates on the way to bytes, what is too high would become the
 * lowest integer. */
INLINE __m512i codes_16(const Conv *c, __m512 scale, __m512i sums) {
    return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale), _mm512_set1_ps(c->high)));
}

INLINE __m512i codes_32(const Conv *c, const Block *b, const __m512i sums[2]) {
    const __m512i codes = _mm512_packs_epi32(codes_16(c, b->scale[0], sums[0]), codes_16(c, b->scale[1], sums[1]));
    return _mm512_adds_epi16(codes, _mm512_set1_epi16((short)c->y_zero));
}

INLINE void store_32(const Block *block, __m256i codes, uint8_t *out) {
    if (block->mask == 0xFFFFFFFF) _mm256_storeu_si256((void *)(out + block->channel), codes);
    else _mm256_mask_storeu_epi8(out + block->channel, block->mask, codes);
}

/* The codes of two pixels, or of one, by the sums of the halves of a block. Packing orders them by lanes of 16 bytes. */
INLINE void store_rows(const Conv *c, const Block *b, const Entries *entries, const __m512i sums[4], int count,
                       uint8_t *out) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i first = codes_32(c, b, sums), second = codes_32(c, b, sums + 2);
    const __m512i bytes = c->flip ? _mm512_packs_epi16(first, second) : _mm512_packus_epi16(first, second);
    const __m512i ordered = _mm512_permutexvar_epi32(order, bytes);
    const __m512i codes = entries->is_none ? ordered : look_up(entries, ordered);
    store_32(b, _mm512_castsi512_si256(codes), out);
    if (count > 1) store_32(b, _mm512_extracti64x4_epi64(codes, 1), out + c->channels);
}

/* Add the products of four codes of one row, with those of 32 channels. */
#define ADD_ROW(row) \
    do { \
        int32_t codes; \
        memcpy(&codes, at + (row) * stride, sizeof codes); \
        const __m512i four = _mm512_set1_epi32(codes); \
        a##row = _mm512_dpbusd_epi32(a##row, four, first); \
        b##row = _mm512_dpbusd_epi32(b##row, four, second); \
    } while (0)

/* The weights of four codes: of each half of the channels. */
#define LOAD_WEIGHTS(quad) \
    const int8_t *weights = block->weights + (quad) / (STEP / 4) * STEP * COLUMNS + (quad) % (STEP / 4) * 64; \
    _mm_prefetch((const char *)weights + AHEAD, _MM_HINT_T0); \
    _mm_prefetch((const char *)weights + AHEAD + STEP * HALF, _MM_HINT_T0); \
    const __m512i first = _mm512_load_si512(weights), second = _mm512_load_si512(weights + STEP * HALF)

/* The sums of TOGETHER rows and one block of channels. They have names: compilers move arrays about. */
INLINE void sum_eight(const uint8_t *rows, size_t stride, const Block *block, __m512i sums[2 * TOGETHER]) {
    __m512i a0 = block->start[0], a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0, a7 = a0;
    __m512i b0 = block->start[1], b1 = b0, b2 = b0, b3 = b0, b4 = b0, b5 = b0, b6 = b0, b7 = b0;
    for (size_t quad = block->first; quad < block->end; ++quad) {
        const uint8_t *at = rows + 4 * quad;
        LOAD_WEIGHTS(quad);
        ADD_ROW(0); ADD_ROW(1); ADD_ROW(2); ADD_ROW(3); ADD_ROW(4); ADD_ROW(5); ADD_ROW(6); ADD_ROW(7);
    }
    const __m512i found[2 * TOGETHER] = {a0, b0, a1, b1, a2, b2, a3, b3, a4, b4, a5, b5, a6, b6, a7, b7};
    memcpy(sums, found, sizeof found);
}

/* Of one row: four sums are added to by turns, since each has to wait for its last product. */
APART void sum_one(const uint8_t *rows, const Block *block, __m512i sums[2 * TOGETHER]) {
    const __m512i none = _mm512_setzero_si512();
    const size_t stride = 4, end = block->end;
    __m512i a0 = block->start[0], a1 = none, a2 = none, a3 = none, b0 = block->start[1], b1 = none, b2 = none, b3 = none;
    size_t quad = block->first;
    for (; quad + 4 <= end; quad += 4) {
        const uint8_t *at = rows + 4 * quad;
        { LOAD_WEIGHTS(quad); ADD_ROW(0); }
        { LOAD_WEIGHTS(quad + 1); ADD_ROW(1); }
        { LOAD_WEIGHTS(quad + 2); ADD_ROW(2); }
        { LOAD_WEIGHTS(quad + 3); ADD_ROW(3); }
    }
    for (; quad < end; ++quad) {
        const uint8_t *at = rows + 4 * quad;
        LOAD_WEIGHTS(quad);
        ADD_ROW(0);
    }
    sums[0] = _mm512_add_epi32(_mm512_add_epi32(a0, a1), _mm512_add_epi32(a2, a3));
    sums[1] = _mm512_add_epi32(_mm512_add_epi32(b0, b1), _mm512_add_epi32(b2, b3));
    sums[2] = sums[3] = none; /* codes are stored by pairs of rows */
}

#endif
