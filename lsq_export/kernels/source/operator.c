/* What the operators share: errors, tables and shapes.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#include "operator.h"

#include <stdio.h>

static const char *const KINDS[] = {"Lookup", "Product", "Sum"};

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
