/* A table from 64-bit keys to 32-bit values: what is asked of it. How it is made: segments.h.
 *
 * `marked` is the caller's. */
#ifndef KVS_KEYS_H
#define KVS_KEYS_H

#include "segments.h"

/* The table must keep its address while it has items. */
void kvs__keys_init(struct kvs__keys *keys, uint64_t seed);
struct kvs__seat kvs__keys_find(const struct kvs__keys *keys, uint64_t key);
/* Add a key that is not there, not doubtful. NULL = out of memory, nothing changed. */
struct kvs__seat kvs__keys_insert(struct kvs__keys *keys, struct kvs__segments *segments,
                                  struct kvs__memory *memory, uint64_t key, uint32_t value);
void kvs__keys_remove(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory,
                      uint64_t key);
void kvs__keys_end(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory);

/* For walks that remove much: take away the item at a place of a segment, moving nothing. Then, for steps 0, 1, 2 .. until it
 * says 0, give back what all that made superfluous; one step moves no more than one insertion. */
void kvs__keys_remove_at(struct kvs__keys *keys, uint32_t segment, uint32_t at);
int kvs__keys_tidy(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory,
                   uint32_t step);

/* Where a tour of all items is: begin with zeros. Whoever inserts or removes meanwhile ends it. */
struct kvs__tour {
  uint32_t segment;
  uint32_t bucket;
  unsigned left; /* bits of this bucket's items that are yet to come */
  struct kvs__seat seat;
};

/* The next item of a table is in `tour->seat`; 0 = there is none. */
static inline int kvs__keys_next(const struct kvs__keys *keys, struct kvs__tour *tour) {
  while (tour->left == 0) {
    if (tour->segment == keys->segments_count) return 0;
    if (tour->bucket == kvs__segment_buckets(&keys->segments[tour->segment])) {
      tour->segment++;
      tour->bucket = 0;
      continue;
    }
    tour->seat.bucket = &keys->segments[tour->segment].buckets[tour->bucket++];
    tour->left = tour->seat.bucket->used;
  }
  tour->seat.at = (unsigned)__builtin_ctz(tour->left);
  tour->left &= tour->left - 1;
  return 1;
}

/* Bring a key's line into the cache. */
void kvs__keys_prefetch(const struct kvs__keys *keys, uint64_t key);

/* Doubt every item: O(1), but for one time in 255, which goes over all buckets. And what is known of one. */
void kvs__keys_doubt(struct kvs__keys *keys);
int kvs__seat_doubtful(const struct kvs__keys *keys, struct kvs__seat seat);
void kvs__seat_trust(struct kvs__keys *keys, struct kvs__seat seat);

#endif
