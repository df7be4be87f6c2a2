/* What the operators Depthwise and Conv share: the constants of a layer, and images.
 *
 * Copyright the lsq-export developers. SPDX-License-Identifier: Apache-2.0
 */
#ifndef LSQ_EXPORT_LAYER_OPERATOR_H
#define LSQ_EXPORT_LAYER_OPERATOR_H

#include "layer.h"
#include "operator.h"
#include "table.h"

enum { MAX_TAPS = 1024 };

typedef struct Geometry { /* of rows and columns */
    int64_t stride[2], begin[2], end[2], dilation[2], kernel[2];
} Geometry;

typedef struct LayerNode { /* what is kept of a node of a graph, first in what an operator keeps */
    const Operator *op;
    const Api *api;
    const Kernel *kernel;
    int passes; /* whether the table is known to change nothing */
    Geometry geometry;
    int planes; /* whether images are [N, C, H, W] */
    size_t in_channels, out_channels;
    uint8_t outside; /* the code of what is outside of the images */
    Codes codes; /* that x has; count 0: any */
} LayerNode;

typedef struct Images { /* of one call. border: a row of an image, of codes of zero. pixels: x as [N, H, W, C], or NULL */
    const LayerNode *node;
    const uint8_t *table, *x;
    uint8_t *out, *border, *pixels;
    int64_t in[2], size[2]; /* rows and columns */
    size_t rows;            /* of the results of all images */
} Images;

/* Looks at the table and the constants: inputs 2 to 10, as depthwise_operator.c lists them. */
Status *read_layer(LayerNode *node, const Operator *op, const Api *api, const Info *info, Layer *layer);

/* The images of a call, and where the result goes. images_release has to follow, also where there is an error. */
Status *read_images(Images *images, const LayerNode *node, Context *context);
void images_release(Images *images);

/* Where the rows of an image begin that a row of the result reads; those outside of the image are the border. */
void point_to_rows(const Images *images, size_t row, const uint8_t **rows);

/* Where the codes of each tap begin, `left` being the column of the first: those outside of the image are the border. */
void point_to_taps(const Images *images, const uint8_t *const *rows, int64_t left, const uint8_t **taps);

/* A tile of the result, its number being that of all tiles of all images; and where the PLACES pixels begin that it reads:
 * those outside of the image are the border. */
void point_to_tile(const Images *images, size_t number, Tile *tile);
void point_to_pixels(const Images *images, size_t number, const uint8_t **x);

static inline size_t tiles_of(const Images *m) {
    return (size_t)((m->size[0] + 1) / SIDE * ((m->size[1] + 1) / SIDE));
}

/* The column of the first tap of a column of the result, and that after the last one. */
static inline int64_t left_of(const Geometry *g, int64_t column) { return column * g->stride[1] - g->begin[1]; }
static inline int64_t reach_of(const Geometry *g) { return (g->kernel[1] - 1) * g->dilation[1] + 1; }

#endif
