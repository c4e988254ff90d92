/* A table of keys: finding, doubting, entering and taking away its items. */
#include "keys.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "prefetch.h"

/* So many times may an item leave room where another had to pass, before its segment is built anew. Without that, a table
 * in which as much goes as comes would end with searches that walk a dozen buckets for what is not there. */
#define WORN_MAX 64u

void kvs__keys_init(struct kvs__keys *keys, uint64_t seed) {
  memset(keys, 0, sizeof *keys);
  keys->seed = seed;
  keys->epoch = 1;
}

static int item_of(const struct kvs__bucket *bucket, uint64_t key) {
  for (int i = 0; i < KVS__BUCKET_ITEMS; i++)
    if (bucket->keys[i] == key && bucket->used >> i & 1) return i;
  return -1;
}

struct kvs__seat kvs__keys_find(const struct kvs__keys *keys, uint64_t key) {
  struct kvs__seat none = {NULL, 0};
  uint64_t place;
  const struct kvs__segment *segment;
  uint32_t buckets, at;
  if (keys->count == 0) return none;
  place = kvs__place_of(keys, key);
  segment = kvs__segment_of(keys, place);
  buckets = kvs__segment_buckets(segment);
  at = kvs__home_of(place, buckets);
  for (uint32_t seen = 0; seen < buckets; seen++) {
    struct kvs__bucket *bucket = &segment->buckets[at];
    int item = item_of(bucket, key);
    if (item >= 0) return (struct kvs__seat){bucket, (unsigned)item};
    if (bucket->passed == 0) return none;
    if (++at == buckets) at = 0;
  }
  return none;
}

void kvs__keys_prefetch(const struct kvs__keys *keys, uint64_t key) {
  uint64_t place;
  const struct kvs__segment *segment;
  const struct kvs__bucket *home;
  if (keys->count == 0) return;
  place = kvs__place_of(keys, key);
  segment = kvs__segment_of(keys, place);
  home = &segment->buckets[kvs__home_of(place, kvs__segment_buckets(segment))];
  kvs__prefetch(home);
  kvs__prefetch(home + 1); /* where a full table goes on looking */
}

/* ---- doubt ---- */

int kvs__seat_doubtful(const struct kvs__keys *keys, struct kvs__seat seat) {
  return seat.bucket->epoch != keys->epoch || (seat.bucket->doubtful >> seat.at & 1);
}

void kvs__seat_trust(struct kvs__keys *keys, struct kvs__seat seat) {
  kvs__bucket_touch(keys, seat.bucket);
  seat.bucket->doubtful &= ~(1u << seat.at) & 31;
}

void kvs__keys_doubt(struct kvs__keys *keys) {
  if (keys->epoch == UINT8_MAX) {
    /* No number is left: begin again with one that no bucket has. */
    for (uint32_t s = 0; s < keys->segments_count; s++)
      for (uint32_t b = 0; b < kvs__segment_buckets(&keys->segments[s]); b++)
        keys->segments[s].buckets[b].epoch = 0;
    keys->epoch = 0;
  }
  keys->epoch++;
}

/* ---- items ---- */

static struct kvs__seat put(struct kvs__keys *keys, struct kvs__segment *segment, uint64_t place, uint64_t key,
                            uint32_t value) {
  struct kvs__seat seat = kvs__room_for(segment, place);
  unsigned others = ~(1u << seat.at) & 31;
  kvs__bucket_touch(keys, seat.bucket);
  kvs__sit(segment, seat, key, value);
  seat.bucket->marked &= others;
  seat.bucket->doubtful &= others;
  return seat;
}

struct kvs__seat kvs__keys_insert(struct kvs__keys *keys, struct kvs__segments *segments,
                                  struct kvs__memory *memory, uint64_t key, uint32_t value) {
  struct kvs__seat none = {NULL, 0};
  uint64_t place = kvs__place_of(keys, key);
  if (keys->segments_count == 0 && !kvs__segment_first(keys, segments, memory)) return none;
  for (;;) {
    struct kvs__segment *segment = kvs__segment_of(keys, place);
    int grown;
    if (segment->count < segment->units * KVS__UNIT_ITEMS) {
      keys->count++;
      return put(keys, segment, place, key, value);
    }
    grown = segment->units < KVS__UNITS_MAX
                ? kvs__segment_resize(keys, segments, memory, segment, segment->units + 1u)
                : kvs__segment_split(keys, segments, memory, place);
    if (!grown) return none;
  }
}

/* Nothing passes a bucket any more that passed it to come to `to`. */
static void unpass(struct kvs__segment *segment, uint32_t from, uint32_t to) {
  uint32_t buckets = kvs__segment_buckets(segment);
  while (from != to) {
    assert(segment->buckets[from].passed > 0);
    segment->buckets[from].passed--;
    if (++from == buckets) from = 0;
  }
}

static void vacate(const struct kvs__keys *keys, struct kvs__bucket *bucket, unsigned item) {
  kvs__bucket_touch(keys, bucket);
  bucket->used &= ~(1u << item) & 31;
  bucket->doubtful &= bucket->used;
  bucket->marked &= bucket->used;
}

void kvs__keys_remove(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory,
                      uint64_t key) {
  uint64_t place = kvs__place_of(keys, key);
  struct kvs__segment *segment = kvs__segment_of(keys, place);
  uint32_t buckets = kvs__segment_buckets(segment), home = kvs__home_of(place, buckets), at = home;
  int item = item_of(&segment->buckets[at], key);
  while (item < 0) {
    assert(segment->buckets[at].passed > 0);
    if (++at == buckets) at = 0;
    item = item_of(&segment->buckets[at], key);
  }
  vacate(keys, &segment->buckets[at], (unsigned)item);
  unpass(segment, home, at);
  segment->count--;
  keys->count--;
  if (keys->count == 0) {
    kvs__keys_end(keys, segments, memory);
    return;
  }
  /* A fresh segment has no holes. */
  if (segment->count <= KVS__MERGED_ITEMS && segment->count % 16 == 0 &&
      kvs__segment_merge(keys, segments, memory, place))
    return;
  if (segment->units > 1 && 8u * segment->count <= 7u * (segment->units - 1u) * KVS__UNIT_ITEMS &&
      kvs__segment_resize(keys, segments, memory, segment, segment->units - 1u))
    return;
  if (segment->buckets[at].passed > 0 && ++segment->worn == WORN_MAX) kvs__segment_rebuild(keys, segment);
}

void kvs__keys_remove_at(struct kvs__keys *keys, uint32_t number, uint32_t at) {
  struct kvs__segment *segment = &keys->segments[number];
  struct kvs__bucket *bucket = &segment->buckets[at / KVS__BUCKET_ITEMS];
  uint64_t place = kvs__place_of(keys, bucket->keys[at % KVS__BUCKET_ITEMS]);
  unpass(segment, kvs__home_of(place, kvs__segment_buckets(segment)), at / KVS__BUCKET_ITEMS);
  vacate(keys, bucket, at % KVS__BUCKET_ITEMS);
  segment->count--;
  keys->count--;
}

static void end_last(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory) {
  struct kvs__segment *last = &keys->segments[--keys->segments_count];
  if (last->units > 0) kvs__pool_give(&segments->pools[last->units - 1], memory, last->chunk);
}

int kvs__keys_tidy(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory,
                   uint32_t step) {
  struct kvs__segment *segment;
  if (keys->count == 0 && keys->segments_count > 0) {
    end_last(keys, segments, memory);
    return 1;
  }
  if (keys->count == 0) kvs__keys_end(keys, segments, memory); /* what is not in segments */
  if (step >= keys->segments_count) return 0;
  segment = &keys->segments[step];
  if (segment->units > 0 && kvs__units_for(segment->count) < segment->units)
    (void)kvs__segment_resize(keys, segments, memory, segment, kvs__units_for(segment->count));
  return 1;
}

void kvs__keys_end(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory) {
  uint8_t epoch = keys->epoch;
  while (keys->segments_count > 0) end_last(keys, segments, memory);
  kvs__free(memory, keys->segments, keys->segments_capacity * sizeof *keys->segments);
  if (keys->depth > 0) kvs__free(memory, keys->directory, ((size_t)1 << keys->depth) * sizeof *keys->directory);
  kvs__keys_init(keys, keys->seed);
  keys->epoch = epoch;
}
