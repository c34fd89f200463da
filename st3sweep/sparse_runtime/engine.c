// Runs a convolutional network whose weights are mostly zero, without allocating. layers.h and kernels.h compute,
// crew.h shares the work among threads.
#include "crew.h"
#include "layers.h"

// What all parts of a job read. `arenas` has one a thread; each ends in its thread's scratch.
typedef struct {
  crew *crew;
  const op *ops;
  int64_t count, scratch, image_size, classes;
  float *const *arenas;
  const float *images;
  float *logits;
} call;

typedef struct { const call *call; const op *op; const float *image; float *logits; } layer;

static void layer_part(const void *job, int64_t thread, int64_t part) {
  const layer *l = job;
  run(l->op, l->call->arenas[0], l->call->arenas[thread] + l->call->scratch, l->image, l->logits, part);
}

static void whole_image(const void *job, int64_t thread, int64_t image) {
  const call *c = job;
  float *arena = c->arenas[thread];
  for (const op *q = c->ops; q < c->ops + c->count; q++)
    for (int64_t i = 0; i < q->items; i++)
      run(q, arena, arena + c->scratch, c->images + image * c->image_size, c->logits + image * c->classes, i);
}

int64_t engine_op_size(void) { return sizeof(op); }
int64_t engine_lanes(void) { return LANES; }
int64_t engine_widest(void) { return WIDEST; }

int64_t engine_finite(const float *x, int64_t count) {
  int32_t bad = 0;
  for (int64_t i = 0; i < count; i++) {
    uint32_t bits;
    memcpy(&bits, x + i, sizeof bits);
    bad |= (bits & 0x7f800000) == 0x7f800000;
  }
  return !bad;
}

// Everything that changes is in `arenas`: threads with arenas of their own may share `ops`, and the first of them has
// the crew's help. Whole images go to a thread each, as many as there are threads for; the rest share their layers.
void engine_run(crew *c, const op *ops, int64_t count, float *const *arenas, int64_t scratch, const float *images,
                int64_t image_size, float *logits, int64_t classes, int64_t batch) {
  int free_ = 0;
  if (c && !atomic_compare_exchange_strong(&c->busy, &free_, 1)) c = 0;
  call all = {c, ops, count, scratch, image_size, classes, arenas, images, logits};
  int64_t threads = c ? c->helpers + 1 : 1, b = 0, whole = threads > 1 ? batch - batch % threads : 0;
  for (int64_t n; b < whole; b += n) {
    n = least(whole - b, MANY);
    all.images = images + b * image_size;
    all.logits = logits + b * classes;
    share(c, whole_image, &all, n);
  }
  for (; b < batch; b++)
    for (const op *q = ops; q < ops + count; q++) {
      layer one = {&all, q, images + b * image_size, logits + b * classes};
      share(q->alone ? 0 : c, layer_part, &one, q->items);
    }
  if (c) atomic_store(&c->busy, 0);
}

// The shortest of `repeats` times (s) of one operation, neither INPUT nor OUTPUT, shared as in a call. The crew is idle.
double engine_time(crew *c, const op *q, float *const *arenas, int64_t scratch, int64_t repeats) {
  call all = {c, q, 1, scratch, 0, 0, arenas, 0, 0};
  layer one = {&all, q, 0, 0};
  double best = 1e30;
  for (int64_t i = 0; i < repeats; i++) {
    double start = now();
    share(q->alone ? 0 : c, layer_part, &one, q->items);
    double took = now() - start;
    if (took < best) best = took;
  }
  return best;
}
