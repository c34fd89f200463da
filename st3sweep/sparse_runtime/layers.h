// The operations that are no convolutions, each for some of its channels and of its rows or vectors of pixels; and `run`,
// one part of any.
#include "kernels.h"

// Pools rows first, into a padded row in `row`, then columns: each number is read kernel_h times, not kernel_h *
// kernel_w. An average leaves the padding out of its count unless `terms` says otherwise.
INLINE void pool(const op *q, float *arena, float *row, part channels, part lines, const int max, const int64_t stride) {
  const float nothing = max ? -__builtin_inff() : 0;
  int64_t length = most((q->width - 1) * stride + q->kernel_w, q->pad_w + q->in_width);
  for (int64_t c = channels.from; c < channels.to; c++)
    for (int64_t y = lines.from; y < lines.to; y++) {
      int64_t top = y * q->stride_h - q->pad_h, below = least(top + q->kernel_h, q->in_height + q->pad_h);
      int64_t upper = most(top, 0), lower = least(below, q->in_height);
      for (int64_t i = 0; i < length; i++) row[i] = nothing;
      for (int64_t r = upper; r < lower; r++) {
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
        int64_t rows = q->terms ? below - top : lower - upper;
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
static void mean(const op *q, float *arena, part channels) {
  for (int64_t c = channels.from; c < channels.to; c++) {
    const float *x = arena + q->in + c * q->in_plane;
    vec sum = {0};
    for (int64_t i = 0; i < q->in_height * q->in_pitch; i += LANES) sum += load(x + i);
    arena[q->out + c * q->out_plane] = total(sum) / (float)(q->in_height * q->in_width);
  }
}

static void pointwise(const op *q, float *arena, part channels, part vectors) {
  for (int64_t c = channels.from; c < channels.to; c++)
    for (int64_t i = vectors.from * LANES; i < vectors.to * LANES; i += LANES)
      finish(q, arena, c * q->out_plane + i, q->mask + i, load(arena + q->in + c * q->in_plane + i));
}

static void flatten(const op *q, float *arena) {
  float *z = arena + q->out;
  for (int64_t c = 0; c < q->channels_in; c++)
    for (int64_t y = 0; y < q->in_height; y++, z += q->in_width)
      memcpy(z, arena + q->in + c * q->in_plane + y * q->in_pitch, q->in_width * sizeof *z);
}

static void linear(const op *q, float *arena, part numbers) {
  const float *x = arena + q->in;
  for (int64_t o = numbers.from; o < numbers.to; o++) {
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

// Part `i` of an operation. `scratch` is the thread's own; image and logits are those of the batch's image.
static void run(const op *q, float *arena, float *scratch, const float *image, float *logits, int64_t i) {
  int64_t in_vectors = q->kind == POINTWISE || q->kind == DEPTHWISE;
  part pixels = {0, in_vectors ? vectors_of(q) : q->height};
  part channels = {0, q->kind == DENSE_LINEAR || q->kind == SPARSE_LINEAR ? q->width
                    : q->kind == SPLIT ? q->channels_in : q->channels};
  part *shared = q->banded ? &pixels : &channels;
  *shared = (part){shared->to * i / q->items, shared->to * (i + 1) / q->items};
  switch (q->kind) {
  case INPUT:
    for (int64_t c = channels.from; c < channels.to; c++)
      for (int64_t y = pixels.from; y < pixels.to; y++)
        memcpy(arena + q->out + c * q->out_plane + y * q->pitch, image + (c * q->height + y) * q->width, q->width * 4);
    break;
  case SPARSE: case PACKED: case DENSE: convolve(q, arena, scratch, i); break;
  case DEPTHWISE: depthwise(q, arena, scratch, channels, pixels); break;
  case SPLIT: split(q, arena, channels, pixels); break;
  case MAX_POOL:
    if (q->stride_w == 2) pool(q, arena, scratch, channels, pixels, 1, 2);
    else pool(q, arena, scratch, channels, pixels, 1, q->stride_w);
    break;
  case AVG_POOL:
    if (q->stride_w == 2) pool(q, arena, scratch, channels, pixels, 0, 2);
    else pool(q, arena, scratch, channels, pixels, 0, q->stride_w);
    break;
  case MEAN: mean(q, arena, channels); break;
  case POINTWISE: pointwise(q, arena, channels, pixels); break;
  case FLATTEN: flatten(q, arena); break;
  case DENSE_LINEAR: case SPARSE_LINEAR: linear(q, arena, channels); break;
  case OUTPUT: memcpy(logits, arena + q->in, q->in_width * sizeof *logits); break;
  }
}
