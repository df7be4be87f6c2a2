/* Convolutions for x86-64: AVX-512 with VNNI, and AMX. The file is compiled for any x86-64.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#include "conv.h"

#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define INLINE AVX512 static inline __attribute__((always_inline))

enum { HALF = COLUMNS / 2, TOGETHER = 8 }; /* rows whose sums are in registers at once */

AVX512 void gather_avx512(const uint8_t *const *runs, size_t count, size_t length, uint8_t flip, uint8_t *out, size_t step) {
    const __m512i flips = _mm512_set1_epi8((char)flip);
    const __mmask64 rest = ((__mmask64)1 << length % 64) - 1;
    for (size_t run = 0; run < count; ++run, out += step) {
        const uint8_t *in = runs[run];
        size_t i = 0;
        for (; i + 64 <= length; i += 64)
            _mm512_storeu_si512(out + i, _mm512_xor_si512(_mm512_loadu_si512(in + i), flips));
        if (rest) _mm512_mask_storeu_epi8(out + i, rest, _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, in + i), flips));
    }
}

/* A block of channels, some of which there may not be. */
typedef struct Block {
    __m512 scale[2];
    __m512i start[2];
    __mmask32 mask;
    const int8_t *weights;
    size_t channel; /* the first one */
} Block;

INLINE Block block_of(const Conv *c, size_t number) {
    const size_t channel = number * COLUMNS, left = c->channels - channel;
    Block block = {.mask = left < COLUMNS ? (1U << left) - 1 : 0xFFFFFFFF, .channel = channel,
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
INLINE void store_rows(const Conv *c, const Block *b, const __m512i sums[4], int count, uint8_t *out) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i first = codes_32(c, b, sums), second = codes_32(c, b, sums + 2);
    const __m512i bytes = c->flip ? _mm512_packs_epi16(first, second) : _mm512_packus_epi16(first, second);
    const __m512i codes = _mm512_permutexvar_epi32(order, bytes);
    store_32(b, _mm512_castsi512_si256(codes), out);
    if (count > 1) store_32(b, _mm512_extracti64x4_epi64(codes, 1), out + c->channels);
}

/* Add the products of four codes of one row, with those of 32 channels. */
#define ADD_ROW(row) \
    do { \
        int32_t codes; \
        memcpy(&codes, at + (row) * depth, sizeof codes); \
        const __m512i four = _mm512_set1_epi32(codes); \
        a##row = _mm512_dpbusd_epi32(a##row, four, first); \
        b##row = _mm512_dpbusd_epi32(b##row, four, second); \
    } while (0)

/* The sums of TOGETHER rows and one block of channels. They have names: compilers move arrays about. */
INLINE void sum_rows(const Conv *c, const uint8_t *rows, const Block *block, __m512i sums[2 * TOGETHER]) {
    const size_t depth = c->depth, quads = (c->used + 3) / 4;
    __m512i a0 = block->start[0], a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0, a7 = a0;
    __m512i b0 = block->start[1], b1 = b0, b2 = b0, b3 = b0, b4 = b0, b5 = b0, b6 = b0, b7 = b0;
    for (size_t quad = 0; quad < quads; ++quad) {
        const uint8_t *at = rows + 4 * quad;
        const int8_t *weights = block->weights + quad / (STEP / 4) * STEP * COLUMNS + quad % (STEP / 4) * 64;
        const __m512i first = _mm512_load_si512(weights), second = _mm512_load_si512(weights + STEP * HALF);
        ADD_ROW(0); ADD_ROW(1); ADD_ROW(2); ADD_ROW(3); ADD_ROW(4); ADD_ROW(5); ADD_ROW(6); ADD_ROW(7);
    }
    const __m512i found[2 * TOGETHER] = {a0, b0, a1, b1, a2, b2, a3, b3, a4, b4, a5, b5, a6, b6, a7, b7};
    memcpy(sums, found, sizeof found);
}

AVX512 void conv_avx512(const Conv *conv, const uint8_t *rows, size_t count, size_t begin, size_t end, uint8_t *out) {
    const Conv c = *conv; /* a copy: the compiler need not think that `out` is a part of it */
    for (size_t number = begin; number < end; ++number) {
        const Block block = block_of(&c, number);
        for (size_t first = 0; first < count; first += TOGETHER) {
            __m512i sums[2 * TOGETHER];
            sum_rows(&c, rows + first * c.depth, &block, sums);
            for (size_t row = first; row < first + TOGETHER && row < count; row += 2)
                store_rows(&c, &block, sums + 2 * (row - first), (int)(count - row), out + row * c.channels);
        }
    }
}

#ifdef HAS_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AMX __attribute__((target("amx-tile,amx-int8,avx512f,avx512bw,avx512vl,avx512vnni")))

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
AMX static inline void multiply(const uint8_t *rows, const int8_t *weights, size_t depth) {
    const uint8_t *lower = rows + 16 * depth;
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    for (size_t at = 0; at < depth; at += STEP, weights += STEP * COLUMNS) {
        _tile_loadd(4, rows + at, depth); _tile_loadd(6, weights, 64);
        _tile_dpbusd(0, 4, 6);
        _tile_loadd(7, weights + STEP * HALF, 64);
        _tile_dpbusd(1, 4, 7);
        _tile_loadd(5, lower + at, depth);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
    }
}

/* As `multiply`, of 16 rows. */
AMX static inline void multiply_half(const uint8_t *rows, const int8_t *weights, size_t depth) {
    _tile_zero(0); _tile_zero(1);
    for (size_t at = 0; at < depth; at += STEP, weights += STEP * COLUMNS) {
        _tile_loadd(4, rows + at, depth); _tile_loadd(6, weights, 64); _tile_loadd(7, weights + STEP * HALF, 64);
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
    }
}

/* sums [ROWS, COLUMNS]: of a block of channels, less what they begin with. */
AMX static inline void store_block(const Conv *c, const Block *block, const int32_t *sums, size_t count, uint8_t *out) {
    for (size_t row = 0; row < count; row += 2) {
        __m512i whole[4];
        for (int i = 0; i < 4; ++i) {
            const __m512i products = _mm512_load_si512(sums + row * COLUMNS + (size_t)(HALF * i));
            whole[i] = _mm512_add_epi32(products, block->start[i % 2]);
        }
        store_rows(c, block, whole, (int)(count - row), out + row * c->channels);
    }
}

/* The codes of a block are computed while the tiles are busy with the next one. */
AMX void conv_amx(const Conv *conv, const uint8_t *rows, size_t count, size_t begin, size_t end, uint8_t *out) {
    const Conv c = *conv;
    _Alignas(64) int32_t sums[ROWS * COLUMNS];
    Block last = block_of(&c, begin);
    _tile_loadconfig(&TILES);
    for (size_t number = begin; number < end; ++number) {
        const Block block = block_of(&c, number);
        if (count > 16) multiply(rows, block.weights, c.depth);
        else multiply_half(rows, block.weights, c.depth);
        if (number > begin) store_block(&c, &last, sums, count, out);
        _tile_stored(0, sums, LINE); _tile_stored(1, sums + HALF, LINE);
        if (count > 16) {
            _tile_stored(2, sums + LOWER, LINE); _tile_stored(3, sums + LOWER + HALF, LINE);
        }
        last = block;
    }
    store_block(&c, &last, sums, count, out);
    _tile_release(); /* else threads keep 8 KiB more to save, and ONNX Runtime would take the tiles for its own */
}
#endif
#endif
