/* A convolution as QLinearConv has it: what the packing of weights takes.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#ifndef LSQ_EXPORT_LAYER_H
#define LSQ_EXPORT_LAYER_H

#include <stddef.h>
#include <stdint.h>

/* weights [channels][inputs][taps], inputs: 1 where each channel is a group. scales [scale_count, 1 or channels],
 * bias [channels]. is_signed: whether codes are int8. neighbors: whether neighboring pixels are computed from
 * neighboring pixels. */
typedef struct Layer {
    const int8_t *weights;
    const float *scales;
    const int32_t *bias;
    size_t channels, inputs, taps, scale_count;
    float x_scale, y_scale;
    int32_t x_zero, y_zero;
    int is_signed, neighbors;
} Layer;

static inline size_t common_divisor(size_t a, size_t b) {
    for (size_t rest; b; a = b, b = rest) rest = a % b;
    return a;
}

/* The next address that begins a line of the caches: kernels read lines, and half as fast what lies in two. */
static inline void *aligned(void *memory) { return (void *)(((uintptr_t)memory + 63) & ~(uintptr_t)63); }

/* What the sums of a channel begin with, the bias less the zero point's part, modulo 2^32; flip: 128 for signed x, which
 * the sums take as unsigned, else 0. */
static inline int32_t start_of(const Layer *layer, size_t channel, uint8_t flip) {
    const size_t depth = layer->inputs * layer->taps;
    int32_t sum = 0;
    for (size_t i = 0; i < depth; ++i) sum += layer->weights[channel * depth + i];
    return (int32_t)((uint32_t)layer->bias[channel] - (uint32_t)(layer->x_zero + flip) * (uint32_t)sum);
}

static inline float scale_of(const Layer *layer, size_t channel) {
    const float product = layer->x_scale * layer->scales[layer->scale_count == 1 ? 0 : channel];
    return product / layer->y_scale;
}

#endif
