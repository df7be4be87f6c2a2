/* The operator lsq_export::Lookup of ONNX Runtime: every 8-bit code becomes an entry of a table of 256.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 *
 * Inputs: codes (uint8 or int8, any shape), table (256 entries, uint8 or int8), and any others, which are ignored: they
 * are for the model's own function of the operator's name, which runs where this library is not loaded.
 * Output: the entries, of the shape of the codes and the type of the table. The entry of an unsigned code is at the
 * code, that of a signed one at the code + 128.
 *
 * The names Lookup0 … Lookup63 (operators.c) have one kernel: a model has one function for each name.
 */
#include "lookup.h"
#include "table.h"

#include <stdio.h>
#include <stdlib.h>

enum { ENTRIES = 256, MAX_DIMENSIONS = 32, LONGEST_NAME = 256 };

typedef struct Node { /* what is kept of a node of a graph */
    const Api *api;
    const Kernel *kernel;
    uint8_t flip;
} Node;

typedef struct Work { /* one call, for all threads */
    const Node *node;
    const uint8_t *table, *in;
    uint8_t *out;
    size_t count;
} Work;

/* NULL, or an error where `table` has not 256 entries. `node`: its name, for the message. */
static Status *check_table(const Api *api, const Value *table, const char *node) {
    Shape *shape = NULL;
    size_t entries = 0;
    char message[LONGEST_NAME + 96];
    Status *status = api->GetTensorTypeAndShape(table, &shape);
    if (status) return status;
    status = api->GetTensorShapeElementCount(shape, &entries);
    api->ReleaseTensorTypeAndShapeInfo(shape);
    if (status || entries == ENTRIES) return status;
    snprintf(message, sizeof message, "lsq_export::Lookup%s%s: the table has %zu entries: it needs 256",
             *node ? " " : "", node, entries);
    return api->CreateStatus(ERROR_INVALID_ARGUMENT, message);
}

Status *lookup_create(const Operator *op, const Api *api, const Info *info, void **out) {
    const Value *table = NULL;
    int constant = 0;
    Status *status = api->KernelInfoGetConstantInput_tensor(info, 1, &constant, &table);
    if (!status && constant) {
        char name[LONGEST_NAME] = "";
        size_t size = sizeof name;
        Status *unnamed = api->KernelInfo_GetNodeName(info, name, &size); /* an error where it is longer */
        if (unnamed) api->ReleaseStatus(unnamed);
        status = check_table(api, table, name);
    }
    if (status) return status;
    const Kernel *kernel = choose_kernel();
    if (!kernel) return api->CreateStatus(ERROR_INVALID_ARGUMENT, NO_KERNEL);
    Node *node = malloc(sizeof *node);
    if (!node) return api->CreateStatus(ERROR_FAIL, "lsq_export::Lookup: out of memory");
    *node = (Node){api, kernel, op->input == TYPE_INT8 ? 128 : 0};
    *out = node;
    return NULL;
}

void lookup_destroy(void *node) { free(node); }

/* Look up chunk number `index`; the last one is shorter. */
static void run_chunk(void *argument, size_t index) {
    const Work *w = argument;
    const Kernel *kernel = w->node->kernel;
    const size_t begin = index * kernel->chunk, left = w->count - begin;
    kernel->run(w->table, w->node->flip, w->in + begin, w->out + begin, left < kernel->chunk ? left : kernel->chunk);
}

/* A new output of the shape of `codes`, which ONNX Runtime may have placed where the codes are. */
static Status *make_output(const Api *api, Context *context, const Value *codes, size_t *count, Value **out) {
    Shape *shape = NULL;
    int64_t dims[MAX_DIMENSIONS];
    size_t rank = 0;
    Status *status = api->GetTensorTypeAndShape(codes, &shape);
    if (status) return status;
    status = api->GetTensorShapeElementCount(shape, count);
    if (!status) status = api->GetDimensionsCount(shape, &rank);
    if (!status && rank > MAX_DIMENSIONS)
        status = api->CreateStatus(ERROR_INVALID_ARGUMENT, "lsq_export::Lookup: codes have at most 32 dimensions");
    if (!status) status = api->GetDimensions(shape, dims, rank);
    api->ReleaseTensorTypeAndShapeInfo(shape);
    return status ? status : api->KernelContext_GetOutput(context, 0, dims, rank, out);
}

Status *lookup_compute(void *argument, Context *context) {
    const Node *node = argument;
    const Api *api = node->api;
    const Value *codes = NULL, *table = NULL;
    Value *entries = NULL;
    void *in = NULL, *out = NULL, *data = NULL;
    size_t count = 0;
    Status *status = api->KernelContext_GetInput(context, 0, &codes);
    if (!status) status = api->KernelContext_GetInput(context, 1, &table);
    if (!status) status = check_table(api, table, ""); /* ONNX Runtime adds the name */
    if (!status) status = make_output(api, context, codes, &count, &entries);
    if (status || count == 0) return status;
    status = api->GetTensorMutableData(codes, &in);
    if (!status) status = api->GetTensorMutableData(table, &data);
    if (!status) status = api->GetTensorMutableData(entries, &out);
    if (status) return status;
    Work work = {node, data, in, out, count};
    const size_t chunk = node->kernel->chunk;
    if (count > 2 * chunk)
        return api->KernelContext_ParallelFor(context, run_chunk, (count + chunk - 1) / chunk, 0, &work);
    node->kernel->run(data, node->flip, in, out, count);
    return NULL;
}
