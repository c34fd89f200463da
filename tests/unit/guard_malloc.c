/* posix_memalign with a page that cannot be touched behind every block: an overrun ends the process (LD_PRELOAD).

   Blocks come from one large reservation and their addresses are not used again. A block of n bytes ends at the guard
   page up to its alignment, so overruns of less than that (64 bytes for tensors) go unnoticed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#define RESERVED (1ULL << 43)
#define PAGE 4096ULL

typedef struct {
    size_t pages;
    char *block;
} Header; /* on the page before the block's first */

static char *reserved;
static atomic_ullong used;
static int (*real_memalign)(void **, size_t, size_t);
static void (*real_free)(void *);

__attribute__((constructor)) static void reserve(void) {
    real_memalign = dlsym(RTLD_NEXT, "posix_memalign");
    real_free = dlsym(RTLD_NEXT, "free");
    void *found = mmap(0, RESERVED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    reserved = found == MAP_FAILED ? 0 : found;
}

int posix_memalign(void **out, size_t alignment, size_t size) {
    if (!real_memalign) real_memalign = dlsym(RTLD_NEXT, "posix_memalign");
    size_t pages = (size + alignment + PAGE - 1) / PAGE;
    if (!reserved || size < 32) return real_memalign(out, alignment, size);
    unsigned long long offset = atomic_fetch_add(&used, (pages + 2) * PAGE);
    if (offset + (pages + 2) * PAGE > RESERVED) return real_memalign(out, alignment, size);
    char *first = reserved + offset;
    mprotect(first, (pages + 1) * PAGE, PROT_READ | PROT_WRITE);
    char *end = first + (pages + 1) * PAGE;
    Header *header = (Header *)first;
    header->pages = pages;
    header->block = *out = (char *)((uintptr_t)(end - size) & ~(uintptr_t)(alignment - 1));
    return 0;
}

void free(void *block) {
    char *place = block;
    if (!reserved || place < reserved || place >= reserved + RESERVED) {
        if (!real_free) real_free = dlsym(RTLD_NEXT, "free");
        real_free(block);
        return;
    }
    char *first = (char *)((uintptr_t)place & ~(PAGE - 1)) - PAGE;
    if (((Header *)first)->block != place) first -= PAGE; /* alignment moved the block to its second page */
    mmap(first, (((Header *)first)->pages + 1) * PAGE, PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}
