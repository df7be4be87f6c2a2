/* The table of operators, and what ONNX Runtime calls when it loads the library.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#include "lookup.h"
#include "table.h"

#include <stdatomic.h>
#include <stdio.h>

#if defined(_WIN32)
#define PUBLIC __declspec(dllexport)
#else
#define PUBLIC __attribute__((visibility("default")))
#endif

static _Atomic(const Api *) registered; /* for the inference of shapes, which is handed no API */

static const Operator *of(const CustomOp *op) { return (const Operator *)op; }
static const char *get_name(const CustomOp *op) { return of(op)->name; }
static const char *get_provider(const CustomOp *op) { return (void)op, "CPUExecutionProvider"; }
static size_t three(const CustomOp *op) { return (void)op, 3; }
static size_t one(const CustomOp *op) { return (void)op, 1; }
static int zero_int(const CustomOp *op) { return (void)op, 0; }
static int one_int(const CustomOp *op) { return (void)op, 1; }
static int output_type(const CustomOp *op, size_t index) { return (void)index, of(op)->output; }
static int required(const CustomOp *op, size_t index) { return (void)op, (void)index, INPUT_REQUIRED; }
static int main_memory(const CustomOp *op, size_t index) { return (void)op, (void)index, MEMORY_DEFAULT; }

static int input_type(const CustomOp *op, size_t index) {
    return index == 0 ? of(op)->input : index == 1 ? of(op)->output : TYPE_ANY;
}
static int input_characteristic(const CustomOp *op, size_t index) {
    return (void)op, index == 2 ? INPUT_VARIADIC : INPUT_REQUIRED;
}
static size_t in_place(int **inputs, int **outputs) { /* output 0 may be where input 0 is */
    static int zero[1] = {0};
    return *inputs = *outputs = zero, 1;
}
static size_t no_alias(int **inputs, int **outputs) { return *inputs = *outputs = NULL, 0; }
static void keep(int *inputs, int *outputs) { (void)inputs, (void)outputs; }

static Status *create(const CustomOp *op, const Api *api, const Info *info, void **out) {
    return lookup_create(of(op), api, info, out);
}

/* The output has the shape of the codes and the type of the table. */
static Status *infer_shape(const CustomOp *op, ShapeContext *context) {
    const Api *api = registered;
    Shape *codes = NULL, *table = NULL; /* the context's own */
    int type = 0;
    (void)op;
    Status *status = api->ShapeInferContext_GetInputTypeShape(context, 0, &codes);
    if (!status) status = api->ShapeInferContext_GetInputTypeShape(context, 1, &table);
    if (!status) status = api->GetTensorElementType(table, &type);
    if (!status) status = api->SetTensorElementType(codes, type);
    if (!status) status = api->ShapeInferContext_SetOutputTypeShape(context, 0, codes);
    return status;
}

#define OPERATOR(number, from, to) \
    {{.version = API_VERSION, .GetName = get_name, .GetExecutionProviderType = get_provider, \
      .GetInputType = input_type, .GetInputTypeCount = three, .GetInputCharacteristic = input_characteristic, \
      .GetVariadicInputMinArity = zero_int, .GetVariadicInputHomogeneity = zero_int, \
      .GetOutputType = output_type, .GetOutputTypeCount = one, .GetOutputCharacteristic = required, \
      .GetVariadicOutputMinArity = one_int, .GetVariadicOutputHomogeneity = one_int, \
      .GetInputMemoryType = main_memory, .GetMayInplace = in_place, .ReleaseMayInplace = keep, \
      .GetAliasMap = no_alias, .ReleaseAliasMap = keep, .GetStartVersion = one_int, .GetEndVersion = one_int, \
      .CreateKernelV2 = create, .KernelComputeV2 = lookup_compute, .KernelDestroy = lookup_destroy, \
      .InferOutputShape = infer_shape}, \
     "Lookup" #number, from, to},
#define TYPES(number) \
    OPERATOR(number, TYPE_UINT8, TYPE_UINT8) OPERATOR(number, TYPE_UINT8, TYPE_INT8) \
    OPERATOR(number, TYPE_INT8, TYPE_UINT8) OPERATOR(number, TYPE_INT8, TYPE_INT8)
#define FOUR(t, a, b, c, d) TYPES(t##a) TYPES(t##b) TYPES(t##c) TYPES(t##d)
#define TEN(t) FOUR(t, 0, 1, 2, 3) FOUR(t, 4, 5, 6, 7) TYPES(t##8) TYPES(t##9)

static const Operator operators[] = {TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) FOUR(6, 0, 1, 2, 3)};
enum { OPERATORS = sizeof operators / sizeof operators[0] };
_Static_assert(OPERATORS == 64 * 4, "64 names, each with four pairs of types");

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
    if (!choose_kernel()) return api->CreateStatus(ERROR_INVALID_ARGUMENT, NO_KERNEL);
    registered = api;
    Status *status = api->CreateCustomOpDomain("lsq_export", &domain); /* ONNX Runtime keeps it with the options */
    for (int i = 0; !status && i < OPERATORS; ++i) status = api->CustomOpDomain_Add(domain, &operators[i].op);
    return status ? status : api->AddCustomOpDomain(options, domain);
}
