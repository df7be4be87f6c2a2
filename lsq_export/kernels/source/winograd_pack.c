/* Weights of a convolution by Winograd's algorithm.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#include "winograd.h"

#include <stdlib.h>

enum { TAPS = 9, WIDTH = 3 };

/* The greatest common divisor of all weights; 1 where all are 0. */
static int factor_of(const Layer *layer) {
    const size_t count = layer->channels * layer->inputs * TAPS;
    size_t found = 0;
    for (size_t i = 0; i < count && found != 1; ++i) found = common_divisor(found, (size_t)abs(layer->weights[i]));
    return found ? (int)found : 1;
}

/* 2G·v, of WIDTH numbers `step` apart. */
static void widen(const int *v, size_t step, int out[PATCH]) {
    const int ends = v[0] + v[2 * step], middle = v[step];
    out[0] = 2 * v[0], out[1] = ends + middle, out[2] = ends - middle, out[3] = 2 * v[2 * step];
}

/* U, by its places. */
static void transform(const int8_t *weights, int factor, int out[PLACES]) {
    int v[TAPS], rows[WIDTH][PATCH], columns[WIDTH * PATCH];
    for (int i = 0; i < TAPS; ++i) v[i] = weights[i] / factor;
    for (int i = 0; i < WIDTH; ++i) widen(v + i, WIDTH, rows[i]);
    for (int place = 0; place < PATCH; ++place)
        for (int i = 0; i < WIDTH; ++i) columns[place * WIDTH + i] = rows[i][place];
    for (int place = 0; place < PATCH; ++place) widen(columns + place * WIDTH, 1, out + place * PATCH);
}

/* The sums of U·V of a channel stay within 32 bits, as the sums of q·v times 4 do. */
int winograd_fits(const Layer *layer, const Codes *codes) {
    const int factor = factor_of(layer);
    if (layer->taps != TAPS || codes->count < 1 || codes->count > MOST_CODES || codes->step < 1) return 0;
    for (size_t channel = 0; channel < layer->channels; ++channel) {
        int64_t sum = 0, most = (1 + SHIFTS + SHIFTS) * (int64_t)(codes->count - 1);
        for (size_t input = 0; input < layer->inputs; ++input) {
            int u[PLACES];
            transform(layer->weights + (channel * layer->inputs + input) * TAPS, factor, u);
            for (int place = 0; place < PLACES; ++place) {
                if (u[place] < INT8_MIN || u[place] > INT8_MAX) return 0;
                sum += abs(u[place]);
            }
        }
        if (sum * (most + 1) > INT32_MAX) return 0;
    }
    return 1;
}

/* A layer of one tap, whose channels are those of PLACES blocks for each block of channels. */
static int pack_products(Winograd *w, const Layer *layer) {
    const size_t blocks = parts_of(layer->channels, COLUMNS), channels = blocks * PLACES * COLUMNS;
    const float one = 1;
    const int factor = factor_of(layer);
    int8_t *weights = calloc(channels * layer->inputs, 1);
    int32_t *bias = calloc(channels, sizeof *bias);
    const Layer products = {.weights = weights, .scales = &one, .bias = bias, .channels = channels, .inputs = layer->inputs,
                            .taps = 1, .scale_count = 1, .x_scale = 1, .y_scale = 1, .x_zero = w->shift};
    for (size_t channel = 0; weights && channel < layer->channels; ++channel)
        for (size_t input = 0; input < layer->inputs; ++input) {
            int u[PLACES];
            transform(layer->weights + (channel * layer->inputs + input) * TAPS, factor, u);
            for (size_t place = 0; place < PLACES; ++place) {
                const size_t row = (channel / COLUMNS * PLACES + place) * COLUMNS + channel % COLUMNS;
                weights[row * layer->inputs + input] = (int8_t)u[place];
            }
        }
    const int packed = weights && bias && conv_pack(&w->products, &products);
    free(weights), free(bias);
    return packed;
}

/* The bias, and what the taps inside of the image add for codes of x that are `low`: by borders, `step` apart. */
static void put_starts(const Layer *layer, size_t channel, int32_t low, int32_t *out, size_t step) {
    int32_t sums[TAPS] = {0};
    for (size_t i = 0; i < layer->inputs * TAPS; ++i) sums[i % TAPS] += layer->weights[channel * layer->inputs * TAPS + i];
    for (int border = 0; border < BORDERS; ++border, out += step) {
        int32_t sum = 0;
        for (int tap = 0; tap < TAPS; ++tap) {
            const int row = tap / WIDTH, column = tap % WIDTH;
            const int outside = (row == 0 && border & 1) || (row == 2 && border & 2) || (column == 0 && border & 4) ||
                                (column == 2 && border & 8);
            if (!outside) sum += sums[tap];
        }
        *out = (int32_t)((uint32_t)layer->bias[channel] + (uint32_t)(low - layer->x_zero) * (uint32_t)sum);
    }
}

int winograd_pack(Winograd *w, const Layer *layer, const Codes *codes) {
    *w = (Winograd){.factor = codes->step * factor_of(layer),
                    .shift = (uint8_t)(SHIFTS * (codes->count - 1))};
    for (int byte = 0; byte < 256; ++byte) w->codes[byte] = NO_CODE;
    for (int32_t q = 0; q < codes->count; ++q) w->codes[(uint8_t)(codes->low + q * codes->step)] = (uint8_t)q;
    if (!conv_pack_ends(&w->ends, layer) || !pack_products(w, layer)) return 0;
    const size_t channels = w->ends.blocks * COLUMNS;
    w->start = calloc(BORDERS * channels, sizeof *w->start);
    if (!w->start) return 0;
    for (size_t channel = 0; channel < layer->channels; ++channel)
        put_starts(layer, channel, codes->low, w->start + channel, channels);
    return 1;
}

void winograd_free(Winograd *w) {
    conv_free(&w->products), conv_free(&w->ends), free(w->start);
    *w = (Winograd){0};
}
