/* Convolutions by Winograd's algorithm of every kernel that this processor can run, against sums that are added one by
 * one. Exit code 1: some element differs, a byte beside the output was written, or a code that cannot be goes unnoticed.
 * Compiled and run by test_each_kernel.py, also with sanitizers.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "check.h"
#include "table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 70, DEEPEST = 150, TAPS = 9, LARGE = 12000, REFUSED = 100 };

static int8_t weights[LARGE * TAPS];
static float scales[MOST];
static int32_t bias[MOST];
static uint8_t table[256];

/* Many of them fit only just, or not at all: `most` is the largest of the weights, which are multiples of a number. */
static Layer draw(size_t channels, Codes *codes) {
    const int most = 1 + (int)noise(noise(2) ? 15 : 42), factor = 1 + (int)noise((unsigned)(127 / most));
    Layer l = {.weights = weights, .scales = scales, .bias = bias, .channels = channels, .inputs = 1 + noise(DEEPEST),
               .taps = TAPS, .scale_count = noise(2) ? 1 : channels, .x_scale = 0.03F, .y_scale = 0.5F + (float)noise(9),
               .is_signed = (int)noise(2)};
    l.x_zero = (int32_t)noise(256) - (l.is_signed ? 128 : 0), l.y_zero = (int32_t)noise(256) - (l.is_signed ? 128 : 0);
    for (size_t i = 0; i < channels * l.inputs * TAPS; ++i)
        weights[i] = (int8_t)(factor * ((int)noise((unsigned)(2 * most + 1)) - most));
    for (size_t i = 0; !noise(4) && i < channels * l.inputs * TAPS; ++i) weights[i] = (int8_t)(weights[i] < 0 ? -factor * most : factor * most);
    for (size_t c = 0; c < channels; ++c) scales[c] = ldexpf(1.0F + (float)noise(1000) / 999, -8 - (int)noise(3));
    for (size_t c = 0; c < channels; ++c) bias[c] = (int32_t)noise(60000) - 30000;
    codes->count = 1 + (int32_t)noise(MOST_CODES), codes->step = 1 + (int32_t)noise((unsigned)(255 / codes->count));
    codes->low = (int32_t)noise((unsigned)(256 - codes->step * (codes->count - 1))) - (l.is_signed ? 128 : 0);
    return l;
}

/* Taps outside of the image add nothing. */
static uint8_t wanted(const Layer *l, const uint8_t *const *x, size_t row, size_t column, uint8_t border, size_t channel) {
    int64_t sum = l->bias[channel];
    for (size_t tap = 0; tap < TAPS; ++tap) {
        const size_t r = tap / 3, c = tap % 3;
        const int outside = (r == 0 && border & 1) || (r == 2 && border & 2) || (c == 0 && border & 4) || (c == 2 && border & 8);
        for (size_t i = 0; i < l->inputs && !outside; ++i)
            sum += (int64_t)centered(l, x[(row + r) * PATCH + column + c][i]) * l->weights[(channel * l->inputs + i) * TAPS + tap];
    }
    return code_of(l, channel, sum);
}

/* Pixels that are outside of the image of some result of a tile are so of all of its results. */
static void draw_borders(Tile *tile, int outside[PLACES]) {
    const int above = !noise(3), below = !noise(3), left = !noise(3), right = !noise(3);
    for (int i = 0; i < PLACES; ++i) {
        const int row = i / PATCH, column = i % PATCH;
        outside[i] = (row == 0 && above) || (row == 3 && below) || (column == 0 && left) || (column == 3 && right);
    }
    for (int i = 0; i < SIDE; ++i)
        for (int j = 0; j < SIDE; ++j) tile->borders[i][j] = border_of(!i && above, i && below, !j && left, j && right);
}

static uint8_t *draw_codes(const Layer *l, const Codes *codes, int low) {
    uint8_t *x = malloc(l->inputs);
    const int32_t extreme = noise(4) ? -1 : noise(2) ? 0 : codes->count - 1;
    for (size_t i = 0; i < l->inputs; ++i) {
        const int32_t q = low ? 0 : extreme >= 0 ? extreme : (int32_t)noise((unsigned)codes->count);
        x[i] = (uint8_t)(codes->low + q * codes->step);
    }
    return x;
}

/* One call, for some of the blocks of channels. */
static void check(const Kernel *kernel, const Layer *layer, const Codes *codes) {
    Winograd w;
    if (!winograd_pack(&w, layer, codes)) exit(3);
    const size_t count = 1 + noise(ROWS), blocks = w.ends.blocks, depth = w.products.depth, row = 2 * layer->channels + 1;
    const size_t begin = noise((unsigned)blocks), end = begin + 1 + noise((unsigned)(blocks - begin));
    uint8_t *memory = calloc(PLACES * ROWS * depth + 64, 1), *v = aligned(memory), *out = malloc(count * SIDE * row);
    uint8_t *(*x)[PLACES] = calloc(count, sizeof *x);
    Tile tiles[ROWS];
    memset(out, GUARD, count * SIDE * row);
    for (size_t i = 0; i < count; ++i) {
        int outside[PLACES];
        draw_borders(&tiles[i], outside);
        tiles[i].columns = 1 + noise(2);
        for (size_t r = 0; r < SIDE; ++r) tiles[i].out[r] = r && noise(2) ? NULL : out + (i * SIDE + r) * row;
        for (int p = 0; p < PLACES; ++p) x[i][p] = draw_codes(layer, codes, outside[p]);
        differing += !kernel->transform(&w, (const uint8_t *const *)x[i], v + i * depth, ROWS * depth);
    }
    const int passes = (int)noise(2);
    kernel->winograd(&w, v, tiles, count, begin, end, passes ? NULL : table);
    for (size_t at = 0; at < count * SIDE * row; ++at) {
        const size_t i = at / row / SIDE, r = at / row % SIDE, column = at % row / layer->channels, c = at % row % layer->channels;
        const int inside = tiles[i].out[r] && column < tiles[i].columns && c >= begin * COLUMNS && c < end * COLUMNS;
        uint8_t expected = GUARD;
        if (inside) {
            expected = wanted(layer, (const uint8_t *const *)x[i], r, column, tiles[i].borders[r][column], c);
            if (!passes) expected = table[expected ^ w.ends.flip];
        }
        differing += out[at] != expected, compared += (unsigned)inside;
    }
    if (codes->count * codes->step < 256) { /* a code that x cannot have is seen, wherever it is */
        const int32_t end_of = codes->low + codes->count * codes->step, lowest = layer->is_signed ? -128 : 0;
        x[0][noise(PLACES)][noise((unsigned)layer->inputs)] = (uint8_t)(end_of <= lowest + 255 ? end_of : codes->low - 1);
        if (end_of <= lowest + 255 || codes->low > lowest)
            differing += (unsigned)kernel->transform(&w, (const uint8_t *const *)x[0], v, ROWS * depth);
    }
    for (size_t i = 0; i < count; ++i)
        for (int p = 0; p < PLACES; ++p) free(x[i][p]);
    free(memory), free(out), free(x), winograd_free(&w);
}

/* Sums that leave 32 bits. */
static int is_wide_refused(void) {
    const Codes codes = {0, 1, MOST_CODES};
    Layer l = {.weights = weights, .channels = 1, .inputs = LARGE, .taps = TAPS};
    memset(weights, 14, LARGE * TAPS);
    weights[0] = 13; /* so that 14 is not a factor of all */
    const int wide = winograd_fits(&l, &codes);
    l.inputs = LARGE / 2;
    return !wide && winograd_fits(&l, &codes);
}

int main(void) {
    unsigned long long all = 0;
    for (size_t i = 0; i < 256; ++i) table[i] = (uint8_t)(255 - i);
    for (size_t k = 0; k < kernel_count; ++k) {
        if (!kernels[k].winograd || !kernels[k].available()) {
            printf("%s: %s\n", kernels[k].name, kernels[k].winograd ? "this processor cannot run it" : "it has none");
            continue;
        }
        unsigned long refused = 0;
        compared = differing = 0, state = 1;
        for (size_t channels = 1; channels <= MOST; ++channels)
            for (int i = 0; i < 6; ++i) {
                Codes codes;
                const Layer layer = draw(channels, &codes);
                if (winograd_fits(&layer, &codes)) check(&kernels[k], &layer, &codes);
                else ++refused;
            }
        differing += refused < REFUSED; /* what does not fit has to be seen, too */
        differing += !is_wide_refused();
        printf("%s: %llu of %llu differ\n", kernels[k].name, differing, compared);
        all += differing;
    }
    return all != 0;
}
