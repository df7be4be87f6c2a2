/* out[i] = table[in[i] ^ flip]: one kernel for each instruction set.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#ifndef LSQ_EXPORT_TABLE_H
#define LSQ_EXPORT_TABLE_H

#include "conv.h"
#include "depthwise.h"
#include "pair.h"
#include "winograd.h"

#include <stddef.h>
#include <stdint.h>

/* `table` has 256 entries. `flip` is 0 for unsigned codes and 128 for signed ones, whose table begins with the entry
 * of code -128. `in` and `out` need no alignment; they are the same address, or do not overlap. */
typedef void (*LookupFunction)(const uint8_t *table, uint8_t flip, const uint8_t *in, uint8_t *out, size_t count);

typedef struct Kernel {
    const char *name;
    LookupFunction run;
    int (*available)(void); /* whether this processor can run it */
    size_t chunk;           /* codes that a thread takes at a time; up to two chunks are left to one thread */
    ProductFunction product;
    SumFunction sum;
    ShiftFunction shift;
    DepthwiseFunction depthwise; /* NULL: none that would be faster than ONNX Runtime's own */
    int interleaved;             /* how that one takes weights */
    GatherFunction gather;
    ConvFunction conv; /* NULL, both: none that would be faster */
    TransformFunction transform;
    WinogradFunction winograd; /* NULL, both: none that would be faster */
    size_t row_step;   /* of what a row is read from the image itself, where its codes are a multiple of it */
} Kernel;

/* The kernels that were compiled in, best first, and how many. The last one is the portable one. */
extern const Kernel kernels[];
extern const size_t kernel_count;

/* The best kernel that this processor can run, or the one that the environment variable LSQ_EXPORT_KERNEL names.
 * NULL: that one is unknown, or the processor cannot run it. */
const Kernel *choose_kernel(void);

/* Kernels of the processor's family; see the files of their names. */
void lookup_portable(const uint8_t *table, uint8_t flip, const uint8_t *in, uint8_t *out, size_t count);
#if defined(__x86_64__) && defined(__GNUC__)
#define HAS_X86 /* by `__attribute__((target))`, for any x86-64 processor that runs the library */
void lookup_avx2(const uint8_t *table, uint8_t flip, const uint8_t *in, uint8_t *out, size_t count);
void lookup_avx512vbmi(const uint8_t *table, uint8_t flip, const uint8_t *in, uint8_t *out, size_t count);
#elif defined(__aarch64__)
#define HAS_NEON
void lookup_neon(const uint8_t *table, uint8_t flip, const uint8_t *in, uint8_t *out, size_t count);
#endif

#endif
