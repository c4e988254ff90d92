/* A table from 64-bit keys to 32-bit values, made of cache lines.
 *
 *     place = mix(key)    [ top `depth` bits ..................... low 32 bits ]
 *                                |                                    |
 *     directory          segments                buckets of one segment, a cache line each
 *     [ 00 ] ---------> [ buckets*, count, ] --> [ 5 keys, 8 B each | 5 values, 4 B each | meta 4 B ]
 *     [ 01 ] ---------> [ units, depth: 16 B ]   [ 5 keys           | 5 values           | meta     ]  <- home
 *     [ 10 ] ----+      [ ...              ]     [ 5 keys           | 5 values           | meta     ]  <- next, if
 *     [ 11 ] ----+----> [ ...              ]     ... 8 to 64 of them, in steps of 8                    home is full
 *
 *     meta      used 5 bits | marked 5 | doubtful 5 | epoch 8 | passed 9
 *     segment   one chunk of a pool, 512 B to 4 KB; room for 36 items in every 8 buckets
 *     table     a directory over segments by the top bits of a place, several names for a segment that is less deep
 *               (extendible hashing: Fagin, Nievergelt, Pippenger, Strong, 1979)
 *
 * Inside a segment a key's home bucket is the low half of its place scaled to the number of buckets; where it is full the
 * key goes to the next that is not, and every bucket passed on the way counts it (`passed`): a search goes on only while
 * that count is not 0. (Counting passers-by instead of keeping tombstones: folly's F14, Bronson and Shi, 2019.) What
 * goes leaves room that nobody behind it comes back to, so a segment is built anew when that has happened 64 times.
 *
 * Lines. A key that is there: 1.3 buckets. One that is not there: 2.9, side by side. (In a table in which as much goes as
 * comes 1.5 and 3.7.) Before it 4 B of the directory and 16 of the segment: of a table of 156,000 keys, one engine's part of
 * ten million, both together are 20 KB, and stay in the cache while its frame is applied. An insertion or removal writes the
 * line that its search has found, and counts in those that it passed.
 *
 * Sizes. A segment grows and shrinks by an eighth of its largest size, splits in two when it is full at that size, and
 * merges with the other half of its split when both together have 200 items: no step moves more than 288 items. 36 of 40
 * places are filled at most, so an item takes 14.2 B at least; a table that grew has five sixths of all places filled, at
 * 15.4 B an item; one in which as much goes as comes 0.78, at 16.5 B; and one that shrank seven tenths, at 18 B. (Lines and
 * sizes are averages over the sizes of a table, counted by `make test ONLY="keys: as many"`.)
 *
 * `marked` is the caller's. Doubt: a bucket whose epoch is not the table's is doubtful as a whole, so that doubting all is
 * one addition; the five bits keep doubt of single items once the bucket has been touched again. */
#ifndef KVS_SEGMENTS_H
#define KVS_SEGMENTS_H

#include <stdint.h>

#include "memory.h"
#include "pool.h"

#define KVS__BUCKET_ITEMS 5
#define KVS__UNIT_BUCKETS 8u
#define KVS__UNITS_MAX 8u
#define KVS__UNIT_ITEMS 36u /* nine tenths of 40 */

struct kvs__bucket {
  uint64_t keys[KVS__BUCKET_ITEMS];
  uint32_t values[KVS__BUCKET_ITEMS];
  uint32_t used : 5;
  uint32_t marked : 5;
  uint32_t doubtful : 5;
  uint32_t epoch : 8;
  uint32_t passed : 9;
};

_Static_assert(sizeof(struct kvs__bucket) == 64, "a bucket is a cache line");
_Static_assert(KVS__SLAB_BYTES % (KVS__UNIT_BUCKETS * sizeof(struct kvs__bucket)) == 0,
               "slabs are of pages, and chunks in them of whole lines");
_Static_assert(KVS__UNITS_MAX * KVS__UNIT_BUCKETS * sizeof(struct kvs__bucket) == 4096, "4 KB at most");
_Static_assert(KVS__UNITS_MAX *KVS__UNIT_ITEMS == 288, "a step moves no more");
_Static_assert(KVS__UNITS_MAX *KVS__UNIT_ITEMS < 1u << 9, "they fit `count`, and `passed`");

struct kvs__segment {
  struct kvs__bucket *buckets;
  uint32_t chunk; /* in the pool of its size; of a free number: the next free one */
  uint16_t count : 9;
  uint16_t worn : 7; /* items that left a bucket others had to pass, since it was built */
  uint8_t units;     /* 0 = the number is free */
  uint8_t depth; /* bits of the place that all its keys share */
};

_Static_assert(sizeof(struct kvs__segment) == 16, "four segments share a cache line");

/* Where tables take their segments from: one pool a size, shared by all tables of an index. */
struct kvs__segments {
  struct kvs__pool pools[KVS__UNITS_MAX];
};

struct kvs__keys {
  struct kvs__segment *segments;
  uint32_t *directory; /* NULL while depth is 0 */
  uint32_t segments_count; /* numbers given out at some time; 0 is used as long as any is */
  uint32_t segments_capacity;
  uint32_t segments_free; /* head of the chain of free numbers, 0 = none */
  uint32_t deepest;       /* segments of the directory's depth */
  uint64_t count;
  uint64_t seed; /* 0 = the keys are places themselves */
  uint8_t depth;
  uint8_t epoch;
};

/* One item of a table; bucket NULL = none. Dies with the next insertion or removal in any table of the index. */
struct kvs__seat {
  struct kvs__bucket *bucket;
  unsigned at;
};

static inline uint64_t kvs__seat_key(struct kvs__seat seat) { return seat.bucket->keys[seat.at]; }
static inline uint32_t kvs__seat_value(struct kvs__seat seat) { return seat.bucket->values[seat.at]; }
static inline int kvs__seat_marked(struct kvs__seat seat) { return seat.bucket->marked >> seat.at & 1; }

static inline uint32_t kvs__segment_buckets(const struct kvs__segment *segment) {
  return segment->units * KVS__UNIT_BUCKETS;
}

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

/* ---- segments.c ---- */

void kvs__segments_init(struct kvs__segments *segments);
void kvs__segments_end(struct kvs__segments *segments, struct kvs__memory *memory);

/* All but kvs__segment_rebuild can fail for memory: 0, and nothing has changed. */

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
