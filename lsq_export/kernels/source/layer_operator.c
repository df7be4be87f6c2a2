/* What the operators Depthwise and Conv share: the constants of a layer, and images.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#include "layer_operator.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

enum { GEOMETRY = 2, X_GRID = 3, WEIGHTS = 5, W_SCALE = 6, W_ZERO = 7, Y_GRID = 8, BIAS = 10 };
enum { PLANES = 1 };

static int is_small(int64_t x) { return x >= 0 && x <= 4096; }

static Status *read_geometry(LayerNode *node, const Info *info) {
    const void *data = NULL;
    Tensor shape;
    Status *status = get_constant(node->op, node->api, info, GEOMETRY, TYPE_INT64, &shape, &data);
    if (status) return status;
    const int64_t *g = data;
    if (shape.count != 8 && !(shape.count == 9 && g[8] == PLANES) && !(shape.count == 12 && g[8] == 0))
        return refuse(node->op, node->api, info, "the geometry has 8 numbers");
    node->planes = shape.count == 9;
    if (shape.count == 12) {
        const int is_signed = node->op->input == TYPE_INT8;
        const int64_t low = is_signed ? -128 : 0, end = g[9] + g[10] * (g[11] - 1);
        if (g[9] < low || !is_small(g[10]) || !is_small(g[11]) || g[10] == 0 || g[11] == 0 || end > low + 255)
            return refuse(node->op, node->api, info, "the codes of x cannot be");
        node->codes = (Codes){(int32_t)g[9], (int32_t)g[10], (int32_t)g[11]};
    }
    node->geometry = (Geometry){{g[0], g[1]}, {g[2], g[3]}, {g[4], g[5]}, {g[6], g[7]}, {0, 0}};
    for (int i = 0; i < 8; ++i)
        if (!is_small(g[i]) || ((i < 2 || i > 5) && g[i] == 0))
            return refuse(node->op, node->api, info, "the geometry cannot be");
    return NULL;
}

/* Weights, their scales and bias, whose numbers have to fit. */
static Status *read_weights(LayerNode *node, const Info *info, Layer *layer) {
    const Operator *op = node->op;
    const Api *api = node->api;
    const int is_depthwise = op->kind == DEPTHWISE;
    const void *data[4] = {NULL};
    Tensor shape, scales, bias, zeros;
    Status *status = get_constant(op, api, info, WEIGHTS, TYPE_INT8, &shape, &data[0]);
    if (!status) status = get_constant(op, api, info, W_SCALE, TYPE_FLOAT, &scales, &data[1]);
    if (!status) status = get_constant(op, api, info, W_ZERO, TYPE_INT8, &zeros, &data[2]);
    if (!status) status = get_constant(op, api, info, BIAS, TYPE_INT32, &bias, &data[3]);
    if (status) return status;
    if (shape.rank != 4 || (is_depthwise && shape.dims[1] != 1) || shape.count == 0 ||
        shape.dims[2] * shape.dims[3] >= MAX_TAPS)
        return refuse(op, api, info, is_depthwise ? "weights are [C, 1, K, K], with fewer than 1024 taps"
                                                  : "weights are [M, C, K, K], with fewer than 1024 taps");
    if (bias.count != (size_t)shape.dims[0] || (scales.count != 1 && scales.count != bias.count))
        return refuse(op, api, info, "bias and scales have one number for each channel");
    for (size_t i = 0; i < zeros.count; ++i)
        if (((const int8_t *)data[2])[i]) return refuse(op, api, info, "weights have the zero point 0");
    for (int i = 0; i < 2; ++i) node->geometry.kernel[i] = shape.dims[2 + i];
    node->out_channels = bias.count, node->in_channels = is_depthwise ? bias.count : (size_t)shape.dims[1];
    *layer = (Layer){.weights = data[0], .scales = data[1], .bias = data[3], .channels = bias.count,
                     .inputs = (size_t)shape.dims[1], .taps = (size_t)(shape.dims[2] * shape.dims[3]),
                     .scale_count = scales.count};
    return NULL;
}

Status *read_layer(LayerNode *node, const Operator *op, const Api *api, const Info *info, Layer *layer) {
    Number x_scale = {0}, x_zero = {0}, y_scale = {0}, y_zero = {0};
    node->op = op, node->api = api;
    Status *status = look_at_table(op, api, info, 1, &node->passes);
    if (!status) status = read_geometry(node, info);
    if (!status) status = read_weights(node, info, layer);
    if (!status) status = get_number(op, api, info, X_GRID, TYPE_FLOAT, &x_scale);
    if (!status) status = get_number(op, api, info, X_GRID + 1, op->input, &x_zero);
    if (!status) status = get_number(op, api, info, Y_GRID, TYPE_FLOAT, &y_scale);
    if (!status) status = get_number(op, api, info, Y_GRID + 1, op->input, &y_zero);
    if (status) return status;
    if (!(y_scale.value > 0 && y_scale.value <= FLT_MAX)) return refuse(op, api, info, "a scale is not positive");
    node->outside = (uint8_t)(int)x_zero.value;
    layer->x_scale = x_scale.value, layer->y_scale = y_scale.value;
    layer->x_zero = (int32_t)x_zero.value, layer->y_zero = (int32_t)y_zero.value;
    layer->is_signed = op->input == TYPE_INT8, layer->neighbors = node->geometry.stride[1] == 1;
    return NULL;
}

/* [N, C, H, W] -> [N, H, W, C]. */
static void interleave(const uint8_t *x, size_t images, size_t channels, size_t pixels, uint8_t *out) {
    for (size_t image = 0; image < images; ++image, x += channels * pixels, out += channels * pixels) {
        if (channels == 3) /* so that compilers know */
            for (size_t i = 0; i < pixels; ++i)
                out[3 * i] = x[i], out[3 * i + 1] = x[pixels + i], out[3 * i + 2] = x[2 * pixels + i];
        else
            for (size_t i = 0; i < pixels; ++i)
                for (size_t c = 0; c < channels; ++c) out[channels * i + c] = x[pixels * c + i];
    }
}

Status *read_images(Images *images, const LayerNode *node, Context *context) {
    const Api *api = node->api;
    const Geometry *g = &node->geometry;
    const Value *x = NULL, *table = NULL;
    Value *entries = NULL;
    void *in = NULL, *data = NULL, *out = NULL;
    Tensor shape;
    *images = (Images){.node = node};
    Status *status = api->KernelContext_GetInput(context, 0, &x);
    if (!status) status = api->KernelContext_GetInput(context, 1, &table);
    if (!status) status = check_table(node->op, api, NULL, table);
    if (!status) status = get_shape(node->op, api, x, &shape);
    if (status) return status;
    if (node->planes && shape.rank == 4) {
        const int64_t channels = shape.dims[1];
        shape.dims[1] = shape.dims[2], shape.dims[2] = shape.dims[3], shape.dims[3] = channels;
    }
    if (shape.rank != 4 || (size_t)shape.dims[3] != node->in_channels)
        return refuse(node->op, api, NULL, node->planes ? "x is not [N, C, H, W] with the channels of the weights"
                                                        : "x is not [N, H, W, C] with the channels of the weights");
    for (int i = 0; i < 2; ++i) {
        const int64_t room = shape.dims[1 + i] + g->begin[i] + g->end[i] - (g->kernel[i] - 1) * g->dilation[i] - 1;
        if (room < 0) return refuse(node->op, api, NULL, "the images are smaller than the kernel");
        images->in[i] = shape.dims[1 + i], images->size[i] = room / g->stride[i] + 1;
        shape.dims[1 + i] = images->size[i];
    }
    shape.dims[3] = (int64_t)node->out_channels;
    status = api->KernelContext_GetOutput(context, 0, shape.dims, shape.rank, &entries);
    if (!status) status = api->GetTensorMutableData(x, &in);
    if (!status) status = api->GetTensorMutableData(table, &data);
    if (!status) status = api->GetTensorMutableData(entries, &out);
    if (status) return status;
    const size_t row = (size_t)images->in[1] * node->in_channels;
    images->x = in, images->table = data, images->out = out, images->rows = (size_t)(shape.dims[0] * shape.dims[1]);
    images->border = malloc(row + 1);
    if (!images->border) return refuse(node->op, api, NULL, "out of memory");
    memset(images->border, node->outside, row);
    if (!node->planes) return NULL;
    images->pixels = malloc(shape.count + 1);
    if (!images->pixels) return refuse(node->op, api, NULL, "out of memory");
    const size_t pixels = (size_t)(images->in[0] * images->in[1]);
    interleave(in, (size_t)shape.dims[0], node->in_channels, pixels, images->pixels);
    images->x = images->pixels;
    return NULL;
}

void images_release(Images *images) { free(images->border), free(images->pixels); }

void point_to_rows(const Images *m, size_t row, const uint8_t **rows) {
    const Geometry *g = &m->node->geometry;
    const size_t height = (size_t)m->size[0], width = (size_t)m->in[1] * m->node->in_channels;
    const int64_t top = (int64_t)(row % height) * g->stride[0] - g->begin[0];
    const uint8_t *image = m->x + row / height * (size_t)m->in[0] * width;
    for (int64_t i = 0; i < g->kernel[0]; ++i) {
        const int64_t y = top + i * g->dilation[0];
        rows[i] = y >= 0 && y < m->in[0] ? image + (size_t)y * width : m->border;
    }
}

void point_to_taps(const Images *m, const uint8_t *const *rows, int64_t left, const uint8_t **taps) {
    const Geometry *g = &m->node->geometry;
    for (int64_t i = 0; i < g->kernel[0]; ++i)
        for (int64_t j = 0; j < g->kernel[1]; ++j) {
            const int64_t x = left + j * g->dilation[1];
            *taps++ = x >= 0 && x < m->in[1] ? rows[i] + (size_t)x * m->node->in_channels : m->border;
        }
}

typedef struct Corner { /* of a tile: the image, and the upper left pixel of the result */
    size_t image;
    int64_t row, column;
} Corner;

static Corner corner_of(const Images *m, size_t number) {
    const size_t place = number % tiles_of(m), across = (size_t)(m->size[1] + 1) / SIDE;
    return (Corner){number / tiles_of(m), (int64_t)(place / across) * SIDE, (int64_t)(place % across) * SIDE};
}

void point_to_pixels(const Images *m, size_t number, const uint8_t **x) {
    const Geometry *g = &m->node->geometry;
    const size_t channels = m->node->in_channels;
    const Corner corner = corner_of(m, number);
    const int64_t top = corner.row - g->begin[0], left = corner.column - g->begin[1];
    const uint8_t *image = m->x + corner.image * (size_t)(m->in[0] * m->in[1]) * channels;
    for (int64_t i = 0; i < PATCH; ++i)
        for (int64_t j = 0; j < PATCH; ++j) {
            const int64_t row = top + i, column = left + j;
            const int inside = row >= 0 && row < m->in[0] && column >= 0 && column < m->in[1];
            *x++ = inside ? image + (size_t)(row * m->in[1] + column) * channels : m->border;
        }
}

void point_to_tile(const Images *m, size_t number, Tile *tile) {
    const Geometry *g = &m->node->geometry;
    const size_t channels = m->node->out_channels;
    const Corner corner = corner_of(m, number);
    const int64_t top = corner.row - g->begin[0], left = corner.column - g->begin[1];
    uint8_t *image = m->out + corner.image * (size_t)(m->size[0] * m->size[1]) * channels;
    tile->columns = corner.column + 1 < m->size[1] ? 2 : 1;
    for (int64_t i = 0; i < SIDE; ++i) {
        const int64_t row = corner.row + i, above = top + i, below = above + 2;
        tile->out[i] = row < m->size[0] ? image + (size_t)(row * m->size[1] + corner.column) * channels : NULL;
        for (int64_t j = 0; j < SIDE; ++j)
            tile->borders[i][j] = border_of(above < 0, below >= m->in[0], left + j < 0, left + j + 2 >= m->in[1]);
    }
}
