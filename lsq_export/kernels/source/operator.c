/* What the operators share: errors, tables and shapes.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#include "operator.h"

#include <stdio.h>

static const char *const KINDS[] = {"Lookup", "Product", "Sum", "Depthwise", "Conv"};

Status *refuse(const Operator *op, const Api *api, const Info *info, const char *what) {
    char name[LONGEST_NAME] = "", message[LONGEST_NAME + 160];
    size_t size = sizeof name;
    Status *unnamed = info ? api->KernelInfo_GetNodeName(info, name, &size) : NULL; /* an error where it is longer */
    if (unnamed) api->ReleaseStatus(unnamed);
    snprintf(message, sizeof message, "lsq_export::%s%s%s: %s", KINDS[op->kind], *name ? " " : "", name, what);
    return api->CreateStatus(ERROR_INVALID_ARGUMENT, message);
}

Status *check_table(const Operator *op, const Api *api, const Info *info, const Value *table) {
    Shape *shape = NULL;
    size_t entries = 0;
    char what[96];
    Status *status = api->GetTensorTypeAndShape(table, &shape);
    if (status) return status;
    status = api->GetTensorShapeElementCount(shape, &entries);
    api->ReleaseTensorTypeAndShapeInfo(shape);
    if (status || entries == ENTRIES) return status;
    snprintf(what, sizeof what, "the table has %zu entries: it needs 256", entries);
    return refuse(op, api, info, what);
}

Status *get_shape(const Operator *op, const Api *api, const Value *codes, Tensor *out) {
    Shape *shape = NULL;
    Status *status = api->GetTensorTypeAndShape(codes, &shape);
    if (status) return status;
    status = api->GetTensorShapeElementCount(shape, &out->count);
    if (!status) status = api->GetDimensionsCount(shape, &out->rank);
    if (!status && out->rank > MAX_DIMENSIONS) status = refuse(op, api, NULL, "codes have at most 32 dimensions");
    if (!status) status = api->GetDimensions(shape, out->dims, out->rank);
    api->ReleaseTensorTypeAndShapeInfo(shape);
    return status;
}

Status *look_at_table(const Operator *op, const Api *api, const Info *info, size_t input, int *passes) {
    const Value *table = NULL;
    int constant = 0;
    void *data = NULL;
    Status *status = api->KernelInfoGetConstantInput_tensor(info, input, &constant, &table);
    *passes = 0;
    if (status || !constant) return status;
    status = check_table(op, api, info, table);
    if (!status) status = api->GetTensorMutableData(table, &data);
    if (status) return status;
    const uint8_t flip = op->input == TYPE_INT8 ? 128 : 0;
    *passes = op->input == op->output;
    for (int i = 0; i < ENTRIES; ++i) *passes &= ((const uint8_t *)data)[i] == (uint8_t)(i ^ flip);
    return NULL;
}

Status *get_constant(const Operator *op, const Api *api, const Info *info, size_t input, int type, Tensor *out,
                     const void **data) {
    const Value *value = NULL;
    Shape *shape = NULL;
    int constant = 0, found = 0;
    void *content = NULL;
    Status *status = api->KernelInfoGetConstantInput_tensor(info, input, &constant, &value);
    if (status) return status;
    if (!constant) return refuse(op, api, info, "all but its codes and its table have to be constants");
    status = get_shape(op, api, value, out);
    if (!status) status = api->GetTensorTypeAndShape(value, &shape);
    if (status) return status;
    status = api->GetTensorElementType(shape, &found);
    api->ReleaseTensorTypeAndShapeInfo(shape);
    if (!status) status = api->GetTensorMutableData(value, &content);
    *data = content;
    return status || found == type ? status : refuse(op, api, info, "a constant has another type");
}

Status *get_number(const Operator *op, const Api *api, const Info *info, size_t input, int type, Number *out) {
    Tensor shape;
    const void *data = NULL;
    Status *status = get_constant(op, api, info, input, type, &shape, &data);
    if (status) return status;
    if (shape.count != 1) return refuse(op, api, info, "a scale or zero point is one number");
    out->value = type == TYPE_FLOAT ? *(const float *)data
                 : type == TYPE_INT8 ? *(const int8_t *)data : *(const uint8_t *)data;
    return NULL;
}

Status *run_chunks(const Api *api, Context *context, void (*run)(void *, size_t), size_t chunks, void *work) {
    /* each chunk for itself: in as many batches as threads, one would wait for the other where chunks differ */
    if (chunks > 2) return api->KernelContext_ParallelFor(context, run, chunks, chunks, work);
    for (size_t i = 0; i < chunks; ++i) run(work, i);
    return NULL;
}
