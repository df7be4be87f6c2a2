/* Depthwise convolutions of codes, some neighboring pixels at a time: one function for each instruction set.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 *
 *     y = clamp(round_half_even(float(start + Σ x·w)·scale) + y_zero)
 *
 * The sum is exact, over the taps of the kernel that are not zero in all codes of a block. Codes of neighboring pixels lie
 * one after the other, so that a block of codes may reach from one pixel into the next: blocks repeat after a period.
 */
#ifndef LSQ_EXPORT_DEPTHWISE_H
#define LSQ_EXPORT_DEPTHWISE_H

#include "layer.h"

enum { BLOCK = 64, GROUP = 4, PART = 16 }; /* codes of a block, taps of a group, codes at once for some kernels */

/* blocks: of a period, which begins with channel 0. first [blocks + 1]: number of the first group of a block.
 * taps [groups · GROUP]: the numbers of the taps of a group. weights [groups · GROUP · BLOCK], start and scale
 * [blocks · BLOCK], by `place_of_code` where the kernel asks for that, else by code. start is the bias less the zero
 * point's part. low, high: the smallest and the largest code, less y_zero. flip: 128 for signed x, which the sums take as
 * unsigned, else 0. memory: where weights, start and scale, which are aligned, were allocated. */
typedef struct Depthwise {
    size_t channels, blocks;
    void *memory[3];
    size_t *first;
    uint16_t *taps;
    int8_t *weights;
    int32_t *start;
    float *scale;
    float low, high;
    int32_t y_zero;
    uint8_t flip;
} Depthwise;

/* Whether blocks repeat from pixel to pixel: else a kernel is asked for one pixel at a time. */
static inline int is_periodic(const Depthwise *d) { return d->blocks * BLOCK % d->channels == 0; }

/* Returns 0 where there is no memory. interleaved: whether the kernel takes weights by `place_of_code`. In both cases
 * depthwise_free has to follow. */
int depthwise_pack(Depthwise *depthwise, const Layer *layer, int interleaved);
void depthwise_free(Depthwise *depthwise);

/* Where the AVX-512 kernel has a code of a block: in four registers of 16, as unpacking bytes in lanes of 16 bytes puts
 * them, with the taps of a group side by side. */
static inline size_t place_of_code(size_t code) { return code / 4 % 4 * 16 + code / 16 * 4 + code % 4; }

/* x [taps]: where the codes of each tap begin. out [count]. */
typedef void (*DepthwiseFunction)(const Depthwise *depthwise, const uint8_t *const *x, uint8_t *out, size_t count);

/* `count` codes, at most PART, from `at` on, whose place in the period is `place`; for weights by code. */
void depthwise_part(const Depthwise *depthwise, const uint8_t *const *x, uint8_t *out, size_t at, size_t place,
                    size_t count);

#if defined(__x86_64__) && defined(__GNUC__)
void depthwise_avx2(const Depthwise *depthwise, const uint8_t *const *x, uint8_t *out, size_t count);
void depthwise_avx512(const Depthwise *depthwise, const uint8_t *const *x, uint8_t *out, size_t count);
#elif defined(__aarch64__)
void depthwise_neon(const Depthwise *depthwise, const uint8_t *const *x, uint8_t *out, size_t count);
#endif

#endif
