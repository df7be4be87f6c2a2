/* Weights of a depthwise convolution, put in the order in which kernels read them.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#include "depthwise.h"

#include <stdlib.h>

enum { MOST_WEIGHTS = 49152 }; /* of a period of several pixels: what stays in a first cache */

/* Blocks of a period: of as many pixels as fill whole blocks, where pixels are neighbors and this is not too much. */
static size_t blocks_of(const Layer *layer) {
    const size_t period = layer->channels / common_divisor(layer->channels, BLOCK);
    const size_t one_pixel = (layer->channels + BLOCK - 1) / BLOCK;
    return layer->neighbors && period * layer->taps * BLOCK <= MOST_WEIGHTS ? period : one_pixel;
}

/* The channel of a code of the period; -1: none, in the last block of a pixel that does not fill it. */
static long channel_of(const Depthwise *d, size_t code) {
    return code >= d->channels && !is_periodic(d) ? -1 : (long)(code % d->channels);
}

/* For a block of codes the taps that are not zero, in groups. */
static void pack_block(Depthwise *d, const Layer *layer, int interleaved, size_t block, size_t *slot) {
    for (size_t tap = 0; tap < layer->taps; ++tap) {
        int8_t w[BLOCK] = {0}, used = 0;
        for (size_t code = 0; code < BLOCK; ++code) {
            const long channel = channel_of(d, block * BLOCK + code);
            if (channel >= 0) used |= w[code] = layer->weights[(size_t)channel * layer->taps + tap];
        }
        if (!used) continue;
        for (size_t code = 0; code < BLOCK; ++code) {
            const size_t side_by_side = *slot / GROUP * GROUP * BLOCK + place_of_code(code) * GROUP + *slot % GROUP;
            d->weights[interleaved ? side_by_side : *slot * BLOCK + code] = w[code];
        }
        d->taps[(*slot)++] = (uint16_t)tap;
    }
    for (; *slot % GROUP; ++*slot) d->taps[*slot] = d->taps[*slot - 1]; /* with weights of 0 */
    d->first[block + 1] = *slot / GROUP;
}

int depthwise_pack(Depthwise *d, const Layer *layer, int interleaved) {
    const int32_t low = layer->is_signed ? -128 : 0;
    *d = (Depthwise){.channels = layer->channels, .blocks = blocks_of(layer), .y_zero = layer->y_zero,
                     .low = (float)(low - layer->y_zero), .high = (float)(low + 255 - layer->y_zero),
                     .flip = layer->is_signed ? 128 : 0};
    const size_t room = d->blocks * (layer->taps / GROUP + 1) * GROUP;
    d->first = calloc(d->blocks + 1, sizeof *d->first);
    d->taps = calloc(room, sizeof *d->taps);
    const size_t sizes[3] = {room * BLOCK, d->blocks * BLOCK * sizeof *d->start, d->blocks * BLOCK * sizeof *d->scale};
    for (int i = 0; i < 3; ++i) d->memory[i] = calloc(sizes[i] + 64, 1);
    if (!d->first || !d->taps || !d->memory[0] || !d->memory[1] || !d->memory[2]) return 0;
    d->weights = aligned(d->memory[0]), d->start = aligned(d->memory[1]), d->scale = aligned(d->memory[2]);
    size_t slot = 0;
    for (size_t block = 0; block < d->blocks; ++block) pack_block(d, layer, interleaved, block, &slot);
    for (size_t code = 0; code < d->blocks * BLOCK; ++code) {
        const long channel = channel_of(d, code);
        if (channel < 0) continue;
        const size_t place = code / BLOCK * BLOCK + (interleaved ? place_of_code(code % BLOCK) : code % BLOCK);
        d->start[place] = start_of(layer, (size_t)channel, d->flip);
        d->scale[place] = scale_of(layer, (size_t)channel);
    }
    return 1;
}

void depthwise_free(Depthwise *d) {
    free(d->first), free(d->taps);
    for (int i = 0; i < 3; ++i) free(d->memory[i]);
    *d = (Depthwise){0};
}
