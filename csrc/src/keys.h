/* A table from 64-bit keys to 32-bit values, made of cache lines.
 *
 *   bucket, 64 bytes   [ 5 keys, 8 B each ][ 5 values, 4 B each ][ meta 4 B ]
 *       meta:  used 5 bits | marked 5 | doubtful 5 | epoch 8 | passed 9
 *   segment            8 to 64 buckets, in steps of 8 (512 B chunks of a pool); room for 36 items in every 8
 *   table              a directory over segments, indexed by the top bits of a key's place (extendible hashing:
 *                      Fagin, Nievergelt, Pippenger, Strong, 1979)
 *
 * Inside a segment a key's home bucket is the place scaled to the number of buckets; where it is full the key goes to
 * the next that is not, and every bucket passed on the way counts it (`passed`): a search goes on only while that
 * count is not 0, so nearly every search touches one line. (Counting passers-by instead of keeping tombstones: F14.) What
 * goes leaves room that nobody behind it comes back to, so a segment is built anew when that has happened 64 times.
 *
 * A segment grows and shrinks by an eighth of its largest size, splits in two when it is full at that size, and merges
 * with the other half of its split when both together have 200 items: no step moves more than 288 items, a table that
 * grew is on average five sixths full, at 15.4 B an item, and one that shrank three quarters.
 *
 * `marked` is the caller's. Doubt: a bucket whose epoch is not the table's is doubtful as a whole, so that doubting all is
 * one addition; the five bits keep doubt of single items once the bucket has been touched again. */
#ifndef KVS_KEYS_H
#define KVS_KEYS_H

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

struct kvs__segment {
  struct kvs__bucket *buckets;
  uint32_t chunk; /* in the pool of its size; of a free number: the next free one */
  uint16_t count : 9;
  uint16_t worn : 7; /* items that left a bucket others had to pass, since it was built */
  uint8_t units;     /* 0 = the number is free */
  uint8_t depth; /* bits of the place that all its keys share */
};

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

void kvs__segments_init(struct kvs__segments *segments);
void kvs__segments_end(struct kvs__segments *segments, struct kvs__memory *memory);

/* The table must keep its address while it has items. */
void kvs__keys_init(struct kvs__keys *keys, uint64_t seed);
struct kvs__seat kvs__keys_find(const struct kvs__keys *keys, uint64_t key);
/* Add a key that is not there, not doubtful. NULL = out of memory, nothing changed. */
struct kvs__seat kvs__keys_insert(struct kvs__keys *keys, struct kvs__segments *segments,
                                  struct kvs__memory *memory, uint64_t key, uint32_t value);
void kvs__keys_remove(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory,
                      uint64_t key);
void kvs__keys_end(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory);

/* For walks that remove much: take away the item at a place of a segment, moving nothing; then, at the end, give back what
 * all that made superfluous. */
void kvs__keys_take(struct kvs__keys *keys, uint32_t segment, uint32_t at);
void kvs__keys_tidy(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory);

/* Bring a key's line into the cache. */
void kvs__keys_prefetch(const struct kvs__keys *keys, uint64_t key);

/* Doubt every item; and what is known of one. */
void kvs__keys_doubt(struct kvs__keys *keys);
int kvs__seat_doubtful(const struct kvs__keys *keys, struct kvs__seat seat);
void kvs__seat_trust(struct kvs__keys *keys, struct kvs__seat seat);

static inline uint32_t kvs__segment_buckets(const struct kvs__segment *segment) {
  return segment->units * KVS__UNIT_BUCKETS;
}

#endif
