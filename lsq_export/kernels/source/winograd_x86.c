/* Winograd's algorithm for x86-64: AVX-512 with VNNI and VBMI. The file is compiled for any x86-64.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#include "winograd.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include "conv_x86.h"

/* Bᵀ of four rows, or of four columns. */
INLINE void combine(const __m512i in[PATCH], __m512i out[PATCH]) {
    out[0] = _mm512_sub_epi8(in[0], in[2]), out[1] = _mm512_add_epi8(in[1], in[2]);
    out[2] = _mm512_sub_epi8(in[2], in[1]), out[3] = _mm512_sub_epi8(in[1], in[3]);
}

AVX512 int transform_avx512(const Winograd *w, const uint8_t *const *x, uint8_t *out, size_t step) {
    const __m512i shift = _mm512_set1_epi8((char)w->shift);
    const size_t inputs = w->products.used;
    const Entries codes = entries_of(w->codes, 0);
    __m512i all = _mm512_setzero_si512();
    for (size_t at = 0; at < inputs; at += 64) {
        const __mmask64 mask = inputs - at < 64 ? ((__mmask64)1 << (inputs - at)) - 1 : ~(__mmask64)0;
        __m512i rows[PATCH][PATCH], v[PATCH][PATCH];
        for (int column = 0; column < PATCH; ++column) {
            __m512i q[PATCH], found[PATCH];
            for (int row = 0; row < PATCH; ++row) {
                q[row] = look_up(&codes, _mm512_maskz_loadu_epi8(mask, x[row * PATCH + column] + at));
                all = _mm512_or_si512(all, _mm512_maskz_mov_epi8(mask, q[row]));
            }
            combine(q, found);
            for (int row = 0; row < PATCH; ++row) rows[row][column] = found[row];
        }
        for (int row = 0; row < PATCH; ++row) {
            combine(rows[row], v[row]);
            for (int column = 0; column < PATCH; ++column)
                _mm512_storeu_si512(out + (size_t)(row * PATCH + column) * step + at, _mm512_add_epi8(v[row][column], shift));
        }
    }
    return _mm512_movepi8_mask(all) == 0;
}

/* Aᵀ of four rows, or of four columns, `step` apart. */
INLINE void reduce(const __m512i *in, size_t step, __m512i out[SIDE], size_t out_step) {
    const __m512i middle = _mm512_add_epi32(in[step], in[2 * step]);
    out[0] = _mm512_add_epi32(in[0], middle);
    out[out_step] = _mm512_sub_epi32(_mm512_sub_epi32(in[step], in[2 * step]), in[3 * step]);
}

/* The sums of a tile's four pixels, of 16 channels. products: by places, `step` apart. */
INLINE void sums_of(const Winograd *w, const __m512i *products, size_t step, const Tile *tile, size_t channel,
                    __m512i out[SIDE][2 * SIDE], int half) {
    __m512i rows[SIDE * PATCH], sums[SIDE * SIDE];
    for (int column = 0; column < PATCH; ++column) reduce(products + (size_t)column * step, PATCH * step, rows + column, PATCH);
    for (int row = 0; row < SIDE; ++row) reduce(rows + row * PATCH, 1, sums + row * SIDE, 1);
    for (int i = 0; i < SIDE * SIDE; ++i) {
        const int32_t *start = w->start + tile->borders[i / SIDE][i % SIDE] * w->ends.blocks * COLUMNS + channel;
        const __m512i scaled = _mm512_mullo_epi32(_mm512_srai_epi32(sums[i], 2), _mm512_set1_epi32(w->factor));
        out[i / SIDE][i % SIDE * 2 + half] = _mm512_add_epi32(scaled, _mm512_loadu_si512(start));
    }
}

AVX512 void winograd_avx512(const Winograd *winograd, const uint8_t *v, const Tile *tiles, size_t count, size_t begin,
                            size_t end, const uint8_t *table) {
    const Entries entries = entries_of(table, winograd->ends.flip);
    const Conv ends = winograd->ends, products = winograd->products;
    for (size_t number = begin; number < end; ++number) {
        const Block block = block_of(&ends, number);
        for (size_t first = 0; first < count; first += TOGETHER) {
            __m512i sums[PLACES][TOGETHER * 2];
            for (size_t place = 0; place < PLACES; ++place) {
                const Block part = block_of(&products, number * PLACES + place);
                const uint8_t *rows = v + (place * ROWS + first) * products.depth;
                if (count - first == 1) sum_one(rows, &part, sums[place]);
                else sum_eight(rows, products.depth, &part, sums[place]);
            }
            for (size_t i = first; i < first + TOGETHER && i < count; ++i) {
                const Tile *tile = tiles + i;
                __m512i pixels[SIDE][2 * SIDE];
                for (int half = 0; half < 2; ++half)
                    sums_of(winograd, sums[0] + 2 * (i - first) + half, TOGETHER * 2, tile, block.channel + (size_t)(HALF * half),
                            pixels, half);
                for (int row = 0; row < SIDE; ++row)
                    if (tile->out[row]) store_rows(&ends, &block, &entries, pixels[row], (int)tile->columns, tile->out[row]);
            }
        }
    }
}
#endif
