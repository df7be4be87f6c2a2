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
#include "operator.h"
#include "table.h"

#include <stdlib.h>

typedef struct Node { /* what is kept of a node of a graph */
    const Operator *op;
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

Status *lookup_create(const Operator *op, const Api *api, const Info *info, void **out) {
    const Value *table = NULL;
    int constant = 0;
    Status *status = api->KernelInfoGetConstantInput_tensor(info, 1, &constant, &table);
    if (!status && constant) status = check_table(op, api, info, table);
    if (status) return status;
    const Kernel *kernel = choose_kernel();
    if (!kernel) return api->CreateStatus(ERROR_INVALID_ARGUMENT, NO_KERNEL);
    Node *node = malloc(sizeof *node);
    if (!node) return refuse(op, api, info, "out of memory");
    *node = (Node){op, api, kernel, op->input == TYPE_INT8 ? 128 : 0};
    *out = node;
    return NULL;
}

/* Look up chunk number `index`; the last one is shorter. */
static void run_chunk(void *argument, size_t index) {
    const Work *w = argument;
    const Kernel *kernel = w->node->kernel;
    const size_t begin = index * kernel->chunk, count = smaller(kernel->chunk, w->count - begin);
    kernel->run(w->table, w->node->flip, w->in + begin, w->out + begin, count);
}

Status *lookup_compute(void *argument, Context *context) {
    const Node *node = argument;
    const Api *api = node->api;
    const Value *codes = NULL, *table = NULL;
    Value *entries = NULL;
    void *in = NULL, *out = NULL, *data = NULL;
    Tensor shape;
    Status *status = api->KernelContext_GetInput(context, 0, &codes);
    if (!status) status = api->KernelContext_GetInput(context, 1, &table);
    if (!status) status = check_table(node->op, api, NULL, table);
    if (!status) status = get_shape(node->op, api, codes, &shape);
    /* ONNX Runtime may place the output where the codes are. */
    if (!status) status = api->KernelContext_GetOutput(context, 0, shape.dims, shape.rank, &entries);
    if (status || shape.count == 0) return status;
    status = api->GetTensorMutableData(codes, &in);
    if (!status) status = api->GetTensorMutableData(table, &data);
    if (!status) status = api->GetTensorMutableData(entries, &out);
    if (status) return status;
    Work work = {node, data, in, out, shape.count};
    const size_t chunk = node->kernel->chunk;
    return run_chunks(api, context, run_chunk, (shape.count + chunk - 1) / chunk, &work);
}
