/* The portable kernel, and the choice between kernels.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#include "table.h"

#include <stdlib.h>
#include <string.h>

void lookup_portable(const uint8_t *table, uint8_t flip, const uint8_t *in, uint8_t *out, size_t count) {
    for (size_t i = 0; i < count; ++i) out[i] = table[in[i] ^ flip];
}

static int always(void) { return 1; }

#ifdef HAS_X86
static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static int has_avx512vbmi(void) {
    return __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}
#ifdef HAS_AMX
static int has_amx_and_vbmi(void) { return has_avx512vbmi() && has_amx(); }
#endif
#endif

const Kernel kernels[] = { /* without what a kernel has none of */
#ifdef HAS_X86
#ifdef HAS_AMX
    {.name = "amx", .run = lookup_avx512vbmi, .available = has_amx_and_vbmi, .chunk = 65536, .product = product_avx512,
     .sum = sum_avx512, .shift = shift_avx512, .depthwise = depthwise_avx512, .interleaved = 1, .gather = gather_avx512,
     .conv = conv_amx, .row_step = STEP},
#endif
    {.name = "avx512vbmi", .run = lookup_avx512vbmi, .available = has_avx512vbmi, .chunk = 65536,
     .product = product_avx512, .sum = sum_avx512, .shift = shift_avx512, .depthwise = depthwise_avx512, .interleaved = 1,
     .gather = gather_avx512, .conv = conv_avx512, .transform = transform_avx512, .winograd = winograd_avx512,
     .row_step = 1},
    {.name = "avx2", .run = lookup_avx2, .available = has_avx2, .chunk = 32768, .product = product_avx2, .sum = sum_avx2,
     .shift = shift_avx2, .depthwise = depthwise_avx2},
#endif
#ifdef HAS_NEON
    {.name = "neon", .run = lookup_neon, .available = always, .chunk = 32768, .product = product_portable,
     .sum = sum_portable, .shift = shift_portable, .depthwise = depthwise_neon},
#endif
    {.name = "portable", .run = lookup_portable, .available = always, .chunk = 16384, .product = product_portable,
     .sum = sum_portable, .shift = shift_portable},
};
const size_t kernel_count = sizeof kernels / sizeof kernels[0];

const Kernel *choose_kernel(void) {
    const char *wanted = getenv("LSQ_EXPORT_KERNEL");
    for (size_t i = 0; i < kernel_count; ++i) {
        if (wanted && *wanted && strcmp(wanted, kernels[i].name) != 0) continue;
        if (kernels[i].available()) return &kernels[i];
    }
    return NULL;
}
