/* Convolutions for x86-64: AVX-512 with VNNI, and AMX. The file is compiled for any x86-64.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#include "conv.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include "conv_x86.h"

AVX512 void gather_avx512(const uint8_t *const *runs, size_t count, size_t length, uint8_t flip, uint8_t *out, size_t step) {
    const __m512i flips = _mm512_set1_epi8((char)flip);
    const __mmask64 rest = ((__mmask64)1 << length % 64) - 1;
    for (size_t run = 0; run < count; ++run, out += step) {
        const uint8_t *in = runs[run];
        size_t i = 0;
        for (; i + 64 <= length; i += 64)
            _mm512_storeu_si512(out + i, _mm512_xor_si512(_mm512_loadu_si512(in + i), flips));
        if (rest) _mm512_storeu_si512(out + i, _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, in + i), flips));
    }
}

AVX512 void conv_avx512(const Conv *conv, const uint8_t *rows, size_t stride, size_t count, size_t begin, size_t end,
                        const uint8_t *table, uint8_t *out) {
    const Entries entries = entries_of(table, conv->flip);
    const Conv c = *conv; /* a copy: the compiler need not think that `out` is a part of it */
    for (size_t number = begin; number < end; ++number) {
        const Block block = block_of(&c, number);
        for (size_t first = 0; first < count; first += TOGETHER) {
            __m512i sums[2 * TOGETHER];
            if (count - first == 1) { /* apart, so that compilers keep the sums of eight in registers */
                sum_one(rows + first * stride, &block, sums);
                store_rows(&c, &block, &entries, sums, 1, out + first * c.channels);
                continue;
            }
            sum_eight(rows + first * stride, stride, &block, sums);
            for (size_t row = first; row < first + TOGETHER && row < count; row += 2)
                store_rows(&c, &block, &entries, sums + 2 * (row - first), (int)(count - row), out + row * c.channels);
        }
    }
}

#ifdef HAS_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AMX __attribute__((target("amx-tile,amx-int8,avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")))

long syscall(long number, ...); /* unistd.h has it with extensions only */

/* Whether the processor has tiles, and Linux (5.16 and later) lets this process use them. */
int has_amx(void) {
    enum { REQUEST = 0x1023, TILE_DATA = 18, TILES = 1 << 24, PRODUCTS = 1 << 25 }; /* ARCH_REQ_XCOMP_PERM */
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & TILES) || !(d & PRODUCTS)) return 0;
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}

typedef struct Tiles { /* as the processor reads it */
    uint8_t palette, start, unused[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} Tiles;

/* Eight of 16 rows of 64 bytes; a constant, since compilers may drop what they do not see read. */
static const Tiles TILES = {.palette = 1, .bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                            .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

enum { LINE = 4 * COLUMNS, LOWER = 16 * COLUMNS }; /* bytes of a line of sums; where the second 16 rows begin */

/* Tiles 0 to 3 become sums, of 16 rows and 16 channels; 4 and 5 are rows, 6 and 7 weights. */
AMX static inline void multiply(const uint8_t *rows, size_t stride, const int8_t *weights, size_t depth) {
    const uint8_t *lower = rows + 16 * stride;
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    for (size_t at = 0; at < depth; at += STEP, weights += STEP * COLUMNS) {
        _tile_loadd(4, rows + at, stride); _tile_loadd(6, weights, 64);
        _tile_dpbusd(0, 4, 6);
        _tile_loadd(7, weights + STEP * HALF, 64);
        _tile_dpbusd(1, 4, 7);
        _tile_loadd(5, lower + at, stride);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
    }
}

/* As `multiply`, of 16 rows. */
AMX static inline void multiply_half(const uint8_t *rows, size_t stride, const int8_t *weights, size_t depth) {
    _tile_zero(0); _tile_zero(1);
    for (size_t at = 0; at < depth; at += STEP, weights += STEP * COLUMNS) {
        _tile_loadd(4, rows + at, stride); _tile_loadd(6, weights, 64); _tile_loadd(7, weights + STEP * HALF, 64);
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
    }
}

/* sums [ROWS, COLUMNS]: of a block of channels, less what they begin with. */
AMX static inline void store_block(const Conv *c, const Block *block, const Entries *entries, const int32_t *sums,
                                   size_t count, uint8_t *out) {
    for (size_t row = 0; row < count; row += 2) {
        __m512i whole[4];
        for (int i = 0; i < 4; ++i) {
            const __m512i products = _mm512_load_si512(sums + row * COLUMNS + (size_t)(HALF * i));
            whole[i] = _mm512_add_epi32(products, block->start[i % 2]);
        }
        store_rows(c, block, entries, whole, (int)(count - row), out + row * c->channels);
    }
}

/* The codes of a block are computed while the tiles are busy with the next one. */
AMX void conv_amx(const Conv *conv, const uint8_t *rows, size_t stride, size_t count, size_t begin, size_t end,
                  const uint8_t *table, uint8_t *out) {
    const Entries entries = entries_of(table, conv->flip);
    const Conv c = *conv;
    _Alignas(64) int32_t sums[ROWS * COLUMNS];
    Block last = block_of(&c, begin);
    _tile_loadconfig(&TILES);
    for (size_t number = begin; number < end; ++number) {
        const Block block = block_of(&c, number);
        if (count > 16) multiply(rows, stride, block.weights, c.depth);
        else multiply_half(rows, stride, block.weights, c.depth);
        if (number > begin) store_block(&c, &last, &entries, sums, count, out);
        _tile_stored(0, sums, LINE); _tile_stored(1, sums + HALF, LINE);
        if (count > 16) {
            _tile_stored(2, sums + LOWER, LINE); _tile_stored(3, sums + LOWER + HALF, LINE);
        }
        last = block;
    }
    store_block(&c, &last, &entries, sums, count, out);
    _tile_release(); /* else threads keep 8 KiB more to save, and ONNX Runtime would take the tiles for its own */
}
#endif
#endif
