/* Depthwise convolutions of every kernel that this processor can run, against sums that are added one by one. Exit code
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

enum { PIXELS = 7, MOST = 130, TAPS = 25 };

static int8_t weights[MOST * TAPS];
static float scales[MOST];
static int32_t bias[MOST];

/* What QLinearConv makes of the codes of a pixel's taps. */
static uint8_t wanted(const Layer *l, const uint8_t *const *x, size_t code) {
    const size_t channel = code % l->channels;
    int64_t sum = l->bias[channel];
    for (size_t tap = 0; tap < l->taps; ++tap)
        sum += (int64_t)centered(l, x[tap][code]) * l->weights[channel * l->taps + tap];
    return code_of(l, channel, sum);
}

static Layer draw(size_t channels) {
    Layer l = {weights, scales, bias, channels, 1, 1 + noise(TAPS), noise(2) ? 1 : channels, 0.03F, 0.5F + (float)noise(9),
               0, 0, (int)noise(2), (int)noise(2)};
    l.x_zero = (int32_t)noise(256) - (l.is_signed ? 128 : 0), l.y_zero = (int32_t)noise(256) - (l.is_signed ? 128 : 0);
    for (size_t i = 0; i < channels * l.taps; ++i) weights[i] = noise(3) ? (int8_t)noise(256) : 0;
    for (size_t tap = 0; tap < l.taps; tap += 1 + noise(3)) /* taps that are zero in some blocks */
        for (size_t c = noise((unsigned)channels); c < channels; ++c) weights[c * l.taps + tap] = 0;
    for (size_t c = 0; c < channels; ++c) scales[c] = ldexpf(1.0F + (float)noise(1000) / 999, -7 - (int)noise(3));
    for (size_t c = 0; c < channels; ++c) bias[c] = (int32_t)noise(60000) - 30000;
    if (!noise(20)) bias[0] = noise(2) ? INT32_MAX - 1 - 5000000 : 5000000 - INT32_MAX; /* far beyond all codes */
    return l;
}

static void check(const Kernel *kernel, const Layer *layer) {
    Depthwise d;
    if (!depthwise_pack(&d, layer, kernel->interleaved)) exit(3);
    const size_t count = (is_periodic(&d) ? 1 + noise(PIXELS) : 1) * layer->channels, from = noise(64);
    uint8_t *blocks[TAPS], *out = malloc(from + count + 1);
    const uint8_t *x[TAPS];
    for (size_t tap = 0; tap < layer->taps; ++tap) { /* each ends with its block of memory */
        blocks[tap] = malloc(from + count);
        for (size_t i = 0; i < from + count; ++i) blocks[tap][i] = (uint8_t)noise(256);
        x[tap] = blocks[tap] + from;
    }
    memset(out, GUARD, from + count + 1);
    kernel->depthwise(&d, x, out + from, count);
    for (size_t code = 0; code < count; ++code) differing += out[from + code] != wanted(layer, x, code);
    for (size_t i = 0; i < from; ++i) differing += out[i] != GUARD;
    differing += out[from + count] != GUARD;
    compared += count;
    for (size_t tap = 0; tap < layer->taps; ++tap) free(blocks[tap]);
    free(out), depthwise_free(&d);
}

int main(void) {
    unsigned long long all = 0;
    for (size_t k = 0; k < kernel_count; ++k) {
        if (!kernels[k].depthwise || !kernels[k].available()) {
            printf("%s: %s\n", kernels[k].name, kernels[k].depthwise ? "this processor cannot run it" : "it has none");
            continue;
        }
        compared = differing = 0, state = 1;
        for (size_t channels = 1; channels <= MOST; ++channels)
            for (int i = 0; i < 12; ++i) {
                const Layer layer = draw(channels);
                check(&kernels[k], &layer);
            }
        printf("%s: %llu of %llu differ\n", kernels[k].name, differing, compared);
        all += differing;
    }
    return all != 0;
}
