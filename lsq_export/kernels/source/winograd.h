/* Convolutions of 3×3 taps and stride 1 with fewer multiplications, and the same integers.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 *
 * Winograd's F(2×2, 3×3) (Lavin and Gray, arXiv:1509.09308) takes 16 multiplications for the 2×2 results of a tile, where
 * the sums themselves take 36. All is exact where codes and weights have few bits, since what is multiplied still fits
 * bytes: codes of x are low + step·q with q < count, weights w = factor·v.
 *
 *     4·Σ q·v = Aᵀ[U·V]A     U = (2G)·v·(2G)ᵀ, an int8     V = Bᵀ·q·B, which with SHIFTS·(count - 1) added is a uint8
 *     Σ (x - x_zero)·w = step·factor·Σ q·v + (low - x_zero)·Σ w, the last sum being over the taps inside of the image
 *
 * Taps outside of the image have q = 0.
 */
#ifndef LSQ_EXPORT_WINOGRAD_H
#define LSQ_EXPORT_WINOGRAD_H

#include "conv.h"

enum { SIDE = 2, PATCH = 4, PLACES = PATCH * PATCH, BORDERS = 16, SHIFTS = 2, MOST_CODES = 43, NO_CODE = 255 };

/* Codes low, low + step, … of x, as bytes are read. */
typedef struct Codes {
    int32_t low, step, count;
} Codes;

/* products: of PLACES blocks for each block of channels, which multiply V with U. ends: what follows the sums; it has no
 * weights. start [BORDERS][ends.blocks · COLUMNS]: by which taps are outside of the image, the bits of `border_of`.
 * codes [256]: q by the byte of a code, or NO_CODE. */
typedef struct Winograd {
    Conv products, ends;
    int32_t *start;
    int32_t factor; /* of 4·Σ q·v, less the 4 */
    uint8_t codes[256], shift;
} Winograd;

/* A tile of the result: its upper row and its lower one, or NULL where there is none; columns, 1 or 2; and the borders of
 * its pixels. */
typedef struct Tile {
    uint8_t *out[SIDE];
    size_t columns;
    uint8_t borders[SIDE][SIDE];
} Tile;

/* Whether rows above or below, or columns to the left or to the right of a pixel are outside of the image. */
static inline uint8_t border_of(int above, int below, int left, int right) {
    return (uint8_t)(above | below << 1 | left << 2 | right << 3);
}

/* Whether all fits, of a layer of 3×3 taps. */
int winograd_fits(const Layer *layer, const Codes *codes);

/* Returns 0 where there is no memory. In both cases winograd_free has to follow. */
int winograd_pack(Winograd *winograd, const Layer *layer, const Codes *codes);
void winograd_free(Winograd *winograd);

/* x [PLACES]: where the pixels begin that a tile reads. out: V of the first place, `step` bytes before that of the next.
 * Returns 0 where a code is none of those of x. */
typedef int (*TransformFunction)(const Winograd *winograd, const uint8_t *const *x, uint8_t *out, size_t step);

/* Channels of the blocks `begin` to `end` of `count` tiles, at most ROWS. v [PLACES][ROWS][products.depth]. */
typedef void (*WinogradFunction)(const Winograd *winograd, const uint8_t *v, const Tile *tiles, size_t count, size_t begin,
                                 size_t end, const uint8_t *table);

#if defined(__x86_64__) && defined(__GNUC__)
int transform_avx512(const Winograd *winograd, const uint8_t *const *x, uint8_t *out, size_t step);
void winograd_avx512(const Winograd *winograd, const uint8_t *v, const Tile *tiles, size_t count, size_t begin, size_t end,
                     const uint8_t *table);
#endif

#endif
