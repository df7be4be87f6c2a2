/* Depthwise convolutions for x86-64: AVX-512 with VNNI, and AVX2. The file is compiled for any x86-64.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#include "depthwise.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

/* The codes of the sums of 8, as low bytes. */
AVX2 static inline __m128i codes_8(const Depthwise *d, __m256i sums, const float *scale) {
    __m256 values = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_loadu_ps(scale));
    values = _mm256_min_ps(_mm256_max_ps(values, _mm256_set1_ps(d->low)), _mm256_set1_ps(d->high));
    const __m256i codes = _mm256_add_epi32(_mm256_cvtps_epi32(values), _mm256_set1_epi32(d->y_zero));
    const __m256i bytes = _mm256_and_si256(codes, _mm256_set1_epi32(255));
    return _mm_packus_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
}

/* PART codes: two taps at a time, whose products are added in pairs of 16 bits. */
AVX2 static void part_avx2(const Depthwise *d, const uint8_t *const *x, uint8_t *out, size_t at, size_t place) {
    const size_t block = place / BLOCK, from = place % BLOCK, end = d->first[block + 1] * GROUP;
    const __m128i flip = _mm_set1_epi8((char)d->flip);
    __m256i low = _mm256_loadu_si256((const void *)(d->start + place));
    __m256i high = _mm256_loadu_si256((const void *)(d->start + place + 8));
    for (size_t slot = d->first[block] * GROUP; slot < end; slot += 2) {
        const int8_t *w = d->weights + slot * BLOCK + from;
        const __m128i x0 = _mm_xor_si128(_mm_loadu_si128((const void *)(x[d->taps[slot]] + at)), flip);
        const __m128i x1 = _mm_xor_si128(_mm_loadu_si128((const void *)(x[d->taps[slot + 1]] + at)), flip);
        const __m128i w0 = _mm_loadu_si128((const void *)w), w1 = _mm_loadu_si128((const void *)(w + BLOCK));
        const __m256i x_low = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(x0, x1));
        const __m256i x_high = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(x0, x1));
        low = _mm256_add_epi32(low, _mm256_madd_epi16(x_low, _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(w0, w1))));
        high = _mm256_add_epi32(high, _mm256_madd_epi16(x_high, _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(w0, w1))));
    }
    const float *scale = d->scale + place;
    _mm_storeu_si128((void *)(out + at), _mm_packus_epi16(codes_8(d, low, scale), codes_8(d, high, scale + 8)));
}

AVX2 void depthwise_avx2(const Depthwise *d, const uint8_t *const *x, uint8_t *out, size_t count) {
    const size_t period = d->blocks * BLOCK;
    size_t at = 0, place = 0;
    for (; at + PART <= count; at += PART, place = place + PART == period ? 0 : place + PART) part_avx2(d, x, out, at, place);
    if (at < count) depthwise_part(d, x, out, at, place, count - at);
}

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define INLINE AVX512 static inline __attribute__((always_inline))

INLINE __m512i load_64(const uint8_t *x, __mmask64 mask, int whole, int is_signed) {
    const __m512i codes = whole ? _mm512_loadu_si512(x) : _mm512_maskz_loadu_epi8(mask, x);
    return is_signed ? _mm512_xor_si512(codes, _mm512_set1_epi8((char)128)) : codes;
}

/* Less y_zero, and not clamped below: what is too low saturates on the way to bytes, what is too high would become the
 * lowest integer. */
INLINE __m512i codes_16(__m512i sums, const float *scale, __m512 high) {
    return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_load_ps(scale)), high));
}

/* The sums of 64 codes have names: compilers move arrays about. GROUP taps at a time, whose codes are put side by side. */
INLINE void compute_64(const Depthwise *d, const uint8_t *const *x, uint8_t *out, size_t at, size_t block,
                       __mmask64 mask, int whole, int is_signed) {
    const int32_t *start = d->start + block * BLOCK;
    const float *scale = d->scale + block * BLOCK;
    __m512i a = _mm512_load_si512(start), b = _mm512_load_si512(start + 16);
    __m512i c = _mm512_load_si512(start + 32), e = _mm512_load_si512(start + 48);
    const uint16_t *tap = d->taps + d->first[block] * GROUP, *end = d->taps + d->first[block + 1] * GROUP;
    const int8_t *weights = d->weights + d->first[block] * GROUP * BLOCK;
    for (; tap < end; tap += GROUP, weights += GROUP * BLOCK) {
        const __m512i x0 = load_64(x[tap[0]] + at, mask, whole, is_signed), x1 = load_64(x[tap[1]] + at, mask, whole, is_signed);
        const __m512i x2 = load_64(x[tap[2]] + at, mask, whole, is_signed), x3 = load_64(x[tap[3]] + at, mask, whole, is_signed);
        const __m512i low_01 = _mm512_unpacklo_epi8(x0, x1), high_01 = _mm512_unpackhi_epi8(x0, x1);
        const __m512i low_23 = _mm512_unpacklo_epi8(x2, x3), high_23 = _mm512_unpackhi_epi8(x2, x3);
        a = _mm512_dpbusd_epi32(a, _mm512_unpacklo_epi16(low_01, low_23), _mm512_load_si512(weights));
        b = _mm512_dpbusd_epi32(b, _mm512_unpackhi_epi16(low_01, low_23), _mm512_load_si512(weights + 64));
        c = _mm512_dpbusd_epi32(c, _mm512_unpacklo_epi16(high_01, high_23), _mm512_load_si512(weights + 128));
        e = _mm512_dpbusd_epi32(e, _mm512_unpackhi_epi16(high_01, high_23), _mm512_load_si512(weights + 192));
    }
    const __m512i zero = _mm512_set1_epi16((short)d->y_zero);
    const __m512 high = _mm512_set1_ps(d->high);
    const __m512i low_half = _mm512_packs_epi32(codes_16(a, scale, high), codes_16(b, scale + 16, high));
    const __m512i high_half = _mm512_packs_epi32(codes_16(c, scale + 32, high), codes_16(e, scale + 48, high));
    const __m512i first = _mm512_adds_epi16(low_half, zero), second = _mm512_adds_epi16(high_half, zero);
    const __m512i codes = is_signed ? _mm512_packs_epi16(first, second) : _mm512_packus_epi16(first, second);
    if (whole) _mm512_storeu_si512(out + at, codes);
    else _mm512_mask_storeu_epi8(out + at, mask, codes);
}

INLINE void compute_all(const Depthwise d, const uint8_t *const *x, uint8_t *out, size_t count, int is_signed) {
    size_t at = 0, block = 0; /* `d` is a copy: the compiler need not think that `out` is a part of it */
    for (; at + BLOCK <= count; at += BLOCK, block = block + 1 == d.blocks ? 0 : block + 1)
        compute_64(&d, x, out, at, block, 0, 1, is_signed);
    if (at < count) compute_64(&d, x, out, at, block, ((__mmask64)1 << (count - at)) - 1, 0, is_signed);
}

AVX512 void depthwise_avx512(const Depthwise *d, const uint8_t *const *x, uint8_t *out, size_t count) {
    if (d->flip) compute_all(*d, x, out, count, 1);
    else compute_all(*d, x, out, count, 0);
}
#endif
