/* Products and sums of every kernel that this processor can run, against the formulas with the functions of the C
 * library. Exit code 1: some element differs, or a byte beside the output was written. Compiled and run by
 * test_pairs.py, also with sanitizers.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "check.h"
#include "table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EVERY = 65536, GRIDS = 24 };

static uint8_t firsts[EVERY], seconds[EVERY]; /* every pair of codes once */
static float factors[EVERY], inner[EVERY];

static float scale(void) { return ldexpf(1.0F + (float)noise(1 << 23) / (1 << 23), (int)noise(12) - 9); }

static uint8_t clamped(float x, float low, float high) { return (uint8_t)(int)fminf(fmaxf(rintf(x), low), high); }

static uint8_t product_of(const Product *p, float factor, uint8_t a) {
    const volatile float product = ((float)(a ^ p->flip) - p->a_zero) * factor, scaled = product * p->ratio;
    return clamped(scaled + p->y_zero, p->low, p->high);
}

static uint8_t sum_of(const Sum *s, uint8_t a, uint8_t b) {
    const float first = (float)((a ^ s->flip) - s->flip), second = (float)((b ^ s->flip) - s->flip);
    return clamped(fmaf(first, s->a_ratio, fmaf(second, s->b_ratio, s->constant)), s->low, s->high);
}

/* `size` codes, with both kinds of guards: a block of memory that ends with the output, and bytes around it. */
static void check(const Kernel *kernel, const Product *p, const Sum *s, size_t size, size_t from, int in_place) {
    for (int kind = 0; kind < 3; ++kind) { /* a product, a sum, and a sum of which the inner part is known */
        uint8_t *in = malloc(from + size + 1), *b = malloc(from + size + 1), *out = in_place ? in : malloc(from + size + 1);
        float *f = malloc((size + 1) * sizeof *f);
        memset(out, GUARD, from + size + 1);
        memcpy(in + from, firsts, size);
        memcpy(b + from, seconds, size);
        memcpy(f, kind == 2 ? inner : factors, size * sizeof *f);
        if (kind == 2) kernel->shift(s, f, in + from, out + from, size);
        else if (kind == 1) kernel->sum(s, in + from, b + from, out + from, size);
        else kernel->product(p, f, in + from, out + from, size);
        for (size_t i = 0; i < size; ++i)
            differing += out[from + i] != (kind ? sum_of(s, firsts[i], seconds[i]) : product_of(p, factors[i], firsts[i]));
        for (size_t i = 0; i < from && !in_place; ++i) differing += out[i] != GUARD;
        differing += out[from + size] != GUARD;
        compared += size;
        if (!in_place) free(in);
        free(out), free(b), free(f);
    }
}

static void check_grid(const Kernel *kernel, uint8_t flip, int wild) {
    const float low = flip ? -128 : 0, high = low + 255;
    const float a_zero = low + (float)noise(256), b_zero = low + (float)noise(256), y_zero = low + (float)noise(256);
    const float a = scale(), b = scale(), y = wild ? ldexpf(1, (int)noise(200) - 100) : a * b * (float)(16 + noise(200));
    const Product p = {a_zero + flip, a * b / y, y_zero, low, high, flip};
    const Sum s = {wild ? a / y : a, wild ? b / y : b, y_zero - a * 17, low, high, flip};
    for (int i = 0; i < EVERY; ++i) factors[i] = (float)(seconds[i] ^ flip) - (b_zero + flip);
    for (int i = 0; i < EVERY; ++i) inner[i] = fmaf((float)((seconds[i] ^ flip) - flip), s.b_ratio, s.constant);
    check(kernel, &p, &s, EVERY, 0, 0);
    for (size_t size = 0; size <= 200; ++size) check(kernel, &p, &s, size, noise(64), (int)noise(2));
}

/* Sums that lie next to the middle of two floats, by less than a double tells: 205 · 5237765 = 2^30 + 1. */
static int is_fused(void) {
    int wrong = 0;
    for (int sign = -1; sign <= 1; sign += 2)
        for (int e = -60; e < -50; ++e) {
            const float b = ldexpf(5237765.0F, e), c = (float)sign;
            wrong += exact_fma(205, b, c) != fmaf(205, b, c);
        }
    return !wrong;
}

int main(void) {
    unsigned long long all = 0;
    if (!is_fused()) return 2;
    for (int i = 0; i < EVERY; ++i) firsts[i] = (uint8_t)(i / 256 * 7 + i % 256), seconds[i] = (uint8_t)(i % 256);
    for (size_t k = 0; k < kernel_count; ++k) {
        if (!kernels[k].available()) {
            printf("%s: this processor cannot run it\n", kernels[k].name);
            continue;
        }
        compared = differing = 0;
        for (int grid = 0; grid < GRIDS; ++grid) check_grid(&kernels[k], grid % 2 ? 128 : 0, grid % 6 == 5);
        printf("%s: %llu of %llu differ\n", kernels[k].name, differing, compared);
        all += differing;
    }
    return all != 0;
}
