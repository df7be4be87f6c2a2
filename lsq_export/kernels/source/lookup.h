/* What lookup.c does for the table of operators in operators.c.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#ifndef LSQ_EXPORT_LOOKUP_H
#define LSQ_EXPORT_LOOKUP_H

#include "api.h"

/* The version of what operators.c offers and of what the operator does; lsq_export/kernels/library.py asks for it. */
#define LIBRARY_VERSION 1
#define NO_KERNEL "lsq_export: LSQ_EXPORT_KERNEL names no kernel of this library that this processor can run"

typedef struct Operator { /* one name with one pair of element types */
    CustomOp op;          /* first, so that its address is that of the whole */
    const char *name;
    int input, output;
} Operator;

/* Make, run and free what is kept for a node. A status that is not NULL is an error. */
Status *lookup_create(const Operator *op, const Api *api, const Info *info, void **out);
Status *lookup_compute(void *node, Context *context);
void lookup_destroy(void *node);

#endif
