// Runs a convolutional network whose weights are mostly zero, on one thread, without allocating.
//
// A value (C, H, W) is C planes; a plane is zeros, H rows of `pitch` floats (W numbers, then zeros), zeros. The zeros
// after a row are also those before the next, so a shift of the plane is a shift of the padded image, and a stride-1
// convolution is a sum of weights times shifted planes, whatever its kernel. With another stride `split` first deals
// the input into a plane for each phase. plan.py computes every offset and checks every size: nothing is checked here.
#include <stdint.h>
#include <string.h>
#include <time.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
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

enum { INPUT, SPARSE, DENSE, SPLIT, MAX_POOL, AVG_POOL, MEAN, POINTWISE, FLATTEN, DENSE_LINEAR, SPARSE_LINEAR, OUTPUT };
enum { NONE, RELU, RELU6, HARDSWISH };

// One operation. in, out and other (a value to add, -1 for none; scratch of a pool) are where position (0, 0) of
// channel 0 lies in the arena; the fields are 64 bits wide so that ctypes and C cannot disagree on padding.
typedef struct {
  int64_t kind, act, tile, channels_in, channels, height, width, pitch;
  int64_t in, in_plane, in_height, in_width, in_pitch, out, out_plane, other;
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, phase_h, phase_w, terms;
  const nonzero *nonzeros;  // of all output channels, one after another
  const int32_t *start;     // where those of a channel start; one more for the end
  const float *weight;      // of dense layers
  const int32_t *offset;    // of dense convolutions: where each of the `terms` weights of a channel reads
  const float *bias;
  const int32_t *mask;      // of a plane: all ones where a number lies, zero in the padding
} op;

INLINE vec broadcast(float x) { return (vec){0} + x; }
INLINE vec load(const float *x) { return *(const vec *)x; }
INLINE vec choose(ivec mask, vec yes, vec no) { return (vec)(((ivec)yes & mask) | ((ivec)no & ~mask)); }

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

// For a tile of `width` vectors of pixels, all output channels: the tile's sums stay in registers while the non-zeros
// of a channel stream by, and its input stays in cache from channel to channel.
INLINE void sparse_tile(const op *q, float *arena, int64_t first, const int width) {
  const float *in = arena + q->in + first;
  for (int64_t o = 0; o < q->channels; o++) {
    vec sum[16];
    UNROLL for (int t = 0; t < width; t++) sum[t] = broadcast(q->bias[o]);
    const nonzero *end = q->nonzeros + q->start[o + 1];
    for (const nonzero *z = q->nonzeros + q->start[o]; z < end; z++) {
      const float *x = in + z->offset;
      vec w = broadcast(z->weight);
      UNROLL for (int t = 0; t < width; t++) sum[t] += w * load(x + t * LANES);
    }
    UNROLL for (int t = 0; t < width; t++)
      finish(q, arena, o * q->out_plane + first + t * LANES, q->mask + first + t * LANES, sum[t]);
  }
}

// The same for a dense layer, four output channels at a time: each vector of input is read once for four products.
INLINE void dense_tile(const op *q, float *arena, int64_t first, const int width) {
  const float *in = arena + q->in + first;
  for (int64_t o = 0; o < q->channels; o += 4) {
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

#define TILE(kind, n) case n: kind##_tile(q, arena, from * LANES, n); break;

// Tiles of even width, so that none is much narrower than the rest.
static void convolve(const op *q, float *arena) {
  int64_t vectors = (q->height * q->pitch + LANES - 1) / LANES, tiles = (vectors + q->tile - 1) / q->tile;
  for (int64_t i = 0; i < tiles; i++) {
    int64_t from = vectors * i / tiles, width = vectors * (i + 1) / tiles - from;
    if (q->kind == SPARSE) switch (width) {
      TILE(sparse, 1) TILE(sparse, 2) TILE(sparse, 3) TILE(sparse, 4) TILE(sparse, 5) TILE(sparse, 6)
      TILE(sparse, 7) TILE(sparse, 8) TILE(sparse, 9) TILE(sparse, 10) TILE(sparse, 11) TILE(sparse, 12)
      TILE(sparse, 13) TILE(sparse, 14) TILE(sparse, 15) TILE(sparse, 16)
    } else switch (width) {
      TILE(dense, 1) TILE(dense, 2) TILE(dense, 3) TILE(dense, 4) TILE(dense, 5) TILE(dense, 6)
    }
  }
}

// Row y of phase (a, b) is every stride_w-th number from b on of row stride_h * y + a; channel c goes to the plane
// in which this phase of channel c lies. The zeros around the rows are never written.
static void split(const op *q, float *arena) {
  for (int64_t c = 0; c < q->channels; c++)
    for (int64_t y = 0; y < q->height; y++) {
      const float *x = arena + q->in + c * q->in_plane + (y * q->stride_h + q->phase_h) * q->in_pitch + q->phase_w;
      float *z = arena + q->out + c * q->out_plane + y * q->pitch;
      if (q->stride_w == 1) memcpy(z, x, q->width * sizeof *z);
      else if (q->stride_w == 2) for (int64_t i = 0; i < q->width; i++) z[i] = x[2 * i];
      else for (int64_t i = 0; i < q->width; i++) z[i] = x[q->stride_w * i];
    }
}

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// Pools rows first, into a padded row at `other`, then columns: each number is read kernel_h times, not kernel_h *
// kernel_w. An average leaves the padding out of its count unless `terms` says otherwise.
INLINE void pool(const op *q, float *arena, const int max, const int64_t stride) {
  const float nothing = max ? -__builtin_inff() : 0;
  float *row = arena + q->other;
  int64_t length = most((q->width - 1) * stride + q->kernel_w, q->pad_w + q->in_width);
  for (int64_t c = 0; c < q->channels; c++)
    for (int64_t y = 0; y < q->height; y++) {
      int64_t top = y * q->stride_h - q->pad_h, below = least(top + q->kernel_h, q->in_height + q->pad_h);
      int64_t from = most(top, 0), to = least(below, q->in_height);
      for (int64_t i = 0; i < length; i++) row[i] = nothing;
      for (int64_t r = from; r < to; r++) {
        const float *x = arena + q->in + c * q->in_plane + r * q->in_pitch;
        float *z = row + q->pad_w;
        if (max) for (int64_t i = 0; i < q->in_width; i++) z[i] = x[i] > z[i] ? x[i] : z[i];
        else for (int64_t i = 0; i < q->in_width; i++) z[i] += x[i];
      }
      float *out = arena + q->out + c * q->out_plane + y * q->pitch;
      for (int64_t i = 0; i < q->width; i++) out[i] = nothing;
      for (int64_t k = 0; k < q->kernel_w; k++) {
        const float *x = row + k;
        if (max) for (int64_t i = 0; i < q->width; i++) out[i] = x[i * stride] > out[i] ? x[i * stride] : out[i];
        else for (int64_t i = 0; i < q->width; i++) out[i] += x[i * stride];
      }
      if (max) continue;
      for (int64_t i = 0; i < q->width; i++) {
        int64_t left = i * stride - q->pad_w, right = least(left + q->kernel_w, q->in_width + q->pad_w);
        int64_t rows = q->terms ? below - top : to - from;
        int64_t columns = q->terms ? right - left : least(right, q->in_width) - most(left, 0);
        out[i] /= (float)(rows * columns);
      }
    }
}

static float total(vec x) {
  float sum = 0;
  for (int i = 0; i < LANES; i++) sum += x[i];
  return sum;
}

// The padding is zero, so it may be summed too.
static void mean(const op *q, float *arena) {
  for (int64_t c = 0; c < q->channels; c++) {
    const float *x = arena + q->in + c * q->in_plane;
    vec sum = {0};
    for (int64_t i = 0; i < q->in_height * q->in_pitch; i += LANES) sum += load(x + i);
    arena[q->out + c * q->out_plane] = total(sum) / (float)(q->in_height * q->in_width);
  }
}

static void pointwise(const op *q, float *arena) {
  for (int64_t c = 0; c < q->channels; c++)
    for (int64_t i = 0; i < q->height * q->pitch; i += LANES)
      finish(q, arena, c * q->out_plane + i, q->mask + i, load(arena + q->in + c * q->in_plane + i));
}

static void flatten(const op *q, float *arena) {
  float *z = arena + q->out;
  for (int64_t c = 0; c < q->channels_in; c++)
    for (int64_t y = 0; y < q->in_height; y++, z += q->in_width)
      memcpy(z, arena + q->in + c * q->in_plane + y * q->in_pitch, q->in_width * sizeof *z);
}

static void linear(const op *q, float *arena) {
  const float *x = arena + q->in;
  for (int64_t o = 0; o < q->width; o++) {
    float sum = q->bias[o];
    if (q->kind == DENSE_LINEAR) {  // a row has `terms` weights, zeros up to a whole number of vectors
      const float *w = q->weight + o * q->terms;
      vec a = {0}, b = {0};
      for (int64_t i = 0; i < q->terms; i += 2 * LANES) {
        a += load(w + i) * load(x + i);
        b += load(w + i + LANES) * load(x + i + LANES);
      }
      sum += total(a + b);
    } else {
      for (int64_t i = q->start[o]; i < q->start[o + 1]; i++) sum += q->nonzeros[i].weight * x[q->nonzeros[i].offset];
    }
    arena[q->out + o] = activated(broadcast(sum), q->act)[0];
  }
}

static void run(const op *q, float *arena, const float *image, float *logits) {
  switch (q->kind) {
  case INPUT:
    for (int64_t c = 0; c < q->channels; c++)
      for (int64_t y = 0; y < q->height; y++)
        memcpy(arena + q->out + c * q->out_plane + y * q->pitch, image + (c * q->height + y) * q->width, q->width * 4);
    break;
  case SPARSE: case DENSE: convolve(q, arena); break;
  case SPLIT: split(q, arena); break;
  case MAX_POOL: if (q->stride_w == 2) pool(q, arena, 1, 2); else pool(q, arena, 1, q->stride_w); break;
  case AVG_POOL: if (q->stride_w == 2) pool(q, arena, 0, 2); else pool(q, arena, 0, q->stride_w); break;
  case MEAN: mean(q, arena); break;
  case POINTWISE: pointwise(q, arena); break;
  case FLATTEN: flatten(q, arena); break;
  case DENSE_LINEAR: case SPARSE_LINEAR: linear(q, arena); break;
  case OUTPUT: memcpy(logits, arena + q->in, q->in_width * sizeof *logits); break;
  }
}

int64_t engine_op_size(void) { return sizeof(op); }

// Everything that changes is in `arena`: threads with an arena each may share `ops`.
void engine_run(const op *ops, int64_t count, float *arena, const float *images, int64_t image_size, float *logits,
                int64_t classes, int64_t batch) {
  for (int64_t b = 0; b < batch; b++)
    for (int64_t i = 0; i < count; i++) run(ops + i, arena, images + b * image_size, logits + b * classes);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

// The shortest of `repeats` times (s) of one operation, neither INPUT nor OUTPUT.
double engine_time(const op *q, float *arena, int64_t repeats) {
  double best = 1e30;
  for (int64_t i = 0; i < repeats; i++) {
    double start = now();
    run(q, arena, 0, 0);
    double took = now() - start;
    if (took < best) best = took;
  }
  return best;
}
