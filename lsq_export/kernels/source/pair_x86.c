/* Products and sums of codes for x86-64: AVX-512 and AVX2. The file is compiled for any x86-64.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#include "pair.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))
#define AVX2 __attribute__((target("avx2,fma")))

/* 16 codes as floats: the flipped ones, less `zero`. */
AVX512 static inline __m512 floats_16(__m128i codes, uint8_t flip, float zero) {
    const __m512i wide = _mm512_cvtepu8_epi32(_mm_xor_si128(codes, _mm_set1_epi8((char)flip)));
    return _mm512_sub_ps(_mm512_cvtepi32_ps(wide), _mm512_set1_ps(zero));
}

AVX512 static inline __m128i codes_16(__m512 values, float low, float high) {
    values = _mm512_min_ps(_mm512_max_ps(values, _mm512_set1_ps(low)), _mm512_set1_ps(high));
    return _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(values));
}

AVX512 static inline __m128i product_16(const Product *p, __m512 factors, __m128i a) {
    const __m512 product = _mm512_mul_ps(floats_16(a, p->flip, p->a_zero), factors);
    const __m512 scaled = _mm512_mul_ps(product, _mm512_set1_ps(p->ratio));
    return codes_16(_mm512_add_ps(scaled, _mm512_set1_ps(p->y_zero)), p->low, p->high);
}

AVX512 void product_avx512(const Product *p, const float *factors, const uint8_t *a, uint8_t *out, size_t count) {
    size_t i = 0;
    for (; i + 16 <= count; i += 16)
        _mm_storeu_si128((void *)(out + i), product_16(p, _mm512_loadu_ps(factors + i), _mm_loadu_si128((const void *)(a + i))));
    const __mmask16 rest = (__mmask16)((1U << (count - i)) - 1);
    const __m512 last = _mm512_maskz_loadu_ps(rest, factors + i);
    _mm_mask_storeu_epi8(out + i, rest, product_16(p, last, _mm_maskz_loadu_epi8(rest, a + i)));
}

AVX512 static inline __m128i sum_16(const Sum *s, __m128i a, __m128i b) {
    const __m512 first = floats_16(a, s->flip, s->flip), second = floats_16(b, s->flip, s->flip);
    const __m512 inner = _mm512_fmadd_ps(second, _mm512_set1_ps(s->b_ratio), _mm512_set1_ps(s->constant));
    return codes_16(_mm512_fmadd_ps(first, _mm512_set1_ps(s->a_ratio), inner), s->low, s->high);
}

AVX512 void sum_avx512(const Sum *s, const uint8_t *a, const uint8_t *b, uint8_t *out, size_t count) {
    size_t i = 0;
    for (; i + 16 <= count; i += 16)
        _mm_storeu_si128((void *)(out + i), sum_16(s, _mm_loadu_si128((const void *)(a + i)), _mm_loadu_si128((const void *)(b + i))));
    const __mmask16 rest = (__mmask16)((1U << (count - i)) - 1);
    const __m128i last = _mm_maskz_loadu_epi8(rest, b + i);
    _mm_mask_storeu_epi8(out + i, rest, sum_16(s, _mm_maskz_loadu_epi8(rest, a + i), last));
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
#endif
