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

const Kernel kernels[] = {
#ifdef HAS_X86
#ifdef HAS_AMX
    {"amx", lookup_avx512vbmi, has_amx_and_vbmi, 65536, product_avx512, sum_avx512, shift_avx512, depthwise_avx512, 1, gather_avx512,
     conv_amx, NULL, NULL, STEP},
#endif
    {"avx512vbmi", lookup_avx512vbmi, has_avx512vbmi, 65536, product_avx512, sum_avx512, shift_avx512, depthwise_avx512, 1,
     gather_avx512, conv_avx512, transform_avx512, winograd_avx512, 1},
    {"avx2", lookup_avx2, has_avx2, 32768, product_avx2, sum_avx2, shift_avx2, depthwise_avx2, 0, NULL, NULL, NULL, NULL, 0},
#endif
#ifdef HAS_NEON
    {"neon", lookup_neon, always, 32768, product_portable, sum_portable, shift_portable, depthwise_neon, 0, NULL, NULL, NULL, NULL, 0},
#endif
    {"portable", lookup_portable, always, 16384, product_portable, sum_portable, shift_portable, NULL, 0, NULL, NULL, NULL, NULL, 0},
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
