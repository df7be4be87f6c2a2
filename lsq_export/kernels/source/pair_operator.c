/* The operators lsq_export::Product and lsq_export::Sum of ONNX Runtime: those of two tensors of 8-bit codes, whose
 * result goes through a table of 256 entries.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 *
 * Inputs: a and b (both uint8 or both int8), table (as of lsq_export::Lookup), then constants: scale and zero point of a,
 * of b and of the result before the table; any others are ignored. b has the shape of a, or is [N, 1, …, 1, C] or
 * [1, …, 1, C] where a is [N, …, C].
 * Output: of the shape of a and the type of the table. With a table that changes nothing it is QLinearMul or QLinearAdd
 * of ONNX Runtime.
 */
#include "operator.h"
#include "table.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 16384, SEGMENT = 1024 }; /* codes that a thread takes at a time, and at once */

typedef struct Node { /* what is kept of a node of a graph */
    const Operator *op;
    const Api *api;
    const Kernel *kernel;
    int passes; /* whether the table is known to change nothing */
    float b_zero;
    Product product;
    Sum sum;
} Node;

typedef struct Work { /* one call, for all threads */
    const Node *node;
    const uint8_t *table, *a, *b;
    uint8_t *out;
    size_t count;          /* of all codes */
    size_t channels, rows; /* b has `channels` codes for each image, which has so many rows; 0: as many as a */
    size_t step;           /* from those of an image to the next: 0 where all images have the same */
    size_t chunk_rows, chunks; /* of an image */
} Work;

typedef struct Grid {
    Number scale, zero;
} Grid;

static Status *get_grid(const Operator *op, const Api *api, const Info *info, size_t input, Grid *out) {
    Status *status = get_number(op, api, info, input, TYPE_FLOAT, &out->scale);
    if (!status && !(out->scale.value > 0 && out->scale.value <= FLT_MAX)) return refuse(op, api, info, "a scale is not positive");
    return status ? status : get_number(op, api, info, input + 1, op->input, &out->zero);
}

Status *pair_create(const Operator *op, const Api *api, const Info *info, void **out) {
    Grid a = {{0}, {0}}, b = {{0}, {0}}, y = {{0}, {0}};
    int passes = 0;
    Status *status = get_grid(op, api, info, 3, &a);
    if (!status) status = get_grid(op, api, info, 5, &b);
    if (!status) status = get_grid(op, api, info, 7, &y);
    if (!status) status = look_at_table(op, api, info, 2, &passes);
    if (status) return status;
    const Kernel *kernel = choose_kernel();
    if (!kernel) return api->CreateStatus(ERROR_INVALID_ARGUMENT, NO_KERNEL);
    Node *node = malloc(sizeof *node);
    if (!node) return refuse(op, api, info, "out of memory");
    const uint8_t flip = op->input == TYPE_INT8 ? 128 : 0;
    const float low = op->input == TYPE_INT8 ? -128 : 0, high = low + 255, scales = a.scale.value * b.scale.value;
    const float a_ratio = a.scale.value / y.scale.value, b_ratio = b.scale.value / y.scale.value, b_part = b_ratio * b.zero.value;
    *node = (Node){op, api, kernel, passes, b.zero.value + flip,
                   {a.zero.value + flip, scales / y.scale.value, y.zero.value, low, high, flip},
                   {a_ratio, b_ratio, y.zero.value - exact_fma(a_ratio, a.zero.value, b_part), low, high, flip}};
    *out = node;
    return NULL;
}

/* What codes [count] multiply by. */
static void make_factors(const Node *node, const uint8_t *codes, size_t count, float *out) {
    for (size_t i = 0; i < count; ++i) out[i] = (float)(codes[i] ^ node->product.flip) - node->b_zero;
}

/* What the sums of codes [count] and others begin with. */
static void make_inner(const Node *node, const uint8_t *codes, size_t count, float *out) {
    const Sum *s = &node->sum;
    for (size_t i = 0; i < count; ++i)
        out[i] = exact_fma((float)(codes[i] ^ s->flip) - s->flip, s->b_ratio, s->constant);
}

static void apply(const Node *node, const float *numbers, const uint8_t *a, uint8_t *out, size_t count) {
    if (node->op->kind == SUM) node->kernel->shift(&node->sum, numbers, a, out, count);
    else node->kernel->product(&node->product, numbers, a, out, count);
}

/* Rows whose channels are multiplied by the same codes, or added to them. */
static void run_rows(const Work *w, const uint8_t *b, const uint8_t *a, uint8_t *out, size_t rows) {
    const Node *node = w->node;
    void (*const make)(const Node *, const uint8_t *, size_t, float *) = node->op->kind == SUM ? make_inner : make_factors;
    const size_t channels = w->channels, count = rows * channels;
    float numbers[SEGMENT];
    if (channels <= SEGMENT) { /* as many rows at once as there is room for */
        const size_t segment = SEGMENT / channels * channels;
        make(node, b, channels, numbers);
        for (size_t i = channels; i < smaller(segment, count); i += channels)
            memcpy(numbers + i, numbers, channels * sizeof *numbers);
        for (size_t i = 0; i < count; i += segment) apply(node, numbers, a + i, out + i, smaller(segment, count - i));
        return;
    }
    for (size_t c = 0; c < channels; c += SEGMENT) {
        const size_t block = smaller(SEGMENT, channels - c);
        make(node, b + c, block, numbers);
        for (size_t i = c; i < count; i += channels) apply(node, numbers, a + i, out + i, block);
    }
}

static void multiply_codes(const Node *node, const uint8_t *a, const uint8_t *b, uint8_t *out, size_t count) {
    float factors[SEGMENT];
    for (size_t i = 0; i < count; i += SEGMENT) {
        const size_t segment = smaller(SEGMENT, count - i);
        make_factors(node, b + i, segment, factors);
        node->kernel->product(&node->product, factors, a + i, out + i, segment);
    }
}

static void run_chunk(void *argument, size_t index) {
    const Work *w = argument;
    const Node *node = w->node;
    size_t begin = index * CHUNK, count = smaller(CHUNK, w->count - begin);
    if (w->rows) {
        const size_t image = index / w->chunks, row = index % w->chunks * w->chunk_rows;
        const size_t rows = smaller(w->chunk_rows, w->rows - row);
        begin = (image * w->rows + row) * w->channels, count = rows * w->channels;
        const uint8_t *b = w->b + image * w->step;
        run_rows(w, b, w->a + begin, w->out + begin, rows);
    } else if (node->op->kind == SUM) {
        node->kernel->sum(&node->sum, w->a + begin, w->b + begin, w->out + begin, count);
    } else {
        multiply_codes(node, w->a + begin, w->b + begin, w->out + begin, count);
    }
    if (!node->passes) node->kernel->run(w->table, node->product.flip, w->out + begin, w->out + begin, count);
}

/* Fill in how the work is divided. Returns how many chunks there are; 0: shapes that do not fit. */
static size_t divide(Work *w, const Tensor *a, const Tensor *b) {
    w->count = a->count;
    if (a->rank != b->rank) return 0;
    if (!memcmp(a->dims, b->dims, a->rank * sizeof *a->dims)) return (a->count + CHUNK - 1) / CHUNK;
    if (a->rank < 2 || (a->dims[0] != b->dims[0] && b->dims[0] != 1)) return 0;
    const size_t last = a->rank - 1;
    for (size_t axis = 1; axis < last; ++axis)
        if (b->dims[axis] != 1) return 0;
    if (a->dims[last] != b->dims[last]) return 0;
    w->channels = (size_t)a->dims[last];
    w->step = b->dims[0] == 1 ? 0 : w->channels;
    w->rows = a->count / (size_t)a->dims[0] / w->channels; /* none of them is 0 */
    w->chunk_rows = w->channels < CHUNK ? CHUNK / w->channels : 1;
    w->chunks = (w->rows + w->chunk_rows - 1) / w->chunk_rows;
    return (size_t)a->dims[0] * w->chunks;
}

Status *pair_compute(void *argument, Context *context) {
    const Node *node = argument;
    const Api *api = node->api;
    const Value *a = NULL, *b = NULL, *table = NULL;
    Value *entries = NULL;
    void *a_data = NULL, *b_data = NULL, *data = NULL, *out = NULL;
    Tensor a_shape, b_shape;
    Status *status = api->KernelContext_GetInput(context, 0, &a);
    if (!status) status = api->KernelContext_GetInput(context, 1, &b);
    if (!status) status = api->KernelContext_GetInput(context, 2, &table);
    if (!status) status = check_table(node->op, api, NULL, table);
    if (!status) status = get_shape(node->op, api, a, &a_shape);
    if (!status) status = get_shape(node->op, api, b, &b_shape);
    /* ONNX Runtime may place the output where a is. */
    if (!status) status = api->KernelContext_GetOutput(context, 0, a_shape.dims, a_shape.rank, &entries);
    if (status) return status;
    if (a_shape.count == 0 && b_shape.count == 0) return NULL;
    Work work = {.node = node};
    const size_t chunks = a_shape.count && b_shape.count ? divide(&work, &a_shape, &b_shape) : 0;
    if (chunks == 0) return refuse(node->op, api, NULL, "the shapes of a and b do not fit");
    status = api->GetTensorMutableData(a, &a_data);
    if (!status) status = api->GetTensorMutableData(b, &b_data);
    if (!status) status = api->GetTensorMutableData(table, &data);
    if (!status) status = api->GetTensorMutableData(entries, &out);
    if (status) return status;
    work.a = a_data, work.b = b_data, work.table = data, work.out = out;
    return run_chunks(api, context, run_chunk, chunks, &work);
}
