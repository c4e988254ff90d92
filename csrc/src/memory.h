/* Every byte of what an index keeps goes through here, so that the ceiling is real and the count is true. Outside of it are
 * only struct kvs_index itself and what a call takes and frees: decoded events (decode.h), answers, exports, snapshots.
 *
 * Sizes are passed back on free, which saves a header per allocation. Only a writer allocates here.
 *
 * What grows large lies in slabs of one size, cut from regions of 64 that the system is asked for at once:
 *
 *     region   [given][given][spare][given][ clean, never touched, or given back to the system ... ]
 *
 * A slab that is freed stays at hand as a spare, so that what breathes does not ask the system with every breath; spares
 * count as used, and beyond a 64th of what is used, or at the ceiling, their pages go back. */
#ifndef KVS_MEMORY_H
#define KVS_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#define KVS__SLAB_BYTES (UINT32_C(32) << 10)

struct kvs__region {
  uint8_t *slabs;
  uint64_t given; /* a bit for each slab */
  uint64_t spares; /* free, and their pages still ours */
};

struct kvs__memory {
  uint64_t used;
  uint64_t peak;
  uint64_t limit; /* 0 = none */
  uint64_t reserve; /* part of the limit that only `urgent` work may use */
  uint64_t calls;
  uint64_t fail_at; /* the n-th call fails, 0 = none */
  int urgent; /* work that lowers what is held, and must not fail for the ceiling */
  struct kvs__region *regions;
  uint32_t regions_count;
  uint32_t regions_capacity;
  uint32_t spares; /* in all regions */
};

/* NULL when out of memory or over the ceiling. Contents are not cleared. */
void *kvs__alloc(struct kvs__memory *memory, size_t bytes);
void *kvs__alloc_zero(struct kvs__memory *memory, size_t bytes);
/* On NULL the old allocation is untouched. */
void *kvs__resize(struct kvs__memory *memory, void *old, size_t bytes_old, size_t bytes_new);
void kvs__free(struct kvs__memory *memory, void *pointer, size_t bytes);

/* The list with twice its room, `first` items if it had none, and `*capacity` changed with it. NULL = out of memory, nothing
 * changed. What is new is not cleared. */
void *kvs__list_grow(struct kvs__memory *memory, void *list, uint32_t *capacity, uint32_t first,
                     size_t item_bytes);

/* KVS__SLAB_BYTES of whole pages with unspecified content; NULL as above. */
void *kvs__slab_take(struct kvs__memory *memory);
void kvs__slab_give(struct kvs__memory *memory, void *slab);

#endif
