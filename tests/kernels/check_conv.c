/* Convolutions in one group of every kernel that this processor can run, against sums that are added one by one. Exit code
 * 1: some element differs, or a byte beside the output was written. Compiled and run by test_each_kernel.py, also with
 * sanitizers.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "check.h"
#include "table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 140, DEEPEST = 330, TAPS = 9, RUNS = 12, LONGEST = 200 };

static int8_t weights[MOST * DEEPEST];
static float scales[MOST];
static int32_t bias[MOST];
static uint8_t table[256];

/* What QLinearConv makes of a row: the codes of a tap after those of another, all inputs of each. */
static uint8_t wanted(const Layer *l, const uint8_t *row, size_t channel) {
    int64_t sum = l->bias[channel];
    for (size_t tap = 0; tap < l->taps; ++tap)
        for (size_t i = 0; i < l->inputs; ++i)
            sum += (int64_t)centered(l, row[tap * l->inputs + i]) * l->weights[(channel * l->inputs + i) * l->taps + tap];
    return code_of(l, channel, sum);
}

static Layer draw(size_t channels) {
    Layer l = {.weights = weights, .scales = scales, .bias = bias, .channels = channels, .taps = 1 + noise(TAPS),
               .scale_count = noise(2) ? 1 : channels, .x_scale = 0.03F, .y_scale = 0.5F + (float)noise(9),
               .is_signed = (int)noise(2)};
    l.inputs = 1 + noise(DEEPEST / (unsigned)l.taps);
    l.x_zero = (int32_t)noise(256) - (l.is_signed ? 128 : 0), l.y_zero = (int32_t)noise(256) - (l.is_signed ? 128 : 0);
    for (size_t i = 0; i < channels * l.inputs * l.taps; ++i) weights[i] = (int8_t)noise(256);
    if (!noise(3)) /* as the groups of a convolution in several: each half of the channels reads one half of the inputs */
        for (size_t i = 0; i < channels * l.inputs * l.taps; ++i) {
            const size_t channel = i / l.taps / l.inputs, input = i / l.taps % l.inputs;
            if ((2 * channel < channels) != (2 * input < l.inputs)) weights[i] = 0;
        }
    for (size_t c = 0; c < channels; ++c) scales[c] = ldexpf(1.0F + (float)noise(1000) / 999, -8 - (int)noise(3));
    for (size_t c = 0; c < channels; ++c) bias[c] = (int32_t)noise(60000) - 30000;
    if (!noise(6)) { /* far beyond all codes, or all integers */
        bias[0] = noise(2) ? INT32_MAX - 1 - 15000000 : 15000000 - INT32_MAX;
        l.y_scale = noise(2) ? 1e-5F : l.y_scale;
    }
    return l;
}

/* One call for some of the blocks of channels, and of at most ROWS pixels. */
static void check(const Kernel *kernel, const Layer *layer) {
    Conv c;
    if (!conv_pack(&c, layer)) exit(3);
    const size_t count = 1 + noise(ROWS), begin = noise((unsigned)c.blocks), end = begin + 1 + noise((unsigned)(c.blocks - begin));
    const size_t stride = noise(2) ? c.depth : c.used;
    uint8_t *memory = calloc(ROWS * c.depth + 64 + SLACK, 1), *rows = aligned(memory), *out = malloc(count * c.channels + 1);
    uint8_t *codes = malloc(count * c.used);
    for (size_t i = 0; i < count * c.used; ++i) codes[i] = (uint8_t)noise(256);
    for (size_t row = 0; row < count; ++row) {
        const uint8_t *run = codes + row * c.used;
        kernel->gather(&run, 1, c.used, c.flip, rows + row * stride, stride);
    }
    memset(out, GUARD, count * c.channels + 1);
    const int passes = (int)noise(2);
    kernel->conv(&c, rows, stride, count, begin, end, passes ? NULL : table, out);
    for (size_t row = 0; row < count; ++row)
        for (size_t channel = 0; channel < c.channels; ++channel) {
            const int inside = channel >= begin * COLUMNS && channel < end * COLUMNS;
            const uint8_t code = inside ? wanted(layer, codes + row * c.used, channel) : 0;
            const uint8_t expected = !inside ? GUARD : passes ? code : table[code ^ c.flip];
            differing += out[row * c.channels + channel] != expected, compared += (unsigned)inside;
        }
    differing += out[count * c.channels] != GUARD;
    free(memory), free(out), free(codes), conv_free(&c);
}

/* Runs that end with their blocks of memory. */
static void check_gather(const Kernel *kernel, size_t length) {
    const size_t count = 1 + noise(RUNS), step = length + noise(2) * noise(100);
    const uint8_t flip = noise(2) ? 128 : 0;
    uint8_t *runs[RUNS], *out = malloc(count * step + SLACK + 1);
    memset(out, GUARD, count * step + SLACK + 1);
    for (size_t run = 0; run < count; ++run) {
        runs[run] = malloc(length);
        for (size_t i = 0; i < length; ++i) runs[run][i] = (uint8_t)noise(256);
    }
    kernel->gather((const uint8_t *const *)runs, count, length, flip, out, step);
    for (size_t i = 0; i < count * step; ++i) {
        const size_t run = i / step, at = i % step;
        differing += at < length && out[i] != (runs[run][at] ^ flip), compared += at < length;
    }
    differing += out[(count - 1) * step + length + SLACK] != GUARD;
    for (size_t run = 0; run < count; ++run) free(runs[run]);
    free(out);
}

int main(void) {
    unsigned long long all = 0;
    for (size_t i = 0; i < 256; ++i) table[i] = (uint8_t)(255 - i);
    for (size_t k = 0; k < kernel_count; ++k) {
        if (!kernels[k].conv || !kernels[k].available()) {
            printf("%s: %s\n", kernels[k].name, kernels[k].conv ? "this processor cannot run it" : "it has none");
            continue;
        }
        compared = differing = 0, state = 1;
        for (size_t length = 1; length <= LONGEST; ++length) check_gather(&kernels[k], length);
        for (size_t channels = 1; channels <= MOST; ++channels)
            for (int i = 0; i < 6; ++i) {
                const Layer layer = draw(channels);
                check(&kernels[k], &layer);
            }
        printf("%s: %llu of %llu differ\n", kernels[k].name, differing, compared);
        all += differing;
    }
    return all != 0;
}
