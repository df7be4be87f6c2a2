/* Weights of a convolution, put in the order in which kernels read them.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#include "conv.h"

#include <stdlib.h>

enum { HALF = COLUMNS / 2, QUAD = 4 };

/* Where a weight is, by its channel and its place in a row. */
static size_t place_of(const Conv *c, size_t channel, size_t code) {
    const size_t step = channel / COLUMNS * (c->depth / STEP) + code / STEP;
    const size_t half = step * 2 + channel % COLUMNS / HALF;
    return ((half * (STEP / QUAD) + code % STEP / QUAD) * HALF + channel % HALF) * QUAD + code % QUAD;
}

/* Let a span, which is empty where its end is 0, hold a place. */
static void widen(size_t span[2], size_t place) {
    if (span[1] == 0 || place < span[0]) span[0] = place;
    if (place >= span[1]) span[1] = place + 1;
}

int conv_pack_ends(Conv *c, const Layer *layer) {
    const int32_t highest = layer->is_signed ? 127 : 255;
    const size_t used = layer->inputs * layer->taps;
    *c = (Conv){.channels = layer->channels, .used = used, .depth = parts_of(used, STEP) * STEP,
                .blocks = parts_of(layer->channels, COLUMNS), .y_zero = layer->y_zero,
                .high = (float)(highest - layer->y_zero), .flip = layer->is_signed ? 128 : 0};
    c->start = calloc(c->blocks * COLUMNS, sizeof *c->start);
    c->scale = calloc(c->blocks * COLUMNS, sizeof *c->scale);
    c->spans = calloc(c->blocks * 2, sizeof *c->spans);
    if (!c->start || !c->scale || !c->spans) return 0;
    for (size_t channel = 0; channel < c->channels; ++channel) c->scale[channel] = scale_of(layer, channel);
    return 1;
}

int conv_pack(Conv *c, const Layer *layer) {
    if (!conv_pack_ends(c, layer)) return 0;
    c->memory = calloc(c->blocks * COLUMNS * c->depth + 64, 1);
    if (!c->memory) return 0;
    c->weights = aligned(c->memory);
    for (size_t channel = 0; channel < c->channels; ++channel) {
        c->start[channel] = start_of(layer, channel, c->flip);
        for (size_t input = 0; input < layer->inputs; ++input)
            for (size_t tap = 0; tap < layer->taps; ++tap) {
                const int8_t weight = layer->weights[channel * c->used + input * layer->taps + tap];
                c->weights[place_of(c, channel, tap * layer->inputs + input)] = weight;
                if (weight) widen(c->spans + channel / COLUMNS * 2, (tap * layer->inputs + input) / QUAD);
            }
    }
    return 1;
}

void conv_free(Conv *c) {
    free(c->memory), free(c->start), free(c->scale), free(c->spans);
    *c = (Conv){0};
}
