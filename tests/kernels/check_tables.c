/* Every kernel that this processor can run, against a table that is read entry by entry. Exit code 1: some element
 * differs, or a byte beside the output was written. Compiled and run by test_tables.py, also with sanitizers.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 0xA5, MAX_SIZE = 760 };

static unsigned long long compared, differing;
static unsigned long state = 1;

static uint8_t noise(void) { return (uint8_t)((state = state * 6364136223846793005UL + 1442695040888963407UL) >> 56); }

/* One call on `size` codes that begin `from` and `to` bytes into blocks of memory that end with them. */
static void check(const Kernel *kernel, const uint8_t *table, uint8_t flip, const uint8_t *codes, size_t size,
                  size_t from, size_t to, int in_place) {
    uint8_t *in = malloc(from + size + 1), *out = in_place ? in : malloc(to + size + 1);
    if (in_place) to = from;
    memset(out, GUARD, to + size + 1);
    memcpy(in + from, codes, size);
    if (!in_place) in = realloc(in, from + size + (from + size == 0)); /* sanitizers see what is read beyond it */
    kernel->run(table, flip, in + from, out + to, size);
    for (size_t i = 0; i < size; ++i) differing += out[to + i] != table[(uint8_t)(codes[i] + flip)];
    for (size_t i = 0; i < to; ++i) differing += out[i] != GUARD;
    differing += out[to + size] != GUARD;
    compared += size;
    if (!in_place) free(in);
    free(out);
}

/* All 65,536 pairs of index and entry: 256 tables in which every entry is at every place once. */
static void check_pairs(const Kernel *kernel) {
    uint8_t table[256], codes[768];
    for (int i = 0; i < 768; ++i) codes[i] = (uint8_t)i;
    for (int shift = 0; shift < 256; ++shift) {
        for (int i = 0; i < 256; ++i) table[i] = (uint8_t)(i + shift);
        for (int flip = 0; flip <= 128; flip += 128) check(kernel, table, (uint8_t)flip, codes, 768, 0, 0, 0);
    }
}

/* All sizes to 200, and those around where a kernel starts its long loop; unaligned; in place. */
static void check_sizes(const Kernel *kernel) {
    uint8_t table[256], codes[MAX_SIZE];
    for (int i = 0; i < 256; ++i) table[i] = noise();
    for (int i = 0; i < MAX_SIZE; ++i) codes[i] = noise();
    for (size_t size = 0; size < MAX_SIZE; size = size == 200 ? 500 : size + 1)
        for (size_t offset = 0; offset < 64; offset += size < 100 ? 1 : 7) {
            check(kernel, table, 0, codes, size, offset, (offset * 5 + 3) % 64, 0);
            check(kernel, table, 128, codes, size, offset, offset, 1);
        }
}

/* Tables whose ends are constant, for every first and last entry that differs from them. */
static void check_windows(const Kernel *kernel) {
    uint8_t table[256], codes[768];
    for (int i = 0; i < 768; ++i) codes[i] = (uint8_t)i;
    for (int first = 0; first < 256; ++first)
        for (int last = first; last < 256; last += 1 + (last - first) / 24) {
            for (int i = 0; i < 256; ++i) table[i] = i <= first ? 7 : i >= last ? 200 : noise();
            check(kernel, table, first % 2 ? 128 : 0, codes, 768, 1, 2, 0);
        }
}

int main(void) {
    unsigned long long all = 0;
    for (size_t k = 0; k < kernel_count; ++k) {
        if (!kernels[k].available()) {
            printf("%s: this processor cannot run it\n", kernels[k].name);
            continue;
        }
        compared = differing = 0;
        check_pairs(&kernels[k]);
        check_sizes(&kernels[k]);
        check_windows(&kernels[k]);
        printf("%s: %llu of %llu differ\n", kernels[k].name, differing, compared);
        all += differing;
    }
    return all != 0;
}
