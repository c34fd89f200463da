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

// `ticket` is the job's number, its parts, and the next part, in 32, 16 and 16 bits. Whoever moves it on by one may run
// that part: `work` and `job` are then still this job's, because they change only when all its parts are done.
typedef struct {
  _Atomic uint64_t ticket;
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

static int waiting(uint64_t ticket) { return (ticket & MANY) < (ticket >> 16 & MANY); }

// Runs a part if one is left; returns whether there was one.
static int take(crew *c, int64_t thread) {
  uint64_t ticket = atomic_load(&c->ticket);
  if (!waiting(ticket)) return 0;
  part_of *work = atomic_load_explicit(&c->work, memory_order_relaxed);
  const void *job = atomic_load_explicit(&c->job, memory_order_relaxed);
  if (atomic_compare_exchange_strong(&c->ticket, &ticket, ticket + 1)) {
    work(job, thread, ticket & MANY);
    atomic_fetch_add(&c->done, 1);
  }
  return 1;
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
    for (int i = 0; i < PAUSES && !waiting(atomic_load(&c->ticket)); i++) pause_briefly();
    if (waiting(atomic_load(&c->ticket))) continue;
    if (now() - since < SPIN) { sched_yield(); continue; }
    pthread_mutex_lock(&c->lock);
    atomic_fetch_add(&c->sleeping, 1);  // before it looks once more: the caller publishes first, then looks here
    while (!waiting(atomic_load(&c->ticket)) && !atomic_load(&c->stop)) pthread_cond_wait(&c->wake, &c->lock);
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
  uint64_t number = (atomic_load(&c->ticket) >> 32) + 1;
  atomic_store(&c->done, 0);
  atomic_store_explicit(&c->work, work, memory_order_relaxed);
  atomic_store_explicit(&c->job, job, memory_order_relaxed);
  atomic_store(&c->ticket, number << 32 | (uint64_t)parts << 16);
  if (atomic_load(&c->sleeping)) wake_all(c);
  while (take(c, 0)) {}
  for (int i = 1; atomic_load(&c->done) < parts; i++)
    if (i % (8 * PAUSES)) pause_briefly();
    else sched_yield();
}

void engine_crew_stop(crew *c) {
  atomic_store(&c->stop, 1);
  wake_all(c);
  for (int64_t i = 0; i < c->helpers; i++) pthread_join(c->helper[i].thread, 0);
  pthread_cond_destroy(&c->wake);
  pthread_mutex_destroy(&c->lock);
  free(c);
}

// Starts `helpers` threads; null where that fails. They are numbered from 1, the caller is 0.
crew *engine_crew(int64_t helpers) {
  crew *c = calloc(1, sizeof *c + helpers * sizeof *c->helper);
  if (!c) return 0;
  pthread_mutex_init(&c->lock, 0);
  pthread_cond_init(&c->wake, 0);
  for (; c->helpers < helpers; c->helpers++) {
    struct helper *one = &c->helper[c->helpers];
    one->crew = c;
    one->number = c->helpers + 1;
    if (pthread_create(&one->thread, 0, helped, one)) {
      engine_crew_stop(c);
      return 0;
    }
  }
  return c;
}
