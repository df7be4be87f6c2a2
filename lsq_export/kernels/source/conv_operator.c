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

enum { CHUNKS = 8, PRODUCTS = 1 << 20 }; /* at least as many chunks, each of at least as many products */

typedef struct Node {
    LayerNode layer;
    Conv conv;         /* either this */
    Winograd winograd; /* or that */
    int is_tiled;      /* that */
    int has_one_tap, is_product; /* is_product: the images are the rows already, but for what is read behind the last one */
} Node;

typedef struct Work { /* one call, for all threads */
    const Node *node;
    Images images;
    size_t pixels, groups; /* of all images, or tiles; of ROWS of them */
    size_t blocks;         /* of channels that a thread takes at a time */
    void *gathered;        /* what all groups read; NULL: each gathers its own */
    atomic_int no_memory, no_code;
} Work;

void conv_destroy(void *argument) {
    Node *node = argument;
    if (!node) return;
    conv_free(&node->conv), winograd_free(&node->winograd);
    free(node);
}

static int has_one_tap(const Geometry *g) {
    int found = 1;
    for (int i = 0; i < 2; ++i) found &= g->kernel[i] == 1 && !g->begin[i] && !g->end[i];
    return found;
}

/* Whether the geometry is that of tiles. */
static int is_tiled(const LayerNode *layer) {
    const Geometry *g = &layer->geometry;
    int found = layer->codes.count > 0;
    for (int i = 0; i < 2; ++i)
        found &= g->kernel[i] == 3 && g->stride[i] == 1 && g->dilation[i] == 1 && g->begin[i] <= 1 && g->end[i] <= 1;
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
    node->is_tiled = !status && kernel->winograd && is_tiled(&node->layer) && winograd_fits(&layer, &node->layer.codes);
    if (!status && !(node->is_tiled ? winograd_pack(&node->winograd, &layer, &node->layer.codes)
                                    : conv_pack(&node->conv, &layer)))
        status = refuse(op, api, info, "out of memory");
    if (node->is_tiled) node->layer.outside = (uint8_t)node->layer.codes.low;
    const Geometry *g = &node->layer.geometry;
    node->has_one_tap = has_one_tap(g);
    node->is_product = node->has_one_tap && g->stride[0] == 1 && g->stride[1] == 1 && !node->conv.flip &&
                       node->conv.used % kernel->row_step == 0;
    if (status) conv_destroy(node);
    else *out = node;
    return status;
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
        if (g->dilation[1] == 1 && left >= 0 && left + reach_of(g) <= w->images.in[1]) {
            for (size_t k = 0; k < height; ++k) runs[k] = rows[k] + (size_t)left * channels;
            copy(runs, height, length, node->conv.flip, out, length);
        } else {
            point_to_taps(&w->images, rows, left, runs);
            copy(runs, height * (size_t)g->kernel[1], channels, node->conv.flip, out, channels);
        }
    }
}

/* What tiles read. */
static void gather_tiles(Work *w, size_t first, size_t count, uint8_t *v) {
    const Winograd *winograd = &w->node->winograd;
    const size_t depth = winograd->products.depth;
    for (size_t i = 0; i < count; ++i) {
        const uint8_t *x[PLACES];
        point_to_pixels(&w->images, first + i, x);
        if (!w->node->layer.kernel->transform(winograd, x, v + i * depth, ROWS * depth)) w->no_code = 1;
    }
}

/* Bytes for the codes that a group of ROWS pixels or tiles reads, where they are gathered, and for the slack behind. */
static size_t size_of_group(const Node *node) {
    return ROWS * (node->is_tiled ? PLACES * node->winograd.products.depth : node->conv.depth) + STEP;
}

static void gather_group(Work *w, size_t first, uint8_t *out) {
    const size_t count = smaller(ROWS, w->pixels - first);
    if (w->node->is_tiled) gather_tiles(w, first, count, out);
    else (w->node->has_one_tap ? gather_tap : gather)(w, first, count, out);
}

/* Whether a group is read from the images themselves. */
static int is_ready(const Work *w, size_t first) {
    const Conv *conv = &w->node->conv;
    return w->node->is_product && (first + ROWS - 1) * conv->used + conv->depth <= w->pixels * conv->used;
}

static void gather_chunk(void *argument, size_t index) {
    Work *w = argument;
    const size_t size = size_of_group(w->node);
    if (!is_ready(w, index * ROWS)) gather_group(w, index * ROWS, (uint8_t *)aligned(w->gathered) + index * size);
}

/* Some blocks of channels of a group, from the codes that it reads. */
static void multiply(const Work *w, size_t first, const uint8_t *codes, size_t stride, size_t begin, size_t end) {
    const Node *node = w->node;
    const Kernel *kernel = node->layer.kernel;
    const uint8_t *table = node->layer.passes ? NULL : w->images.table;
    const size_t count = smaller(ROWS, w->pixels - first);
    if (node->is_tiled) {
        Tile tiles[ROWS];
        for (size_t i = 0; i < count; ++i) point_to_tile(&w->images, first + i, tiles + i);
        kernel->winograd(&node->winograd, codes, tiles, count, begin, end, table);
    } else {
        uint8_t *out = w->images.out + first * node->layer.out_channels;
        kernel->conv(&node->conv, codes, stride, count, begin, end, table, out);
    }
}

static const Conv *ends_of(const Node *node) { return node->is_tiled ? &node->winograd.ends : &node->conv; }

static void run_chunk(void *argument, size_t index) {
    Work *w = argument;
    const Node *node = w->node;
    const size_t group = index % w->groups, first = group * ROWS, begin = index / w->groups * w->blocks;
    const size_t end = smaller(begin + w->blocks, ends_of(node)->blocks);
    if (is_ready(w, first)) {
        multiply(w, first, w->images.x + first * node->conv.used, node->conv.used, begin, end);
    } else if (w->gathered) {
        const uint8_t *codes = (uint8_t *)aligned(w->gathered) + group * size_of_group(node);
        multiply(w, first, codes, node->conv.depth, begin, end);
    } else {
        void *memory = malloc(size_of_group(node) + 64);
        if (!memory) {
            w->no_memory = 1;
            return;
        }
        gather_group(w, first, aligned(memory));
        multiply(w, first, aligned(memory), node->conv.depth, begin, end);
        free(memory);
    }
}

/* How many blocks of channels a thread takes at a time: all, or fewer where there are few pixels. */
static size_t blocks_of(const Work *w) {
    const Node *node = w->node;
    const size_t blocks = parts_of(ends_of(node)->blocks, parts_of(CHUNKS, w->groups));
    const size_t products = node->is_tiled ? PLACES * node->winograd.products.depth : node->conv.depth; /* of a channel */
    const size_t least = PRODUCTS / (smaller(ROWS, w->pixels) * COLUMNS * products) + 1;
    return blocks < least ? least : blocks;
}

Status *conv_compute(void *argument, Context *context) {
    const Node *node = argument;
    Work work = {.node = node};
    Status *status = read_images(&work.images, &node->layer, context);
    const Images *m = &work.images;
    if (!status) {
        const size_t images = m->rows / (size_t)m->size[0];
        work.pixels = node->is_tiled ? images * tiles_of(m) : m->rows * (size_t)m->size[1];
        work.groups = parts_of(work.pixels, ROWS);
    }
    if (work.groups) {
        work.blocks = blocks_of(&work);
        const size_t parts = parts_of(ends_of(node)->blocks, work.blocks);
        if (parts > 1) { /* each part reads what is gathered once */
            work.gathered = malloc(work.groups * size_of_group(node) + 64);
            if (!work.gathered) work.no_memory = 1;
            else status = run_chunks(node->layer.api, context, gather_chunk, work.groups, &work);
        }
        if (!status && !work.no_memory) status = run_chunks(node->layer.api, context, run_chunk, work.groups * parts, &work);
        free(work.gathered);
        if (!status && work.no_memory) status = refuse(node->layer.op, node->layer.api, NULL, "out of memory");
        if (!status && work.no_code) status = refuse(node->layer.op, node->layer.api, NULL, "x has other codes than its geometry says");
    }
    images_release(&work.images);
    return status;
}
