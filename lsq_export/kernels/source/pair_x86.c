/* Products and sums of codes for x86-64: AVX-512 and AVX2. The file is compiled for any x86-64.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#include "pair.h"

#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))
#define INLINE AVX512 static inline __attribute__((always_inline))
#define AVX2 __attribute__((target("avx2,fma")))

/* 16 codes as floats. */
INLINE __m512 floats_16(const uint8_t *codes, int is_signed) {
    const __m128i bytes = _mm_loadu_si128((const void *)codes);
    return _mm512_cvtepi32_ps(is_signed ? _mm512_cvtepi8_epi32(bytes) : _mm512_cvtepu8_epi32(bytes));
}

/* Packing saturates what is too low, and orders codes by lanes of 16 bytes; what is too high would become the lowest
 * integer. */
INLINE void store_64(uint8_t *out, const __m512 values[4], float high, int is_signed) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i codes[4];
    for (int i = 0; i < 4; ++i) codes[i] = _mm512_cvtps_epi32(_mm512_min_ps(values[i], _mm512_set1_ps(high)));
    const __m512i first = _mm512_packs_epi32(codes[0], codes[1]), second = _mm512_packs_epi32(codes[2], codes[3]);
    const __m512i bytes = is_signed ? _mm512_packs_epi16(first, second) : _mm512_packus_epi16(first, second);
    _mm512_storeu_si512(out, _mm512_permutexvar_epi32(order, bytes));
}

enum { BLOCK = 64 };

/* a, b and c are BLOCK codes or floats each. */
INLINE void product_64(const Product *p, const float *factors, const uint8_t *a, uint8_t *out, int is_signed) {
    __m512 values[4];
    for (int i = 0; i < 4; ++i) {
        const __m512 first = _mm512_sub_ps(floats_16(a + 16 * i, is_signed), _mm512_set1_ps(p->a_zero - p->flip));
        const __m512 product = _mm512_mul_ps(first, _mm512_loadu_ps(factors + 16 * i));
        values[i] = _mm512_add_ps(_mm512_mul_ps(product, _mm512_set1_ps(p->ratio)), _mm512_set1_ps(p->y_zero));
    }
    store_64(out, values, p->high, is_signed);
}

INLINE void sum_64(const Sum *s, const uint8_t *b, const uint8_t *a, uint8_t *out, int is_signed) {
    const __m512 a_ratio = _mm512_set1_ps(s->a_ratio), b_ratio = _mm512_set1_ps(s->b_ratio);
    __m512 values[4];
    for (int i = 0; i < 4; ++i) {
        const __m512 inner = _mm512_fmadd_ps(floats_16(b + 16 * i, is_signed), b_ratio, _mm512_set1_ps(s->constant));
        values[i] = _mm512_fmadd_ps(floats_16(a + 16 * i, is_signed), a_ratio, inner);
    }
    store_64(out, values, s->high, is_signed);
}

INLINE void shift_64(const Sum *s, const float *inner, const uint8_t *a, uint8_t *out, int is_signed) {
    __m512 values[4];
    for (int i = 0; i < 4; ++i)
        values[i] = _mm512_fmadd_ps(floats_16(a + 16 * i, is_signed), _mm512_set1_ps(s->a_ratio), _mm512_loadu_ps(inner + 16 * i));
    store_64(out, values, s->high, is_signed);
}

/* `compute` for all blocks of codes, the last one of which is copied, since it has fewer codes than are read. What is
 * computed with is a copy: the compiler need not think that `out` is a part of it. */
#define ALL_BLOCKS(compute, what, second, type) \
    do { \
        size_t i = 0; \
        uint8_t last[BLOCK] = {0}; \
        type others[BLOCK] = {0}; \
        if ((what)->flip) \
            for (; i + BLOCK <= count; i += BLOCK) compute(what, (second) + i, a + i, out + i, 1); \
        else \
            for (; i + BLOCK <= count; i += BLOCK) compute(what, (second) + i, a + i, out + i, 0); \
        if (i == count) break; \
        memcpy(last, a + i, count - i); \
        memcpy(others, (second) + i, (count - i) * sizeof *others); \
        if ((what)->flip) compute(what, others, last, last, 1); \
        else compute(what, others, last, last, 0); \
        memcpy(out + i, last, count - i); \
    } while (0)

AVX512 void product_avx512(const Product *product, const float *factors, const uint8_t *a, uint8_t *out, size_t count) {
    const Product p = *product;
    ALL_BLOCKS(product_64, &p, factors, float);
}

AVX512 void sum_avx512(const Sum *sum, const uint8_t *a, const uint8_t *b, uint8_t *out, size_t count) {
    const Sum s = *sum;
    ALL_BLOCKS(sum_64, &s, b, uint8_t);
}

AVX512 void shift_avx512(const Sum *sum, const float *inner, const uint8_t *a, uint8_t *out, size_t count) {
    const Sum s = *sum;
    ALL_BLOCKS(shift_64, &s, inner, float);
}

/* 8 codes as floats: the flipped ones, less `zero`. */
AVX2 static inline __m256 floats_8(const uint8_t *codes, uint8_t flip, float zero) {
    const __m128i flipped = _mm_xor_si128(_mm_loadl_epi64((const void *)codes), _mm_set1_epi8((char)flip));
    return _mm256_sub_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(flipped)), _mm256_set1_ps(zero));
}

/* The low bytes of 8 integers. */
AVX2 static inline void store_8(uint8_t *out, __m256 values, float low, float high) {
    values = _mm256_min_ps(_mm256_max_ps(values, _mm256_set1_ps(low)), _mm256_set1_ps(high));
    const __m256i bytes = _mm256_and_si256(_mm256_cvtps_epi32(values), _mm256_set1_epi32(255));
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
    _mm_storel_epi64((void *)out, _mm_packus_epi16(words, words));
}

AVX2 void product_avx2(const Product *p, const float *factors, const uint8_t *a, uint8_t *out, size_t count) {
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const __m256 product = _mm256_mul_ps(floats_8(a + i, p->flip, p->a_zero), _mm256_loadu_ps(factors + i));
        const __m256 scaled = _mm256_mul_ps(product, _mm256_set1_ps(p->ratio));
        store_8(out + i, _mm256_add_ps(scaled, _mm256_set1_ps(p->y_zero)), p->low, p->high);
    }
    product_portable(p, factors + i, a + i, out + i, count - i);
}

AVX2 void sum_avx2(const Sum *s, const uint8_t *a, const uint8_t *b, uint8_t *out, size_t count) {
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const __m256 first = floats_8(a + i, s->flip, s->flip), second = floats_8(b + i, s->flip, s->flip);
        const __m256 inner = _mm256_fmadd_ps(second, _mm256_set1_ps(s->b_ratio), _mm256_set1_ps(s->constant));
        store_8(out + i, _mm256_fmadd_ps(first, _mm256_set1_ps(s->a_ratio), inner), s->low, s->high);
    }
    sum_portable(s, a + i, b + i, out + i, count - i);
}

AVX2 void shift_avx2(const Sum *s, const float *inner, const uint8_t *a, uint8_t *out, size_t count) {
    const __m256 ratio = _mm256_set1_ps(s->a_ratio);
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const __m256 first = floats_8(a + i, s->flip, s->flip);
        store_8(out + i, _mm256_fmadd_ps(first, ratio, _mm256_loadu_ps(inner + i)), s->low, s->high);
    }
    shift_portable(s, inner + i, a + i, out + i, count - i);
}
#endif
