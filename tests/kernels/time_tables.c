/* How long each kernel takes, beside memcpy: `make bench-kernels`. One thread, the best of seven; ns and GB/s.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _POSIX_C_SOURCE 199309L
#include "table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LARGEST = 1 << 22, WORK = 10000000 };

static void copy(const uint8_t *table, uint8_t flip, const uint8_t *in, uint8_t *out, size_t count) {
    (void)table, (void)flip;
    memcpy(out, in, count);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void show(const char *name, LookupFunction run, const uint8_t *table, const uint8_t *in, uint8_t *out) {
    printf("%-24s", name);
    for (size_t count = 256; count <= LARGEST; count *= count < 65536 ? 16 : 4) {
        const int calls = (int)(WORK / count) + 1;
        double best = 1e30;
        for (int round = 0; round < 7; ++round) {
            const double start = now();
            for (int i = 0; i < calls; ++i) run(table, 0, in, out, count);
            const double taken = (now() - start) / calls;
            if (taken < best) best = taken;
        }
        printf(" %10.0f %5.1f", best, (double)count / best);
    }
    puts("");
}

int main(void) {
    uint8_t *in = malloc(LARGEST), *out = calloc(LARGEST, 1), whole[256], ends[256];
    char name[64];
    for (int i = 0; i < LARGEST; ++i) in[i] = (uint8_t)rand();
    for (int i = 0; i < 256; ++i) {
        whole[i] = (uint8_t)rand();
        ends[i] = (uint8_t)(i < 16 ? i * 7 : 105);
    }
    printf("%-24s", "codes");
    for (size_t count = 256; count <= LARGEST; count *= count < 65536 ? 16 : 4) printf(" %10zu      ", count);
    puts("");
    show("memcpy", copy, whole, in, out);
    for (size_t k = 0; k < kernel_count; ++k) {
        if (!kernels[k].available()) continue;
        show(kernels[k].name, kernels[k].run, whole, in, out);
        snprintf(name, sizeof name, "%s, 16 values", kernels[k].name);
        show(name, kernels[k].run, ends, in, out);
    }
    free(in);
    free(out);
    return 0;
}
