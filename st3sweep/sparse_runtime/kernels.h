// Operations on planes, and the kernels of convolutions.
//
// A value (C, H, W) is C planes; a plane is zeros, H rows of `pitch` floats (W numbers, then zeros), zeros. The zeros
// after a row are also those before the next, so a shift of the plane is a shift of the padded image, and a stride-1
// convolution is a sum of weights times shifted planes, whatever its kernel. With another stride `split_plane` first
// deals the input into a plane for each phase. plan.py computes every offset and checks every size: nothing is checked
// here.
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#if defined(__AVX512F__) || defined(__aarch64__)
#define WIDEST 16  // vectors of a tile: their sums, a weight and an input fit the registers
#else
#define WIDEST 14
#endif
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINE static inline __attribute__((always_inline))

// Unaligned: a shift moves a vector by any number of floats.
typedef float vec __attribute__((vector_size(LANES * 4), aligned(4)));
typedef int32_t ivec __attribute__((vector_size(LANES * 4), aligned(4)));

typedef struct { int32_t offset; float weight; } nonzero;
typedef struct { int32_t y, x, height, width; } phase;  // rows y, y + stride, ..., columns x, ...: height x width numbers

enum {
  INPUT, SPARSE, PACKED, DEPTHWISE, DENSE, SPLIT, MAX_POOL, AVG_POOL, MEAN, POINTWISE, FLATTEN, DENSE_LINEAR,
  SPARSE_LINEAR, OUTPUT
};
enum { NONE, RELU, RELU6, HARDSWISH };

// One operation, in `items` parts that may run at once. in, out and other (a value to add, -1 for none) are where
// position (0, 0) of channel 0 lies in the arena; the fields are 64 bits wide so that ctypes and C cannot disagree on
// padding.
typedef struct {
  int64_t kind, act, tile, items, chunks, channels_in, channels, height, width, pitch;
  int64_t in, in_plane, in_height, in_width, in_pitch, out, out_plane, other;
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, terms;
  int64_t blocks, block, row, low, reach;          // of PACKED: see `packed_part`
  int64_t phases, split_plane, split_front;        // of SPLIT and DEPTHWISE
  int64_t alone, banded;                           // too small to share; parts are of the pixels, not of the channels
  const nonzero *nonzeros;  // of all output channels, one after another; of PACKED, block after block
  const int32_t *start;     // where those of a channel start; one more for the end; of PACKED, for each block
  const phase *phase;
  const float *weight;      // of dense layers
  const int32_t *offset;    // of dense convolutions: where each of the `terms` weights of a channel reads
  const float *bias;
  const int32_t *mask;      // of a plane: all ones where a number lies, zero in the padding
} op;

typedef struct { int64_t from, to; } part;

INLINE vec broadcast(float x) { return (vec){0} + x; }
INLINE vec load(const float *x) { return *(const vec *)x; }
INLINE vec choose(ivec mask, vec yes, vec no) { return (vec)(((ivec)yes & mask) | ((ivec)no & ~mask)); }
INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

INLINE int64_t vectors_of(const op *q) { return (q->height * q->pitch + LANES - 1) / LANES; }

INLINE vec activated(vec x, int64_t act) {
  if (act == NONE) return x;
  if (act == RELU) return (vec)((ivec)x & ~(x < broadcast(0)));  // keeps NaN
  vec y = act == HARDSWISH ? x + broadcast(3) : x;
  y = choose(y < broadcast(0), broadcast(0), y);
  y = choose(y > broadcast(6), broadcast(6), y);
  return act == HARDSWISH ? x * y / broadcast(6) : y;
}

INLINE void finish(const op *q, float *arena, int64_t at, const int32_t *mask, vec x) {
  if (q->other >= 0) x += load(arena + q->other + at);
  *(ivec *)(arena + q->out + at) = (ivec)activated(x, q->act) & *(const ivec *)mask;
}

// The sums of a tile of `width` vectors of pixels stay in registers while the non-zeros of a channel stream by. `in` is
// what their offsets count from; `start` has output channels `from` to `to`. All but the first of several calls go on
// from the sums that the one before left in `out`, and only the last adds, activates and masks.
INLINE void sparse_tile(const op *q, float *arena, const float *in, const int32_t *start, int64_t first, int64_t from,
                        int64_t to, int begin, int last, const int width) {
  for (int64_t o = from; o < to; o++) {
    const nonzero *z = q->nonzeros + start[o], *end = q->nonzeros + start[o + 1];
    int64_t at = o * q->out_plane + first;
    float *out = arena + q->out + at;
    if (z == end && !begin && !last) continue;
    vec sum[16];
    if (begin) { UNROLL for (int t = 0; t < width; t++) sum[t] = broadcast(q->bias[o]); }
    else { UNROLL for (int t = 0; t < width; t++) sum[t] = load(out + t * LANES); }
    for (; z < end; z++) {
      const float *x = in + z->offset;
      vec w = broadcast(z->weight);
      UNROLL for (int t = 0; t < width; t++) sum[t] += w * load(x + t * LANES);
    }
    if (last) { UNROLL for (int t = 0; t < width; t++) finish(q, arena, at + t * LANES, q->mask + first + t * LANES, sum[t]); }
    else { UNROLL for (int t = 0; t < width; t++) *(vec *)(out + t * LANES) = sum[t]; }
  }
}

#define TILE(n) case n: sparse_tile(q, arena, in, start, first, from, to, begin, last, n); break;
static void sparse_tiles(const op *q, float *arena, const float *in, const int32_t *start, int64_t first, int64_t from,
                         int64_t to, int begin, int last, int64_t width) {
  switch (width) {
    TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6) TILE(7) TILE(8) TILE(9) TILE(10) TILE(11) TILE(12) TILE(13) TILE(14)
#if WIDEST > 14
    TILE(15) TILE(16)
#endif
  }
}
#undef TILE

// The same for a dense layer, four output channels at a time: each vector of input is read once for four products.
INLINE void dense_tile(const op *q, float *arena, int64_t first, int64_t from, int64_t to, const int width) {
  const float *in = arena + q->in + first;
  for (int64_t o = from; o < to; o += 4) {
    vec sum[4][6];
    UNROLL for (int j = 0; j < 4; j++) {
      UNROLL for (int t = 0; t < width; t++) sum[j][t] = broadcast(q->bias[o + j]);
    }
    const float *weight = q->weight + o * q->terms;
    for (int64_t k = 0; k < q->terms; k++, weight += 4) {
      vec x[6];
      UNROLL for (int t = 0; t < width; t++) x[t] = load(in + q->offset[k] + t * LANES);
      UNROLL for (int j = 0; j < 4; j++) {
        vec w = broadcast(weight[j]);
        UNROLL for (int t = 0; t < width; t++) sum[j][t] += w * x[t];
      }
    }
    UNROLL for (int j = 0; j < 4; j++) {
      if (o + j >= q->channels) break;
      UNROLL for (int t = 0; t < width; t++)
        finish(q, arena, (o + j) * q->out_plane + first + t * LANES, q->mask + first + t * LANES, sum[j][t]);
    }
  }
}

#define TILE(n) case n: dense_tile(q, arena, first, from, to, n); break;
static void dense_tiles(const op *q, float *arena, int64_t first, int64_t from, int64_t to, int64_t width) {
  switch (width) { TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6) }
}
#undef TILE

// The planes that a tile reads are copied, `block` of them at a time, to rows of `row` floats one after another, which
// stay in the first cache while all output channels read them. A row begins `low` floats from the tile's first pixel
// and is `reach` longer than the tile, for the shifts.
static void packed_part(const op *q, float *arena, float *scratch, int64_t first, int64_t from, int64_t to,
                        int64_t width) {
  int64_t length = width * LANES + q->reach;
  for (int64_t b = 0; b < q->blocks; b++) {
    int64_t planes = least(q->block, q->channels_in - b * q->block);
    const float *x = arena + q->in + first + q->low + b * q->block * q->in_plane;
    for (int64_t c = 0; c < planes; c++, x += q->in_plane)
      for (int64_t i = 0; i < length; i += LANES) *(vec *)(scratch + c * q->row + i) = load(x + i);
    const int32_t *start = q->start + b * (q->channels + 1);
    sparse_tiles(q, arena, scratch, start, first, from, to, b == 0, b == q->blocks - 1, width);
  }
}

// Part `i` of a convolution: one tile, of even width so that none is much narrower than the rest, and a chunk of the
// output channels.
static void convolve(const op *q, float *arena, float *scratch, int64_t i) {
  int64_t vectors = vectors_of(q), tiles = (vectors + q->tile - 1) / q->tile;
  int64_t j = i / q->chunks, c = i % q->chunks, fours = (q->channels + 3) / 4;
  int64_t from = 4 * (fours * c / q->chunks), to = least(4 * (fours * (c + 1) / q->chunks), q->channels);
  int64_t start = vectors * j / tiles, width = vectors * (j + 1) / tiles - start, first = start * LANES;
  if (q->kind == PACKED) packed_part(q, arena, scratch, first, from, to, width);
  else if (q->kind == DENSE) dense_tiles(q, arena, first, from, to, width);
  else sparse_tiles(q, arena, arena + q->in + first, q->start, first, from, to, 1, 1, width);
}

typedef float eight __attribute__((vector_size(32), aligned(4)));
typedef int32_t ieight __attribute__((vector_size(32)));
#ifdef __clang__  // numbers 0, 2, ... 14 of fifteen, of which `a` has the first eight and `b` the last
#define EVEN(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6, 9, 11, 13, 15)
#else
#define EVEN(a, b) __builtin_shuffle(a, b, (ieight){0, 2, 4, 6, 9, 11, 13, 15})
#endif

// Copies every second number. The last eight may overlap those before them, so that nothing is written behind them.
INLINE void every_second(const float *x, float *z, int64_t count) {
  if (count < 8) {
    for (int64_t j = 0; j < count; j++) z[j] = x[2 * j];
    return;
  }
  for (int64_t j = 0; j < count; j += 8) {
    int64_t k = least(j, count - 8);
    const float *from = x + 2 * k;
    *(eight *)(z + k) = EVEN(*(const eight *)from, *(const eight *)(from + 7));
  }
}

// Row y of a phase is every stride_w-th number from its column on of row stride_h * y + its row. The zeros around the
// rows are not written. `lines` of the `of` rows of the operation need these of a phase.
static void split_plane(const op *q, const float *in, float *out, part lines, int64_t of) {
  for (const phase *p = q->phase; p < q->phase + q->phases; p++, out += q->split_plane)
    for (int64_t y = p->height * lines.from / of; y < p->height * lines.to / of; y++) {
      const float *x = in + (y * q->stride_h + p->y) * q->in_pitch + p->x;
      float *z = out + y * q->pitch;
      if (q->stride_w == 1) memcpy(z, x, p->width * sizeof *z);
      else if (q->stride_w == 2) every_second(x, z, p->width);
      else for (int64_t j = 0; j < p->width; j++) z[j] = x[q->stride_w * j];
    }
}

static void split(const op *q, float *arena, part channels, part lines) {
  for (int64_t c = channels.from; c < channels.to; c++)
    split_plane(q, arena + q->in + c * q->in_plane, arena + q->out + c * q->phases * q->split_plane, lines, q->height);
}

// Each output channel reads one plane, or, with a stride, its phases, which lie in `scratch` and stay in the cache.
static void depthwise(const op *q, float *arena, float *scratch, part channels, part vectors) {
  int64_t each = q->channels / q->channels_in;
  if (q->phases) memset(scratch, 0, q->phases * q->split_plane * sizeof *scratch);
  for (int64_t o = channels.from, dealt = -1; o < channels.to; o++) {
    const float *in = arena + q->in + o / each * q->in_plane;
    if (q->phases && dealt != o / each) {
      split_plane(q, in, scratch + q->split_front, (part){0, 1}, 1);
      dealt = o / each;
    }
    if (q->phases) in = scratch + q->split_front;
    for (int64_t v = vectors.from, width; v < vectors.to; v += width) {
      width = least(q->tile, vectors.to - v);
      sparse_tiles(q, arena, in + v * LANES, q->start, v * LANES, o, o + 1, 1, 1, width);
    }
  }
}
