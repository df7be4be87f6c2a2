/* The part of ONNX Runtime's C API that the operator uses, as opaque pointers and a few slots of its tables.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 *
 * Numbers of the slots: the order of the members of OrtApi and OrtCustomOp in onnxruntime_c_api.h. Both only grow at
 * their ends, so that a library that asks for version 18 of the interface loads in ONNX Runtime 1.18 and later.
 */
#ifndef LSQ_EXPORT_API_H
#define LSQ_EXPORT_API_H

#include <stddef.h>
#include <stdint.h>

enum { API_VERSION = 18 };
/* ONNXTensorElementDataType */
enum { TYPE_ANY = 0, TYPE_FLOAT = 1, TYPE_UINT8 = 2, TYPE_INT8 = 3, TYPE_INT32 = 6, TYPE_INT64 = 7 };
enum { ERROR_FAIL = 1, ERROR_INVALID_ARGUMENT = 2 };      /* OrtErrorCode */
enum { INPUT_REQUIRED = 0, INPUT_VARIADIC = 2 };          /* OrtCustomOpInputOutputCharacteristic */
enum { MEMORY_DEFAULT = 0 };                              /* OrtMemType */

typedef struct Status Status;
typedef struct SessionOptions SessionOptions;
typedef struct Domain Domain;
typedef struct Value Value;
typedef struct Shape Shape;
typedef struct Info Info;
typedef struct Context Context;
typedef struct ShapeContext ShapeContext;
typedef struct CustomOp CustomOp;

typedef struct Api {
    Status *(*CreateStatus)(int code, const char *message); /* 0 */
    void *unused_1[25];
    Status *(*CreateCustomOpDomain)(const char *name, Domain **out); /* 26 */
    Status *(*CustomOpDomain_Add)(Domain *domain, const CustomOp *op);
    Status *(*AddCustomOpDomain)(SessionOptions *options, Domain *domain);
    void *unused_29[22];
    Status *(*GetTensorMutableData)(const Value *value, void **out); /* 51 */
    void *unused_52[6];
    Status *(*SetTensorElementType)(Shape *shape, int type); /* 58 */
    void *unused_59;
    Status *(*GetTensorElementType)(const Shape *shape, int *out); /* 60 */
    Status *(*GetDimensionsCount)(const Shape *shape, size_t *out);
    Status *(*GetDimensions)(const Shape *shape, int64_t *out, size_t length);
    void *unused_63;
    Status *(*GetTensorShapeElementCount)(const Shape *shape, size_t *out); /* 64 */
    Status *(*GetTensorTypeAndShape)(const Value *value, Shape **out);
    void *unused_66[24];
    Status *(*KernelContext_GetInput)(const Context *context, size_t index, const Value **out); /* 90 */
    Status *(*KernelContext_GetOutput)(Context *context, size_t index, const int64_t *dims, size_t count, Value **out);
    void *unused_92;
    void (*ReleaseStatus)(Status *status); /* 93 */
    void *unused_94[5];
    void (*ReleaseTensorTypeAndShapeInfo)(Shape *shape); /* 99 */
    void *unused_100[144];
    Status *(*KernelInfo_GetNodeName)(const Info *info, char *out, size_t *size); /* 244 */
    void *unused_245[4];
    Status *(*KernelInfoGetConstantInput_tensor)(const Info *info, size_t index, int *is_constant,
                                                 const Value **out); /* 249 */
    void *unused_250[18];
    Status *(*ShapeInferContext_GetInputTypeShape)(const ShapeContext *context, size_t index, Shape **out); /* 268 */
    void *unused_269;
    Status *(*ShapeInferContext_SetOutputTypeShape)(const ShapeContext *context, size_t index, const Shape *shape);
    void *unused_271[3];
    Status *(*KernelContext_ParallelFor)(const Context *context, void (*run)(void *, size_t), size_t total,
                                         size_t batches, void *argument); /* 274 */
} Api;

#define AT_SLOT(member, number) \
    _Static_assert(offsetof(Api, member) == (number) * sizeof(void *), #member " is not at its slot")
AT_SLOT(CreateCustomOpDomain, 26);
AT_SLOT(GetTensorMutableData, 51);
AT_SLOT(SetTensorElementType, 58);
AT_SLOT(GetDimensionsCount, 61);
AT_SLOT(GetTensorShapeElementCount, 64);
AT_SLOT(KernelContext_GetInput, 90);
AT_SLOT(ReleaseStatus, 93);
AT_SLOT(ReleaseTensorTypeAndShapeInfo, 99);
AT_SLOT(KernelInfo_GetNodeName, 244);
AT_SLOT(KernelInfoGetConstantInput_tensor, 249);
AT_SLOT(ShapeInferContext_GetInputTypeShape, 268);
AT_SLOT(ShapeInferContext_SetOutputTypeShape, 270);
AT_SLOT(KernelContext_ParallelFor, 274);

typedef struct ApiBase {
    const Api *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
} ApiBase;

struct CustomOp {
    uint32_t version;
    void *(*CreateKernel)(const CustomOp *op, const Api *api, const Info *info);
    const char *(*GetName)(const CustomOp *op);
    const char *(*GetExecutionProviderType)(const CustomOp *op);
    int (*GetInputType)(const CustomOp *op, size_t index);
    size_t (*GetInputTypeCount)(const CustomOp *op);
    int (*GetOutputType)(const CustomOp *op, size_t index);
    size_t (*GetOutputTypeCount)(const CustomOp *op);
    void (*KernelCompute)(void *kernel, Context *context);
    void (*KernelDestroy)(void *kernel);
    int (*GetInputCharacteristic)(const CustomOp *op, size_t index);
    int (*GetOutputCharacteristic)(const CustomOp *op, size_t index);
    int (*GetInputMemoryType)(const CustomOp *op, size_t index);
    int (*GetVariadicInputMinArity)(const CustomOp *op);
    int (*GetVariadicInputHomogeneity)(const CustomOp *op);
    int (*GetVariadicOutputMinArity)(const CustomOp *op);
    int (*GetVariadicOutputHomogeneity)(const CustomOp *op);
    Status *(*CreateKernelV2)(const CustomOp *op, const Api *api, const Info *info, void **kernel);
    Status *(*KernelComputeV2)(void *kernel, Context *context);
    Status *(*InferOutputShape)(const CustomOp *op, ShapeContext *context);
    int (*GetStartVersion)(const CustomOp *op);
    int (*GetEndVersion)(const CustomOp *op);
    size_t (*GetMayInplace)(int **inputs, int **outputs);
    void (*ReleaseMayInplace)(int *inputs, int *outputs);
    size_t (*GetAliasMap)(int **inputs, int **outputs);
    void (*ReleaseAliasMap)(int *inputs, int *outputs);
};

#endif
