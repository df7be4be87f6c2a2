/* Convolutions of codes in one group, as products of matrices: one function for each instruction set.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 *
 *     y = clamp(round_half_even(float(start + Σ x·w)·scale) + y_zero)
 *
 * The sum is exact. What a pixel of the result reads is a row: the codes of the taps one after the other, all channels of
 * each. 32 rows are multiplied with the weights of 32 channels at a time.
 */
#ifndef LSQ_EXPORT_CONV_H
#define LSQ_EXPORT_CONV_H

#include "layer.h"

enum { ROWS = 32, COLUMNS = 32, STEP = 64, SLACK = 63 }; /* pixels and channels at a time; codes of a step along a row */

/* depth: codes of a row, used of them, the rest are filled up with weights of 0 to whole steps. blocks: of COLUMNS
 * channels. weights [blocks][depth / STEP][2][STEP / 4][16][4]: halves of the channels; four codes lie side by side.
 * start, scale [blocks · COLUMNS]. spans [blocks][2]: the first four codes whose weights of a block are not all 0, and the
 * end of them, in fours. high: the largest code, less y_zero; the smallest one is that of the bytes. flip: 128
 * for signed x, which the sums take as unsigned, else 0. memory: where weights, which are aligned, were allocated. */
typedef struct Conv {
    size_t channels, depth, used, blocks;
    void *memory;
    int8_t *weights;
    int32_t *start;
    float *scale;
    size_t *spans;
    float high;
    int32_t y_zero;
    uint8_t flip;
} Conv;

/* Returns 0 where there is no memory. In both cases conv_free has to follow. */
int conv_pack(Conv *conv, const Layer *layer);

/* As conv_pack, of what follows the sums alone: weights are NULL, what sums begin with is 0. */
int conv_pack_ends(Conv *conv, const Layer *layer);
void conv_free(Conv *conv);

/* How many parts of a size hold so many. */
static inline size_t parts_of(size_t count, size_t size) { return (count + size - 1) / size; }

/* Channels of the blocks `begin` to `end` of `count` pixels, at most ROWS. rows: ROWS of them, `stride` codes from one to
 * the next, at least `used`; depth codes of each are read. Those from count on, and codes whose weights are 0, may be
 * anything. table: what codes become, by the codes with the bits of `flip` turned, or NULL. out [count, channels]: from its
 * first channel on, of all. */
typedef void (*ConvFunction)(const Conv *conv, const uint8_t *rows, size_t stride, size_t count, size_t begin, size_t end,
                             const uint8_t *table, uint8_t *out);

/* Copy `count` runs of `length` codes, each with its bits of `flip` turned, to `out`, `out + step` and so on. Up to SLACK
 * bytes behind each run are written as well, before the next one is: part of a register is not faster to store. */
typedef void (*GatherFunction)(const uint8_t *const *runs, size_t count, size_t length, uint8_t flip, uint8_t *out,
                               size_t step);

#if defined(__x86_64__) && defined(__GNUC__)
void gather_avx512(const uint8_t *const *runs, size_t count, size_t length, uint8_t flip, uint8_t *out, size_t step);
void conv_avx512(const Conv *conv, const uint8_t *rows, size_t stride, size_t count, size_t begin, size_t end,
                 const uint8_t *table, uint8_t *out);
#if defined(__linux__) && (__GNUC__ >= 11 || __clang_major__ >= 12)
#define HAS_AMX
int has_amx(void);
void conv_amx(const Conv *conv, const uint8_t *rows, size_t stride, size_t count, size_t begin, size_t end,
                const uint8_t *table, uint8_t *out);
#endif
#endif

#endif
