// Threads that help the caller with the parts of a job. The caller takes parts too and waits only for parts that
// somebody is at: helpers that do not run, because their core is busy or because the process was forked, cost nothing.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#define SPIN 50e-6   // s that a helper looks for work before it sleeps
#define PAUSES 32    // between two looks at the clock, at which it offers its core to others
#define MANY 0xffff  // most parts of a job

typedef void part_of(const void *job, int64_t thread, int64_t part);

// The parts of a job that are left for a thread: the job's number, the end of the parts and the first, in 32, 16 and 16
// bits. Whoever moves the first or the end by one may run that part: `work` and `job` are then still this job's, because
// they change only when all its parts are done. Each thread has a line of the cache.
typedef struct { _Alignas(64) _Atomic uint64_t left; } share_of;

typedef struct {
  share_of *shares;  // of each thread, the caller's first
  _Atomic int64_t done;
  _Atomic(part_of *) work;
  _Atomic(const void *) job;
  atomic_int busy, sleeping, stop;
  pthread_mutex_t lock;
  pthread_cond_t wake;
  int64_t helpers;
  struct helper { void *crew; int64_t number; pthread_t thread; } helper[];
} crew;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static int some(uint64_t left) { return (left & MANY) < (left >> 16 & MANY); }

static int waiting(crew *c) {
  for (int64_t i = 0; i <= c->helpers; i++)
    if (some(atomic_load(&c->shares[i].left))) return 1;
  return 0;
}

// Runs a part if one is left: of the thread's own the first, so that it keeps the pixels or channels it had in the layer
// before; else the last of another's. Returns whether there was one.
static int take(crew *c, int64_t thread) {
  for (int64_t i = 0; i <= c->helpers; i++) {
    int64_t owner = (thread + i) % (c->helpers + 1);
    uint64_t left = atomic_load(&c->shares[owner].left);
    if (!some(left)) continue;
    part_of *work = atomic_load_explicit(&c->work, memory_order_relaxed);
    const void *job = atomic_load_explicit(&c->job, memory_order_relaxed);
    uint64_t then = owner == thread ? left + 1 : left - (1 << 16);
    if (atomic_compare_exchange_strong(&c->shares[owner].left, &left, then)) {
      work(job, thread, (int64_t)(owner == thread ? left & MANY : then >> 16 & MANY));
      atomic_fetch_add(&c->done, 1);
    }
    return 1;
  }
  return 0;
}

static void *helped(void *argument) {
  struct helper *self = argument;
  crew *c = self->crew;
  double since = now();
  while (!atomic_load(&c->stop)) {
    if (take(c, self->number)) {
      while (take(c, self->number)) {}
      since = now();
      continue;
    }
    for (int i = 0; i < PAUSES && !waiting(c); i++) pause_briefly();
    if (waiting(c)) continue;
    if (now() - since < SPIN) { sched_yield(); continue; }
    pthread_mutex_lock(&c->lock);
    atomic_fetch_add(&c->sleeping, 1);  // before it looks once more: the caller publishes first, then looks here
    while (!waiting(c) && !atomic_load(&c->stop)) pthread_cond_wait(&c->wake, &c->lock);
    atomic_fetch_sub(&c->sleeping, 1);
    pthread_mutex_unlock(&c->lock);
    since = now();
  }
  return 0;
}

static void wake_all(crew *c) {
  pthread_mutex_lock(&c->lock);
  pthread_cond_broadcast(&c->wake);
  pthread_mutex_unlock(&c->lock);
}

// Runs the parts of `job`; returns when all are done. `c` is null, or nobody else's.
static void share(crew *c, part_of *work, const void *job, int64_t parts) {
  if (!c || parts == 1 || parts > MANY) {
    for (int64_t i = 0; i < parts; i++) work(job, 0, i);
    return;
  }
  uint64_t number = (atomic_load(&c->shares[0].left) >> 32) + 1;
  atomic_store(&c->done, 0);
  atomic_store_explicit(&c->work, work, memory_order_relaxed);
  atomic_store_explicit(&c->job, job, memory_order_relaxed);
  int64_t threads = c->helpers + 1;
  for (int64_t i = threads; i--;)
    atomic_store(&c->shares[i].left,
                 number << 32 | (uint64_t)(parts * (i + 1) / threads) << 16 | (uint64_t)(parts * i / threads));
  if (atomic_load(&c->sleeping)) wake_all(c);
  while (take(c, 0)) {}
  for (int i = 1; atomic_load(&c->done) < parts; i++)
    if (i % (8 * PAUSES)) pause_briefly();
    else sched_yield();
}

static void released(crew *c, int64_t started) {
  atomic_store(&c->stop, 1);
  wake_all(c);
  for (int64_t i = 0; i < started; i++) pthread_join(c->helper[i].thread, 0);
  pthread_cond_destroy(&c->wake);
  pthread_mutex_destroy(&c->lock);
  free(c->shares);
  free(c);
}

void engine_crew_stop(crew *c) { released(c, c->helpers); }

// Starts `helpers` threads; null where that fails. They are numbered from 1, the caller is 0.
crew *engine_crew(int64_t helpers) {
  crew *c = calloc(1, sizeof *c + helpers * sizeof *c->helper);
  if (!c) return 0;
  c->helpers = helpers;
  c->shares = aligned_alloc(sizeof *c->shares, (helpers + 1) * sizeof *c->shares);
  if (!c->shares) {
    free(c);
    return 0;
  }
  for (int64_t i = 0; i <= helpers; i++) atomic_init(&c->shares[i].left, 0);
  pthread_mutex_init(&c->lock, 0);
  pthread_cond_init(&c->wake, 0);
  for (int64_t i = 0; i < helpers; i++) {
    struct helper *one = &c->helper[i];
    one->crew = c;
    one->number = i + 1;
    if (pthread_create(&one->thread, 0, helped, one)) {
      released(c, i);
      return 0;
    }
  }
  return c;
}
