/* The table of operators, and what ONNX Runtime calls when it loads the library.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#include "operator.h"
#include "table.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(_WIN32)
#define PUBLIC __declspec(dllexport)
#else
#define PUBLIC __attribute__((visibility("default")))
#endif

static _Atomic(const Api *) registered; /* for the inference of shapes, which is handed no API */

static const Operator *of(const CustomOp *op) { return (const Operator *)op; }
static int is_layer(const CustomOp *op) { return of(op)->kind == DEPTHWISE || of(op)->kind == CONV; }
static const char *get_name(const CustomOp *op) { return of(op)->name; }
static const char *get_provider(const CustomOp *op) { return (void)op, "CPUExecutionProvider"; }
/* Tensors of codes that an operator takes; the table and what is ignored, or read as constants, come after them. */
static size_t sides(const CustomOp *op) { return of(op)->kind == PRODUCT || of(op)->kind == SUM ? 2 : 1; }
static size_t input_count(const CustomOp *op) { return sides(op) + 2; }
static size_t one(const CustomOp *op) { return (void)op, 1; }
static int zero_int(const CustomOp *op) { return (void)op, 0; }
static int one_int(const CustomOp *op) { return (void)op, 1; }
static int output_type(const CustomOp *op, size_t index) { return (void)index, of(op)->output; }
static int required(const CustomOp *op, size_t index) { return (void)op, (void)index, INPUT_REQUIRED; }
static int main_memory(const CustomOp *op, size_t index) { return (void)op, (void)index, MEMORY_DEFAULT; }

static int input_type(const CustomOp *op, size_t index) {
    return index < sides(op) ? of(op)->input : index == sides(op) ? of(op)->output : TYPE_ANY;
}
static int input_characteristic(const CustomOp *op, size_t index) {
    return index > sides(op) ? INPUT_VARIADIC : INPUT_REQUIRED;
}
static size_t in_place(int **inputs, int **outputs) { /* output 0 may be where input 0 is */
    static int zero[1] = {0};
    return *inputs = *outputs = zero, 1;
}
static size_t no_alias(int **inputs, int **outputs) { return *inputs = *outputs = NULL, 0; }
static void keep(int *inputs, int *outputs) { (void)inputs, (void)outputs; }

/* Constants that an operator reads: scales and zero points of pairs; of layers also geometry, weights and bias. */
static int constants(const CustomOp *op) {
    return of(op)->kind == LOOKUP ? 0 : is_layer(op) ? 9 : 6;
}

static Status *create(const CustomOp *op, const Api *api, const Info *info, void **out) {
    const Kind kind = of(op)->kind;
    switch (kind) {
    case LOOKUP: return lookup_create(of(op), api, info, out);
    case DEPTHWISE: return depthwise_create(of(op), api, info, out);
    case CONV: return conv_create(of(op), api, info, out);
    default: return pair_create(of(op), api, info, out);
    }
}

/* The output has the shape of the codes and the type of the table; that of a layer is found when it runs. */
static Status *infer_shape(const CustomOp *op, ShapeContext *context) {
    const Api *api = registered;
    Shape *codes = NULL, *table = NULL; /* the context's own */
    int type = 0;
    if (is_layer(op)) return NULL;
    Status *status = api->ShapeInferContext_GetInputTypeShape(context, 0, &codes);
    if (!status) status = api->ShapeInferContext_GetInputTypeShape(context, sides(op), &table);
    if (!status) status = api->GetTensorElementType(table, &type);
    if (!status) status = api->SetTensorElementType(codes, type);
    if (!status) status = api->ShapeInferContext_SetOutputTypeShape(context, 0, codes);
    return status;
}

#define OPERATOR(is, label, compute, destroy, place, from, to) \
    {{.version = API_VERSION, .GetName = get_name, .GetExecutionProviderType = get_provider, \
      .GetInputType = input_type, .GetInputTypeCount = input_count, .GetInputCharacteristic = input_characteristic, \
      .GetVariadicInputMinArity = constants, .GetVariadicInputHomogeneity = zero_int, \
      .GetOutputType = output_type, .GetOutputTypeCount = one, .GetOutputCharacteristic = required, \
      .GetVariadicOutputMinArity = one_int, .GetVariadicOutputHomogeneity = one_int, \
      .GetInputMemoryType = main_memory, .GetMayInplace = place, .ReleaseMayInplace = keep, \
      .GetAliasMap = no_alias, .ReleaseAliasMap = keep, .GetStartVersion = one_int, .GetEndVersion = one_int, \
      .CreateKernelV2 = create, .KernelComputeV2 = compute, .KernelDestroy = destroy, \
      .InferOutputShape = infer_shape}, \
     label, is, from, to},
#define TYPES(is, label, compute, destroy, place) \
    OPERATOR(is, label, compute, destroy, place, TYPE_UINT8, TYPE_UINT8) \
    OPERATOR(is, label, compute, destroy, place, TYPE_UINT8, TYPE_INT8) \
    OPERATOR(is, label, compute, destroy, place, TYPE_INT8, TYPE_UINT8) \
    OPERATOR(is, label, compute, destroy, place, TYPE_INT8, TYPE_INT8)
#define ONE_LOOKUP(number) TYPES(LOOKUP, "Lookup" #number, lookup_compute, free, in_place)
#define ONE_PRODUCT(number) TYPES(PRODUCT, "Product" #number, pair_compute, free, in_place)
#define ONE_SUM(number) TYPES(SUM, "Sum" #number, pair_compute, free, in_place)
#define ONE_DEPTHWISE(number) TYPES(DEPTHWISE, "Depthwise" #number, depthwise_compute, depthwise_destroy, no_alias)
#define ONE_CONV(number) TYPES(CONV, "Conv" #number, conv_compute, conv_destroy, no_alias)
#define FOUR(one, t, a, b, c, d) one(t##a) one(t##b) one(t##c) one(t##d)
#define SIX(one, t) FOUR(one, t, 0, 1, 2, 3) one(t##4) one(t##5)
#define TEN(one, t) SIX(one, t) FOUR(one, t, 6, 7, 8, 9)
#define SIXTY_FOUR(one) TEN(one, ) TEN(one, 1) TEN(one, 2) TEN(one, 3) TEN(one, 4) TEN(one, 5) FOUR(one, 6, 0, 1, 2, 3)

static const Operator operators[] = {
    SIXTY_FOUR(ONE_LOOKUP) SIXTY_FOUR(ONE_DEPTHWISE) SIXTY_FOUR(ONE_CONV)
    TEN(ONE_PRODUCT, ) SIX(ONE_PRODUCT, 1)
    TEN(ONE_SUM, ) SIX(ONE_SUM, 1)
};
enum { OPERATORS = sizeof operators / sizeof operators[0] };
_Static_assert(OPERATORS == (64 + 64 + 64 + 16 + 16) * 4, "names, each with four pairs of types");

static int offers(const Kernel *kernel, Kind kind) {
    return kind == DEPTHWISE ? kernel->depthwise != NULL : kind == CONV ? kernel->conv != NULL : 1;
}

PUBLIC int lsq_export_version(void) { return LIBRARY_VERSION; }

/* The name of the kernel that runs on this processor; an empty one where LSQ_EXPORT_KERNEL names none that can. */
PUBLIC const char *lsq_export_kernel(void) {
    const Kernel *kernel = choose_kernel();
    return kernel ? kernel->name : "";
}

PUBLIC Status *RegisterCustomOps(SessionOptions *options, const ApiBase *base) {
    const Api *api = base->GetApi(API_VERSION);
    char message[128];
    Domain *domain = NULL;
    if (!api) {
        snprintf(message, sizeof message, "lsq_export: the library needs ONNX Runtime 1.18 or newer, this is %s",
                 base->GetVersionString());
        return base->GetApi(1)->CreateStatus(ERROR_FAIL, message);
    }
    const Kernel *kernel = choose_kernel();
    if (!kernel) return api->CreateStatus(ERROR_INVALID_ARGUMENT, NO_KERNEL);
    registered = api;
    Status *status = api->CreateCustomOpDomain("lsq_export", &domain); /* ONNX Runtime keeps it with the options */
    for (int i = 0; !status && i < OPERATORS; ++i)
        if (offers(kernel, operators[i].kind)) /* else models run their own functions */
            status = api->CustomOpDomain_Add(domain, &operators[i].op);
    return status ? status : api->AddCustomOpDomain(options, domain);
}
