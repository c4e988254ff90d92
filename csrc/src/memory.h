/* Every byte an index owns goes through here, so that the ceiling is real and the count is true.
 *
 * Sizes are passed back on free, which saves a header per allocation. Only a writer allocates here. */
#ifndef KVS_MEMORY_H
#define KVS_MEMORY_H

#include <stddef.h>
#include <stdint.h>

struct kvs__memory {
  uint64_t used;
  uint64_t peak;
  uint64_t limit;   /* 0 = none */
  uint64_t reserve; /* part of the limit that only `urgent` work may use */
  uint64_t calls;
  uint64_t fail_at; /* the n-th call fails, 0 = none */
  int urgent;       /* work that lowers what is held, and must not fail for the ceiling */
};

/* NULL when out of memory or over the ceiling. Contents are not cleared. */
void *kvs__alloc(struct kvs__memory *memory, size_t bytes);
void *kvs__alloc_zero(struct kvs__memory *memory, size_t bytes);
/* On NULL the old allocation is untouched. */
void *kvs__resize(struct kvs__memory *memory, void *old, size_t bytes_old, size_t bytes_new);
void kvs__free(struct kvs__memory *memory, void *pointer, size_t bytes);

/* Whole pages straight from the system, and straight back; NULL as above. */
void *kvs__map_pages(struct kvs__memory *memory, size_t bytes);
void kvs__unmap_pages(struct kvs__memory *memory, void *pages, size_t bytes);

#endif
