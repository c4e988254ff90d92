/* What keys.c and segments.c have in common: where in a table a key belongs, and how an item gets there. */
#ifndef KVS_SEGMENTS_H
#define KVS_SEGMENTS_H

#include "keys.h"

/* ---- places ---- */

static inline uint64_t kvs__place_of(const struct kvs__keys *keys, uint64_t key) {
  uint64_t x;
  if (keys->seed == 0) return key;
  /* Engines choose these keys: mixed with our seed they cannot be crafted to meet. */
  x = (key ^ keys->seed) * UINT64_C(0xd6e8feb86659fd93);
  x = (x ^ (x >> 32)) * UINT64_C(0xd6e8feb86659fd93);
  return x ^ (x >> 32);
}

static inline struct kvs__segment *kvs__segment_of(const struct kvs__keys *keys, uint64_t place) {
  return &keys->segments[keys->depth == 0 ? 0 : keys->directory[place >> (64 - keys->depth)]];
}

static inline uint32_t kvs__home_of(uint64_t place, uint32_t buckets) {
  return (uint32_t)(((place & UINT32_MAX) * buckets) >> 32);
}

/* ---- items ---- */

/* Write a bucket's doubt down in its own bits. */
static inline void kvs__bucket_touch(const struct kvs__keys *keys, struct kvs__bucket *bucket) {
  if (bucket->epoch == keys->epoch) return;
  bucket->doubtful = bucket->used;
  bucket->epoch = keys->epoch;
}

/* The first room at or behind a place's home, in a segment that has some; every bucket on the way counts it. */
static inline struct kvs__seat kvs__room_for(struct kvs__segment *segment, uint64_t place) {
  uint32_t buckets = kvs__segment_buckets(segment), at = kvs__home_of(place, buckets);
  struct kvs__bucket *bucket = &segment->buckets[at];
  while (bucket->used == 31) {
    bucket->passed++;
    if (++at == buckets) at = 0;
    bucket = &segment->buckets[at];
  }
  return (struct kvs__seat){bucket, (unsigned)__builtin_ctz(~(unsigned)bucket->used)};
}

/* Enter an item there. */
static inline void kvs__sit(struct kvs__segment *segment, struct kvs__seat seat, uint64_t key, uint32_t value) {
  seat.bucket->keys[seat.at] = key;
  seat.bucket->values[seat.at] = value;
  seat.bucket->used |= 1u << seat.at;
  segment->count++;
}

/* ---- segments.c: all but kvs__segment_rebuild can fail for memory: 0, and nothing has changed ---- */

#define KVS__MERGED_ITEMS 200u /* far enough below 288 that the next few items do not split it again */

/* The first segment of a table that has none. */
int kvs__segment_first(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory);
/* Make it another size, which holds its items. */
int kvs__segment_resize(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory,
                        struct kvs__segment *segment, uint32_t units);
/* Make two of the segment of a place. */
int kvs__segment_split(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory,
                       uint64_t place);
/* If few items are left in the segment of a place and its other half, make them one again. 0 = they stay two. */
int kvs__segment_merge(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory,
                       uint64_t place);
/* Enter all items anew, each as near to its home as it can be. */
void kvs__segment_rebuild(const struct kvs__keys *keys, struct kvs__segment *segment);
/* The size for so many items. */
uint32_t kvs__units_for(uint32_t items);

#endif
