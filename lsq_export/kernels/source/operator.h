/* What the operators share, and what lookup.c, pair_operator.c, depthwise_operator.c and
 * conv_operator.c do for the table of operators in operators.c.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#ifndef LSQ_EXPORT_OPERATOR_H
#define LSQ_EXPORT_OPERATOR_H

#include "api.h"

/* The version of what operators.c offers and of what the operators do; lsq_export/kernels/library.py asks for it. */
#define LIBRARY_VERSION 4
#define NO_KERNEL "lsq_export: LSQ_EXPORT_KERNEL names no kernel of this library that this processor can run"

enum { ENTRIES = 256, MAX_DIMENSIONS = 32, LONGEST_NAME = 256 };

typedef enum Kind { LOOKUP, PRODUCT, SUM, DEPTHWISE, CONV } Kind;

typedef struct Operator { /* one name with one pair of element types */
    CustomOp op;          /* first, so that its address is that of the whole */
    const char *name;
    Kind kind;
    int input, output; /* element types */
} Operator;

typedef struct Tensor {
    int64_t dims[MAX_DIMENSIONS];
    size_t rank, count;
} Tensor;

typedef struct Number { /* a scale, or a zero point */
    float value;
} Number;

/* Make, run and free what is kept for a node. A status that is not NULL is an error. */
Status *lookup_create(const Operator *op, const Api *api, const Info *info, void **out);
Status *lookup_compute(void *node, Context *context);
Status *pair_create(const Operator *op, const Api *api, const Info *info, void **out);
Status *pair_compute(void *node, Context *context);
Status *depthwise_create(const Operator *op, const Api *api, const Info *info, void **out);
Status *depthwise_compute(void *node, Context *context);
void depthwise_destroy(void *node);
Status *conv_create(const Operator *op, const Api *api, const Info *info, void **out);
Status *conv_compute(void *node, Context *context);
void conv_destroy(void *node);

/* "lsq_export::Lookup NODE: what", as an error. `info`: for the name of the node; NULL: none, ONNX Runtime adds it. */
Status *refuse(const Operator *op, const Api *api, const Info *info, const char *what);

static inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* NULL, or an error where `table` has not 256 entries. */
Status *check_table(const Operator *op, const Api *api, const Info *info, const Value *table);

/* Run all chunks of a call: more than two are shared by the threads. */
Status *run_chunks(const Api *api, Context *context, void (*run)(void *, size_t), size_t chunks, void *work);

/* Whether the table at an input is a constant that changes nothing. */
Status *look_at_table(const Operator *op, const Api *api, const Info *info, size_t input, int *passes);

/* The constant of that element type at an input, and its shape. */
Status *get_constant(const Operator *op, const Api *api, const Info *info, size_t input, int type, Tensor *shape,
                     const void **out);

/* The constant number of that element type at an input. */
Status *get_number(const Operator *op, const Api *api, const Info *info, size_t input, int type, Number *out);

/* The shape of codes, at most MAX_DIMENSIONS. */
Status *get_shape(const Operator *op, const Api *api, const Value *codes, Tensor *out);

#endif
