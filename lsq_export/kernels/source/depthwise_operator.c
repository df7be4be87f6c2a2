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
#include "operator.h"
#include "table.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

enum { GEOMETRY = 2, X_GRID = 3, WEIGHTS = 5, W_SCALE = 6, W_ZERO = 7, Y_GRID = 8, BIAS = 10 };
enum { MAX_TAPS = 1024, CHUNK = 16384 };

typedef struct Geometry {
    int64_t stride[2], begin[2], end[2], dilation[2], kernel[2];
} Geometry;

typedef struct Node { /* what is kept of a node of a graph */
    const Operator *op;
    const Api *api;
    const Kernel *kernel;
    int passes; /* whether the table is known to change nothing */
    Geometry geometry;
    Depthwise depthwise;
    uint8_t x_zero;
} Node;

typedef struct Work { /* one call, for all threads */
    const Node *node;
    const uint8_t *table, *x, *border; /* codes of zero, for a row of the image */
    uint8_t *out;
    int64_t in[2], size[2];   /* rows and columns */
    size_t rows, chunk_rows;  /* of all images, and that a thread takes at a time */
} Work;

void depthwise_destroy(void *argument) {
    Node *node = argument;
    if (!node) return;
    depthwise_free(&node->depthwise);
    free(node);
}

static int is_small(int64_t x) { return x >= 0 && x <= 4096; }

/* The geometry of the node, and its layer. */
static Status *read_constants(Node *node, const Info *info, Layer *layer) {
    const Operator *op = node->op;
    const Api *api = node->api;
    Tensor shape, scales, bias, zeros;
    Number x_scale = {0}, x_zero = {0}, y_scale = {0}, y_zero = {0};
    const void *geometry = NULL, *data[4] = {NULL};
    Status *status = get_constant(op, api, info, GEOMETRY, TYPE_INT64, &shape, &geometry);
    if (!status && shape.count != 8) return refuse(op, api, info, "the geometry has 8 numbers");
    if (!status) status = get_constant(op, api, info, WEIGHTS, TYPE_INT8, &shape, &data[0]);
    if (!status) status = get_constant(op, api, info, W_SCALE, TYPE_FLOAT, &scales, &data[1]);
    if (!status) status = get_constant(op, api, info, W_ZERO, TYPE_INT8, &zeros, &data[2]);
    if (!status) status = get_constant(op, api, info, BIAS, TYPE_INT32, &bias, &data[3]);
    if (!status) status = get_number(op, api, info, X_GRID, TYPE_FLOAT, &x_scale);
    if (!status) status = get_number(op, api, info, X_GRID + 1, op->input, &x_zero);
    if (!status) status = get_number(op, api, info, Y_GRID, TYPE_FLOAT, &y_scale);
    if (!status) status = get_number(op, api, info, Y_GRID + 1, op->input, &y_zero);
    if (status) return status;
    if (!(y_scale.value > 0 && y_scale.value <= FLT_MAX)) return refuse(op, api, info, "a scale is not positive");
    const int64_t *g = geometry;
    node->geometry = (Geometry){{g[0], g[1]}, {g[2], g[3]}, {g[4], g[5]}, {g[6], g[7]}, {0, 0}};
    for (int i = 0; i < 8; ++i)
        if (!is_small(g[i]) || ((i < 2 || i > 5) && g[i] == 0)) return refuse(op, api, info, "the geometry cannot be");
    if (shape.rank != 4 || shape.dims[1] != 1 || shape.count == 0 || shape.dims[2] * shape.dims[3] >= MAX_TAPS)
        return refuse(op, api, info, "weights are [C, 1, K, K], with fewer than 1024 taps");
    node->geometry.kernel[0] = shape.dims[2], node->geometry.kernel[1] = shape.dims[3];
    node->x_zero = (uint8_t)(int)x_zero.value;
    if (bias.count != (size_t)shape.dims[0] || (scales.count != 1 && scales.count != bias.count))
        return refuse(op, api, info, "bias and scales have one number for each channel");
    for (size_t i = 0; i < zeros.count; ++i)
        if (((const int8_t *)data[2])[i]) return refuse(op, api, info, "weights have the zero point 0");
    *layer = (Layer){data[0], data[1], data[3], bias.count, (size_t)(shape.dims[2] * shape.dims[3]), scales.count,
                     x_scale.value, y_scale.value, (int32_t)x_zero.value, (int32_t)y_zero.value,
                     op->input == TYPE_INT8, g[1] == 1};
    return NULL;
}

Status *depthwise_create(const Operator *op, const Api *api, const Info *info, void **out) {
    const Kernel *kernel = choose_kernel();
    if (!kernel || !kernel->depthwise) return api->CreateStatus(ERROR_INVALID_ARGUMENT, NO_KERNEL);
    Node *node = calloc(1, sizeof *node);
    if (!node) return refuse(op, api, info, "out of memory");
    Layer layer;
    node->op = op, node->api = api, node->kernel = kernel;
    Status *status = look_at_table(op, api, info, 1, &node->passes);
    if (!status) status = read_constants(node, info, &layer);
    if (!status && !depthwise_pack(&node->depthwise, &layer, kernel->interleaved))
        status = refuse(op, api, info, "out of memory");
    if (status) depthwise_destroy(node);
    else *out = node;
    return status;
}

/* Where the taps of a pixel begin. Rows outside of the image are the border. */
static void point(const Work *w, const uint8_t *const *rows, int64_t left, const uint8_t **out) {
    const Geometry *g = &w->node->geometry;
    for (int64_t i = 0; i < g->kernel[0]; ++i)
        for (int64_t j = 0; j < g->kernel[1]; ++j) {
            const int64_t x = left + j * g->dilation[1];
            *out++ = x >= 0 && x < w->in[1] ? rows[i] + (size_t)x * w->node->depthwise.channels : w->border;
        }
}

/* A row of the output. Pixels whose taps are all between the left and the right end of the image are computed together,
 * where they are neighbors. */
static void run_row(const Work *w, size_t row, uint8_t *out) {
    const Node *node = w->node;
    const Geometry *g = &node->geometry;
    const size_t channels = node->depthwise.channels;
    const int64_t top = (int64_t)(row % (size_t)w->size[0]) * g->stride[0] - g->begin[0];
    const int64_t reach = (g->kernel[1] - 1) * g->dilation[1];
    const uint8_t *image = w->x + row / (size_t)w->size[0] * (size_t)(w->in[0] * w->in[1]) * channels;
    const uint8_t *rows[MAX_TAPS], *taps[MAX_TAPS];
    for (int64_t i = 0; i < g->kernel[0]; ++i) {
        const int64_t y = top + i * g->dilation[0];
        rows[i] = y >= 0 && y < w->in[0] ? image + (size_t)(y * w->in[1]) * channels : w->border;
    }
    for (int64_t column = 0, step; column < w->size[1]; column += step) {
        const int64_t left = column * g->stride[1] - g->begin[1], room = w->in[1] - reach - left;
        step = 1;
        if (g->stride[1] == 1 && is_periodic(&node->depthwise) && left >= 0 && room > 1) step = room < w->size[1] - column ? room : w->size[1] - column;
        point(w, rows, left, taps);
        node->kernel->depthwise(&node->depthwise, taps, out + (size_t)column * channels, (size_t)step * channels);
    }
}

static void run_chunk(void *argument, size_t index) {
    const Work *w = argument;
    const size_t begin = index * w->chunk_rows, left = w->rows - begin;
    const size_t rows = left < w->chunk_rows ? left : w->chunk_rows;
    const size_t length = (size_t)w->size[1] * w->node->depthwise.channels;
    uint8_t *out = w->out + begin * length;
    for (size_t row = 0; row < rows; ++row) run_row(w, begin + row, out + row * length);
    if (!w->node->passes) w->node->kernel->run(w->table, w->node->depthwise.flip, out, out, rows * length);
}

Status *depthwise_compute(void *argument, Context *context) {
    const Node *node = argument;
    const Api *api = node->api;
    const Geometry *g = &node->geometry;
    const Value *x = NULL, *table = NULL;
    Value *entries = NULL;
    void *in = NULL, *data = NULL, *out = NULL;
    Tensor shape;
    Work work = {.node = node};
    Status *status = api->KernelContext_GetInput(context, 0, &x);
    if (!status) status = api->KernelContext_GetInput(context, 1, &table);
    if (!status) status = check_table(node->op, api, NULL, table);
    if (!status) status = get_shape(node->op, api, x, &shape);
    if (status) return status;
    if (shape.rank != 4 || (size_t)shape.dims[3] != node->depthwise.channels)
        return refuse(node->op, api, NULL, "x is not [N, H, W, C] with the channels of the weights");
    for (int i = 0; i < 2; ++i) {
        const int64_t room = shape.dims[1 + i] + g->begin[i] + g->end[i] - (g->kernel[i] - 1) * g->dilation[i] - 1;
        if (room < 0) return refuse(node->op, api, NULL, "the images are smaller than the kernel");
        work.in[i] = shape.dims[1 + i], work.size[i] = room / g->stride[i] + 1;
        shape.dims[1 + i] = work.size[i];
    }
    status = api->KernelContext_GetOutput(context, 0, shape.dims, shape.rank, &entries);
    if (!status) status = api->GetTensorMutableData(x, &in);
    if (!status) status = api->GetTensorMutableData(table, &data);
    if (!status) status = api->GetTensorMutableData(entries, &out);
    if (status) return status;
    work.x = in, work.table = data, work.out = out;
    work.rows = (size_t)(shape.dims[0] * work.size[0]);
    const size_t length = (size_t)work.size[1] * node->depthwise.channels;
    work.chunk_rows = length < CHUNK ? CHUNK / length : 1;
    const size_t chunks = (work.rows + work.chunk_rows - 1) / work.chunk_rows;
    uint8_t *border = malloc((size_t)work.in[1] * node->depthwise.channels);
    if (!border) return refuse(node->op, api, NULL, "out of memory");
    memset(border, node->x_zero, (size_t)work.in[1] * node->depthwise.channels);
    work.border = border;
    status = run_chunks(api, context, run_chunk, chunks, &work);
    free(border);
    return status;
}
