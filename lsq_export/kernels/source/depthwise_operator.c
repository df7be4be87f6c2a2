/* The operator lsq_export::Depthwise of ONNX Runtime: QLinearConv with a group for each channel, channels-last, whose
 * result goes through a table of 256 entries.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 *
 * Inputs: x [N, H, W, C] (uint8 or int8), table (as of lsq_export::Lookup), then constants: geometry (int64: strides of
 * rows and columns, pads at the top, left, bottom and right, dilations of rows and columns), and the other inputs of
 * QLinearConv: x_scale, x_zero, w [C, 1, K, K] (int8), w_scale, w_zero (0), y_scale, y_zero, bias; any others are ignored.
 * Output: [N, H', W', C], of the type of the table.
 */
#include "layer_operator.h"

#include <stdlib.h>

enum { CHUNK = 4096 }; /* codes that a thread takes at a time */

typedef struct Node {
    LayerNode layer;
    Depthwise depthwise;
} Node;

typedef struct Work { /* one call, for all threads */
    const Node *node;
    Images images;
    size_t chunk_rows; /* that a thread takes at a time */
} Work;

void depthwise_destroy(void *argument) {
    Node *node = argument;
    if (!node) return;
    depthwise_free(&node->depthwise);
    free(node);
}

Status *depthwise_create(const Operator *op, const Api *api, const Info *info, void **out) {
    const Kernel *kernel = choose_kernel();
    if (!kernel || !kernel->depthwise) return api->CreateStatus(ERROR_INVALID_ARGUMENT, NO_KERNEL);
    Node *node = calloc(1, sizeof *node);
    if (!node) return refuse(op, api, info, "out of memory");
    Layer layer;
    node->layer.kernel = kernel;
    Status *status = read_layer(&node->layer, op, api, info, &layer);
    if (!status && !depthwise_pack(&node->depthwise, &layer, kernel->interleaved))
        status = refuse(op, api, info, "out of memory");
    if (status) depthwise_destroy(node);
    else *out = node;
    return status;
}

/* A row of the output. Pixels whose taps are all between the left and the right end of the image are computed together,
 * where they are neighbors. */
static void run_row(const Work *w, size_t row, uint8_t *out) {
    const Node *node = w->node;
    const Images *m = &w->images;
    const Geometry *g = &node->layer.geometry;
    const size_t channels = node->depthwise.channels;
    const uint8_t *rows[MAX_TAPS], *taps[MAX_TAPS];
    point_to_rows(m, row, rows);
    for (int64_t column = 0, step; column < m->size[1]; column += step) {
        const int64_t left = left_of(g, column), room = m->in[1] - reach_of(g) + 1 - left;
        step = 1;
        if (g->stride[1] == 1 && is_periodic(&node->depthwise) && left >= 0 && room > 1)
            step = room < m->size[1] - column ? room : m->size[1] - column;
        point_to_taps(m, rows, left, taps);
        node->layer.kernel->depthwise(&node->depthwise, taps, out + (size_t)column * channels, (size_t)step * channels);
    }
}

static void run_chunk(void *argument, size_t index) {
    const Work *w = argument;
    const LayerNode *layer = &w->node->layer;
    const size_t begin = index * w->chunk_rows, rows = smaller(w->chunk_rows, w->images.rows - begin);
    const size_t length = (size_t)w->images.size[1] * layer->out_channels;
    uint8_t *out = w->images.out + begin * length;
    for (size_t row = 0; row < rows; ++row) run_row(w, begin + row, out + row * length);
    if (!layer->passes) layer->kernel->run(w->images.table, w->node->depthwise.flip, out, out, rows * length);
}

Status *depthwise_compute(void *argument, Context *context) {
    const Node *node = argument;
    Work work = {.node = node};
    Status *status = read_images(&work.images, &node->layer, context);
    if (!status) {
        const size_t length = (size_t)work.images.size[1] * node->layer.out_channels;
        work.chunk_rows = length < CHUNK ? CHUNK / length : 1;
        const size_t chunks = (work.images.rows + work.chunk_rows - 1) / work.chunk_rows;
        status = run_chunks(node->layer.api, context, run_chunk, chunks, &work);
    }
    images_release(&work.images);
    return status;
}
