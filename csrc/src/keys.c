#include "keys.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#define DEPTH_MAX 24
#define MERGED_ITEMS 200u /* far enough below 280 that the next few items do not split it again */
#define PASSED_MAX 511u /* from here on the count stays, and only costs time */

static uint64_t place_of(const struct kvs__keys *keys, uint64_t key) {
  uint64_t x;
  if (keys->seed == 0) return key;
  /* Engines choose these keys: mixed with our seed they cannot be crafted to meet. */
  x = (key ^ keys->seed) * UINT64_C(0xd6e8feb86659fd93);
  x = (x ^ (x >> 32)) * UINT64_C(0xd6e8feb86659fd93);
  return x ^ (x >> 32);
}

static void moved(struct kvs__owner owner, void *chunk, uint32_t number) {
  struct kvs__keys *keys = owner.table;
  keys->segments[owner.number].buckets = chunk;
  keys->segments[owner.number].chunk = number;
}

void kvs__segments_init(struct kvs__segments *segments) {
  for (uint32_t i = 0; i < KVS__UNITS_MAX; i++)
    kvs__pool_init(&segments->pools[i], (i + 1) * KVS__UNIT_BUCKETS * (uint32_t)sizeof(struct kvs__bucket),
                   moved, NULL);
}

void kvs__segments_end(struct kvs__segments *segments, struct kvs__memory *memory) {
  for (uint32_t i = 0; i < KVS__UNITS_MAX; i++) kvs__pool_end(&segments->pools[i], memory);
}

void kvs__keys_init(struct kvs__keys *keys, uint64_t seed) {
  memset(keys, 0, sizeof *keys);
  keys->seed = seed;
  keys->epoch = 1;
}

static struct kvs__segment *segment_of(const struct kvs__keys *keys, uint64_t place) {
  return &keys->segments[keys->depth == 0 ? 0 : keys->directory[place >> (64 - keys->depth)]];
}

static uint32_t home_of(uint64_t place, uint32_t buckets) {
  return (uint32_t)(((place & UINT32_MAX) * buckets) >> 32);
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
  place = place_of(keys, key);
  segment = segment_of(keys, place);
  buckets = kvs__segment_buckets(segment);
  at = home_of(place, buckets);
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
  if (keys->count == 0) return;
  place = place_of(keys, key);
  segment = segment_of(keys, place);
  __builtin_prefetch(&segment->buckets[home_of(place, kvs__segment_buckets(segment))], 1);
}

/* ---- doubt ---- */

/* Write a bucket's doubt down in its own bits. */
static void touch(const struct kvs__keys *keys, struct kvs__bucket *bucket) {
  if (bucket->epoch == keys->epoch) return;
  bucket->doubtful = bucket->used;
  bucket->epoch = keys->epoch;
}

int kvs__seat_doubtful(const struct kvs__keys *keys, struct kvs__seat seat) {
  return seat.bucket->epoch != keys->epoch || (seat.bucket->doubtful >> seat.at & 1);
}

void kvs__seat_trust(struct kvs__keys *keys, struct kvs__seat seat) {
  touch(keys, seat.bucket);
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

/* ---- segments ---- */

static int segment_make(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory,
                        uint32_t number, uint32_t units, struct kvs__segment *segment) {
  struct kvs__owner owner = {keys, number};
  struct kvs__bucket *buckets = kvs__pool_take(&segments->pools[units - 1], memory, owner, &segment->chunk);
  if (buckets == NULL) return 0;
  memset(buckets, 0, (size_t)units * KVS__UNIT_BUCKETS * sizeof *buckets);
  for (uint32_t i = 0; i < units * KVS__UNIT_BUCKETS; i++) buckets[i].epoch = keys->epoch;
  segment->buckets = buckets;
  segment->units = (uint8_t)units;
  segment->count = 0;
  return 1;
}

static struct kvs__seat put(struct kvs__keys *keys, struct kvs__segment *segment, uint64_t place, uint64_t key,
                            uint32_t value) {
  uint32_t buckets = kvs__segment_buckets(segment), at = home_of(place, buckets);
  struct kvs__bucket *bucket = &segment->buckets[at];
  unsigned item;
  while (bucket->used == 31) {
    if (bucket->passed < PASSED_MAX) bucket->passed++;
    if (++at == buckets) at = 0;
    bucket = &segment->buckets[at];
  }
  touch(keys, bucket);
  item = (unsigned)__builtin_ctz(~(unsigned)bucket->used);
  bucket->keys[item] = key;
  bucket->values[item] = value;
  bucket->used |= 1u << item;
  bucket->marked &= ~(1u << item) & 31;
  bucket->doubtful &= ~(1u << item) & 31;
  segment->count++;
  return (struct kvs__seat){bucket, item};
}

/* Enter an item of another segment with all that is known of it. */
static void carry(struct kvs__keys *keys, struct kvs__segment *segment, const struct kvs__bucket *from,
                  int item) {
  struct kvs__seat seat = {(struct kvs__bucket *)(uintptr_t)from, (unsigned)item};
  int doubtful = kvs__seat_doubtful(keys, seat), marked = from->marked >> item & 1;
  uint64_t key = from->keys[item];
  seat = put(keys, segment, place_of(keys, key), key, from->values[item]);
  if (doubtful) seat.bucket->doubtful |= 1u << seat.at;
  if (marked) seat.bucket->marked |= 1u << seat.at;
}

#define FOR_ITEMS(segment, bucket, item)                                                            \
  for (uint32_t b_ = 0; b_ < kvs__segment_buckets(segment); b_++)                                   \
    for (const struct kvs__bucket *bucket = &(segment)->buckets[b_]; bucket != NULL; bucket = NULL) \
      for (int item = 0; item < KVS__BUCKET_ITEMS; item++)                                          \
        if (bucket->used >> item & 1)

/* 0 = out of memory, nothing changed. */
static int resize(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory,
                  struct kvs__segment *segment, uint32_t units) {
  struct kvs__segment fresh = *segment, old;
  uint32_t number = (uint32_t)(segment - keys->segments);
  if (!segment_make(keys, segments, memory, number, units, &fresh)) return 0;
  old = *segment; /* making room may have moved it */
  FOR_ITEMS(&old, bucket, item) carry(keys, &fresh, bucket, item);
  keys->segments[number] = fresh;
  kvs__pool_give(&segments->pools[old.units - 1], memory, old.chunk);
  return 1;
}

static int deepen(struct kvs__keys *keys, struct kvs__memory *memory) {
  size_t names = (size_t)1 << keys->depth;
  uint32_t *fresh;
  if (keys->depth == DEPTH_MAX) return 0;
  fresh = kvs__alloc(memory, 2 * names * sizeof *fresh);
  if (fresh == NULL) return 0;
  for (size_t i = 0; i < names; i++)
    fresh[2 * i] = fresh[2 * i + 1] = keys->depth == 0 ? 0 : keys->directory[i];
  if (keys->depth > 0) kvs__free(memory, keys->directory, names * sizeof *fresh);
  keys->directory = fresh;
  keys->depth++;
  keys->deepest = 0;
  return 1;
}

static int segments_room(struct kvs__keys *keys, struct kvs__memory *memory) {
  uint32_t capacity;
  struct kvs__segment *grown;
  if (keys->segments_free != 0 || keys->segments_count < keys->segments_capacity) return 1;
  capacity = keys->segments_capacity == 0 ? 1 : keys->segments_capacity * 2;
  grown =
      kvs__resize(memory, keys->segments, keys->segments_capacity * sizeof *grown, capacity * sizeof *grown);
  if (grown == NULL) return 0;
  keys->segments = grown;
  keys->segments_capacity = capacity;
  return 1;
}

static uint32_t units_for(uint32_t items) {
  uint32_t units = (items + KVS__UNIT_ITEMS) / KVS__UNIT_ITEMS;
  return units > KVS__UNITS_MAX ? KVS__UNITS_MAX : units;
}

/* Point all names that a segment of this depth has in the directory to a number. */
static void name_segment(struct kvs__keys *keys, uint64_t place, uint8_t depth, uint32_t number) {
  size_t names = (size_t)1 << (keys->depth - depth);
  size_t first = (size_t)(place >> (64 - keys->depth)) & ~(names - 1);
  for (size_t i = 0; i < names; i++) keys->directory[first + i] = number;
}

static int split(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory,
                 uint64_t place) {
  uint32_t number, other, next_free = 0, counts[2] = {0, 0};
  struct kvs__segment old, halves[2];
  if (segment_of(keys, place)->depth == keys->depth && !deepen(keys, memory)) return 0;
  if (!segments_room(keys, memory)) return 0;
  other = keys->segments_free != 0 ? keys->segments_free : keys->segments_count;
  if (keys->segments_free != 0) next_free = keys->segments[other].chunk;
  number = (uint32_t)(segment_of(keys, place) - keys->segments);
  old = keys->segments[number];
  FOR_ITEMS(&old, bucket, item) counts[place_of(keys, bucket->keys[item]) >> (63 - old.depth) & 1]++;
  /* Until both are there, the new chunks belong to a number that no name leads to: it may be moved, and nobody looks. */
  keys->segments[other] = old;
  halves[0].depth = halves[1].depth = (uint8_t)(old.depth + 1);
  if (!segment_make(keys, segments, memory, other, units_for(counts[1]), &halves[1])) {
    keys->segments[other] = (struct kvs__segment){.chunk = next_free};
    return 0;
  }
  keys->segments[other] = halves[1];
  old = keys->segments[number];
  if (!segment_make(keys, segments, memory, number, units_for(counts[0]), &halves[0])) {
    kvs__pool_give(&segments->pools[halves[1].units - 1], memory, keys->segments[other].chunk);
    keys->segments[other] = (struct kvs__segment){.chunk = next_free};
    return 0;
  }
  old = keys->segments[number];
  halves[1].buckets = keys->segments[other].buckets;
  halves[1].chunk = keys->segments[other].chunk;
  FOR_ITEMS(&old, bucket, item)
  carry(keys, &halves[place_of(keys, bucket->keys[item]) >> (63 - old.depth) & 1], bucket, item);
  keys->segments[number] = halves[0];
  keys->segments[other] = halves[1];
  if (keys->segments_free != 0)
    keys->segments_free = next_free;
  else
    keys->segments_count++;
  if (halves[0].depth == keys->depth) keys->deepest += 2;
  name_segment(keys, place | UINT64_C(1) << (63 - old.depth), halves[1].depth, other);
  kvs__pool_give(&segments->pools[old.units - 1], memory, old.chunk);
  return 1;
}

/* ---- merging ---- */

/* Without memory for the smaller one the directory stays as it is. */
static void flatten(struct kvs__keys *keys, struct kvs__memory *memory) {
  size_t names = (size_t)1 << keys->depth;
  uint32_t *fresh = NULL;
  if (keys->depth > 1) {
    fresh = kvs__alloc(memory, names / 2 * sizeof *fresh);
    if (fresh == NULL) return;
    for (size_t i = 0; i < names / 2; i++) fresh[i] = keys->directory[2 * i];
  }
  kvs__free(memory, keys->directory, names * sizeof *fresh);
  keys->directory = fresh;
  keys->depth--;
  keys->deepest = 0;
  for (uint32_t i = 0; i < keys->segments_count; i++)
    keys->deepest += keys->segments[i].units > 0 && keys->segments[i].depth == keys->depth;
}

static void free_number(struct kvs__keys *keys, uint32_t number) {
  keys->segments[number] = (struct kvs__segment){.chunk = keys->segments_free};
  keys->segments_free = number;
}

/* If few items are left in a segment and its other half, make them one again. Without memory they stay two. */
static void merge(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory,
                  uint64_t place) {
  uint8_t depth = segment_of(keys, place)->depth;
  uint64_t half = depth == 0 ? 0 : place ^ UINT64_C(1) << (64 - depth);
  uint32_t kept = (uint32_t)(segment_of(keys, place) - keys->segments), gone;
  struct kvs__segment fresh = {NULL, 0, 0, 0, 0}, old;
  if (depth == 0) return;
  gone = (uint32_t)(segment_of(keys, half) - keys->segments);
  if (keys->segments[gone].depth != depth) return;
  if (keys->segments[kept].count + keys->segments[gone].count > MERGED_ITEMS) return;
  if (gone < kept) { /* so that 0 is kept for ever */
    uint32_t swap = gone;
    gone = kept;
    kept = swap;
    half = place;
  }
  if (!segment_make(keys, segments, memory, kept,
                    units_for(keys->segments[kept].count + keys->segments[gone].count), &fresh))
    return;
  FOR_ITEMS(&keys->segments[kept], bucket, item) carry(keys, &fresh, bucket, item);
  FOR_ITEMS(&keys->segments[gone], bucket, item) carry(keys, &fresh, bucket, item);
  fresh.depth = (uint8_t)(depth - 1);
  old = keys->segments[kept];
  keys->segments[kept] = fresh;
  kvs__pool_give(&segments->pools[old.units - 1], memory, old.chunk);
  old = keys->segments[gone]; /* that may have moved it */
  name_segment(keys, half, depth, kept);
  free_number(keys, gone);
  kvs__pool_give(&segments->pools[old.units - 1], memory, old.chunk);
  if (depth == keys->depth) keys->deepest -= 2;
  if (keys->deepest == 0) flatten(keys, memory);
}

/* ---- items ---- */

static int begin(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory) {
  struct kvs__segment first = {NULL, 0, 0, 0, 0};
  if (keys->segments_count > 0) return 1;
  if (!segments_room(keys, memory)) return 0;
  keys->segments[0] = first;
  if (!segment_make(keys, segments, memory, 0, 1, &first)) return 0;
  keys->segments[0] = first;
  keys->segments_count = 1;
  return 1;
}

struct kvs__seat kvs__keys_insert(struct kvs__keys *keys, struct kvs__segments *segments,
                                  struct kvs__memory *memory, uint64_t key, uint32_t value) {
  struct kvs__seat none = {NULL, 0};
  uint64_t place = place_of(keys, key);
  if (!begin(keys, segments, memory)) return none;
  for (;;) {
    struct kvs__segment *segment = segment_of(keys, place);
    int grown;
    if (segment->count < segment->units * KVS__UNIT_ITEMS) {
      keys->count++;
      return put(keys, segment, place, key, value);
    }
    grown = segment->units < KVS__UNITS_MAX ? resize(keys, segments, memory, segment, segment->units + 1u)
                                            : split(keys, segments, memory, place);
    if (!grown) return none;
  }
}

void kvs__keys_remove(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory,
                      uint64_t key) {
  uint64_t place = place_of(keys, key);
  struct kvs__segment *segment = segment_of(keys, place);
  uint32_t buckets = kvs__segment_buckets(segment), at = home_of(place, buckets);
  for (;;) {
    struct kvs__bucket *bucket = &segment->buckets[at];
    int item = item_of(bucket, key);
    if (item >= 0) {
      touch(keys, bucket);
      bucket->used &= ~(1u << item) & 31;
      bucket->doubtful &= bucket->used;
      bucket->marked &= bucket->used;
      break;
    }
    assert(bucket->passed > 0);
    if (bucket->passed < PASSED_MAX) bucket->passed--;
    if (++at == buckets) at = 0;
  }
  segment->count--;
  keys->count--;
  if (keys->count == 0)
    kvs__keys_end(keys, segments, memory);
  else if (segment->count <= MERGED_ITEMS && segment->count % 16 == 0)
    merge(keys, segments, memory, place);
  else if (segment->units > 1 && 8u * segment->count <= 7u * (segment->units - 1u) * KVS__UNIT_ITEMS)
    (void)resize(keys, segments, memory, segment, segment->units - 1u); /* else it stays large */
}

void kvs__keys_take(struct kvs__keys *keys, uint32_t number, uint32_t at) {
  struct kvs__segment *segment = &keys->segments[number];
  struct kvs__bucket *bucket = &segment->buckets[at / KVS__BUCKET_ITEMS];
  touch(keys, bucket);
  bucket->used &= ~(1u << at % KVS__BUCKET_ITEMS) & 31;
  bucket->doubtful &= bucket->used;
  bucket->marked &= bucket->used;
  segment->count--;
  keys->count--;
}

void kvs__keys_tidy(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory) {
  if (keys->segments_count == 0) return;
  if (keys->count == 0) {
    kvs__keys_end(keys, segments, memory);
    return;
  }
  for (uint32_t i = 0; i < keys->segments_count; i++)
    if (keys->segments[i].units > 0 && units_for(keys->segments[i].count) < keys->segments[i].units)
      (void)resize(keys, segments, memory, &keys->segments[i], units_for(keys->segments[i].count));
}

void kvs__keys_end(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory) {
  uint8_t epoch = keys->epoch;
  while (keys->segments_count > 0) {
    struct kvs__segment *last = &keys->segments[--keys->segments_count];
    if (last->units > 0) kvs__pool_give(&segments->pools[last->units - 1], memory, last->chunk);
  }
  kvs__free(memory, keys->segments, keys->segments_capacity * sizeof *keys->segments);
  if (keys->depth > 0) kvs__free(memory, keys->directory, ((size_t)1 << keys->depth) * sizeof *keys->directory);
  kvs__keys_init(keys, keys->seed);
  keys->epoch = epoch;
}
