/* The operator lsq_export::Conv of ONNX Runtime: QLinearConv in one group, channels-last, whose result goes through a
 * table of 256 entries.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 *
 * Inputs: those of lsq_export::Depthwise (depthwise_operator.c), with weights [M, C, K, K]. Output: [N, H', W', M], of the
 * type of the table.
 */
#include "layer_operator.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNKS = 8, PRODUCTS = 1 << 20 }; /* at least as many chunks, each of at least as many products */

typedef struct Node {
    LayerNode layer;
    Conv conv;
    int has_one_tap, is_product; /* is_product: the images are the rows already */
} Node;

typedef struct Work { /* one call, for all threads */
    const Node *node;
    Images images;
    size_t pixels, groups; /* of all images; of ROWS pixels */
    size_t blocks;         /* of channels that a thread takes at a time */
    atomic_int no_memory;
} Work;

void conv_destroy(void *argument) {
    Node *node = argument;
    if (!node) return;
    conv_free(&node->conv);
    free(node);
}

static int has_one_tap(const Geometry *g) {
    int found = 1;
    for (int i = 0; i < 2; ++i) found &= g->kernel[i] == 1 && !g->begin[i] && !g->end[i];
    return found;
}

Status *conv_create(const Operator *op, const Api *api, const Info *info, void **out) {
    const Kernel *kernel = choose_kernel();
    if (!kernel || !kernel->conv) return api->CreateStatus(ERROR_INVALID_ARGUMENT, NO_KERNEL);
    Node *node = calloc(1, sizeof *node);
    if (!node) return refuse(op, api, info, "out of memory");
    Layer layer;
    node->layer.kernel = kernel;
    Status *status = read_layer(&node->layer, op, api, info, &layer);
    if (!status && !conv_pack(&node->conv, &layer)) status = refuse(op, api, info, "out of memory");
    const Geometry *g = &node->layer.geometry;
    node->has_one_tap = has_one_tap(g);
    node->is_product = node->has_one_tap && g->stride[0] == 1 && g->stride[1] == 1 && !node->conv.flip &&
                       node->conv.depth == node->conv.used;
    if (status) conv_destroy(node);
    else *out = node;
    return status;
}

/* Codes whose weights are 0 become 0: the kernel reads them. */
static void clear_end(const Conv *c, uint8_t *row) {
    if (c->used < c->depth) memset(row + c->depth - STEP, 0, STEP);
}

/* What pixels read of one tap: `count` from `first` on, none of them outside of the image. */
static void gather_tap(const Work *w, size_t first, size_t count, uint8_t *out) {
    const Node *node = w->node;
    const Geometry *g = &node->layer.geometry;
    const size_t width = (size_t)w->images.size[1], channels = node->layer.in_channels;
    const uint8_t *row = NULL, *runs[ROWS];
    size_t column = first % width;
    for (size_t i = 0; i < count; ++i, column = column + 1 == width ? 0 : column + 1) {
        if (i == 0 || column == 0) point_to_rows(&w->images, (first + i) / width, &row);
        runs[i] = row + column * (size_t)g->stride[1] * channels;
        clear_end(&node->conv, out + i * node->conv.depth);
    }
    node->layer.kernel->gather(runs, count, channels, node->conv.flip, out, node->conv.depth);
}

/* What pixels read. Taps of a row of the image lie side by side, but where some are outside. */
static void gather(const Work *w, size_t first, size_t count, uint8_t *out) {
    const Node *node = w->node;
    const Geometry *g = &node->layer.geometry;
    const GatherFunction copy = node->layer.kernel->gather;
    const size_t channels = node->layer.in_channels, width = (size_t)w->images.size[1];
    const size_t height = (size_t)g->kernel[0], length = (size_t)g->kernel[1] * channels;
    const uint8_t *rows[MAX_TAPS], *runs[MAX_TAPS];
    size_t column = first % width;
    for (size_t i = 0; i < count; ++i, column = column + 1 == width ? 0 : column + 1, out += node->conv.depth) {
        const int64_t left = left_of(g, (int64_t)column);
        if (i == 0 || column == 0) point_to_rows(&w->images, (first + i) / width, rows);
        clear_end(&node->conv, out);
        if (g->dilation[1] == 1 && left >= 0 && left + reach_of(g) <= w->images.in[1]) {
            for (size_t k = 0; k < height; ++k) runs[k] = rows[k] + (size_t)left * channels;
            copy(runs, height, length, node->conv.flip, out, length);
        } else {
            point_to_taps(&w->images, rows, left, runs);
            copy(runs, height * (size_t)g->kernel[1], channels, node->conv.flip, out, channels);
        }
    }
}

static void run_chunk(void *argument, size_t index) {
    Work *w = argument;
    const Conv *conv = &w->node->conv;
    const Kernel *kernel = w->node->layer.kernel;
    const size_t first = index % w->groups * ROWS, count = smaller(ROWS, w->pixels - first);
    const size_t begin = index / w->groups * w->blocks, end = smaller(begin + w->blocks, conv->blocks);
    uint8_t *out = w->images.out + first * conv->channels;
    if (w->node->is_product && count == ROWS) {
        kernel->conv(conv, w->images.x + first * conv->depth, count, begin, end, out);
    } else {
        void *memory = malloc(ROWS * conv->depth + 64);
        if (!memory) {
            w->no_memory = 1;
            return;
        }
        (w->node->has_one_tap ? gather_tap : gather)(w, first, count, aligned(memory));
        kernel->conv(conv, aligned(memory), count, begin, end, out);
        free(memory);
    }
    if (w->node->layer.passes) return;
    const size_t from = begin * COLUMNS, to = smaller(end * COLUMNS, conv->channels);
    const int whole = from == 0 && to == conv->channels;
    for (size_t row = 0; row < (whole ? 1 : count); ++row) {
        uint8_t *codes = out + row * conv->channels + from;
        kernel->run(w->images.table, conv->flip, codes, codes, whole ? count * conv->channels : to - from);
    }
}

/* How many blocks of channels a thread takes at a time: all, or fewer where there are few pixels. */
static size_t blocks_of(const Work *w) {
    const Conv *conv = &w->node->conv;
    const size_t blocks = parts_of(conv->blocks, parts_of(CHUNKS, w->groups));
    const size_t least = PRODUCTS / (ROWS * COLUMNS * conv->depth) + 1;
    return blocks < least ? least : blocks;
}

Status *conv_compute(void *argument, Context *context) {
    const Node *node = argument;
    Work work = {.node = node};
    Status *status = read_images(&work.images, &node->layer, context);
    work.pixels = work.images.rows * (size_t)work.images.size[1], work.groups = parts_of(work.pixels, ROWS);
    if (!status && work.groups) {
        work.blocks = blocks_of(&work);
        const size_t chunks = work.groups * parts_of(node->conv.blocks, work.blocks);
        status = run_chunks(node->layer.api, context, run_chunk, chunks, &work);
        if (!status && work.no_memory) status = refuse(node->layer.op, node->layer.api, NULL, "out of memory");
    }
    images_release(&work.images);
    return status;
}
