#include "keys.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#define DEPTH_MAX 24
/* So many times may an item leave room where another had to pass, before its segment is built anew. Without that, a table
 * in which as much goes as comes would end with searches that walk a dozen buckets for what is not there. */
#define WORN_MAX 64u
#define MERGED_ITEMS 200u /* far enough below 288 that the next few items do not split it again */

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

static void clear(const struct kvs__keys *keys, struct kvs__segment *segment) {
  uint32_t buckets = kvs__segment_buckets(segment);
  memset(segment->buckets, 0, buckets * sizeof *segment->buckets);
  for (uint32_t i = 0; i < buckets; i++) segment->buckets[i].epoch = keys->epoch;
  segment->count = 0;
  segment->worn = 0;
}

static int segment_make(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory,
                        uint32_t number, uint32_t units, struct kvs__segment *segment) {
  struct kvs__owner owner = {keys, number};
  struct kvs__bucket *buckets = kvs__pool_take(&segments->pools[units - 1], memory, owner, &segment->chunk);
  if (buckets == NULL) return 0;
  segment->buckets = buckets;
  segment->units = (uint8_t)units;
  clear(keys, segment);
  return 1;
}

static struct kvs__seat put(struct kvs__keys *keys, struct kvs__segment *segment, uint64_t place, uint64_t key,
                            uint32_t value) {
  uint32_t buckets = kvs__segment_buckets(segment), at = home_of(place, buckets);
  struct kvs__bucket *bucket = &segment->buckets[at];
  unsigned item;
  while (bucket->used == 31) {
    bucket->passed++;
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

/* Enter an item of another segment, with all that is known of it, into a fresh one: its buckets fill from below, are of
 * this epoch, and have room somewhere. Most of what growing costs is here. */
static inline void carry(struct kvs__segment *segment, uint64_t place, uint64_t key, uint32_t value,
                         unsigned marked, unsigned doubtful) {
  uint32_t buckets = kvs__segment_buckets(segment), at = home_of(place, buckets);
  struct kvs__bucket *bucket = &segment->buckets[at];
  unsigned item;
  while (bucket->used == 31) {
    bucket->passed++;
    if (++at == buckets) at = 0;
    bucket = &segment->buckets[at];
  }
  item = (unsigned)__builtin_ctz(~(unsigned)bucket->used);
  bucket->keys[item] = key;
  bucket->values[item] = value;
  bucket->used |= 1u << item;
  if (marked | doubtful) {
    bucket->marked |= marked << item;
    bucket->doubtful |= doubtful << item;
  }
  segment->count++;
}

#define ONE_SEGMENT 64u /* for `by`: there is only one */

/* Enter all items of `old` into fresh segments: which of two, the bit `by` of their places says. */
static void carry_all(const struct kvs__keys *keys, const struct kvs__segment *old, struct kvs__segment *fresh,
                      unsigned by) {
  for (uint32_t b = 0; b < kvs__segment_buckets(old); b++) {
    const struct kvs__bucket *bucket = &old->buckets[b];
    unsigned doubtful = bucket->epoch == keys->epoch ? bucket->doubtful : bucket->used, marked = bucket->marked;
    for (unsigned left = bucket->used; left != 0; left &= left - 1) {
      unsigned item = (unsigned)__builtin_ctz(left);
      uint64_t key = bucket->keys[item], place = place_of(keys, key);
      carry(&fresh[by == ONE_SEGMENT ? 0 : place >> by & 1], place, key, bucket->values[item],
            marked >> item & 1, doubtful >> item & 1);
    }
  }
}

/* 0 = out of memory, nothing changed. */
static int resize(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory,
                  struct kvs__segment *segment, uint32_t units) {
  struct kvs__segment fresh = *segment, old;
  uint32_t number = (uint32_t)(segment - keys->segments);
  if (!segment_make(keys, segments, memory, number, units, &fresh)) return 0;
  old = *segment; /* making room may have moved it */
  carry_all(keys, &old, &fresh, ONE_SEGMENT);
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

static void count_halves(const struct kvs__keys *keys, const struct kvs__segment *segment, uint32_t counts[2]) {
  for (uint32_t b = 0; b < kvs__segment_buckets(segment); b++)
    for (unsigned left = segment->buckets[b].used; left != 0; left &= left - 1) {
      uint64_t place = place_of(keys, segment->buckets[b].keys[__builtin_ctz(left)]);
      counts[place >> (63 - segment->depth) & 1]++;
    }
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
  count_halves(keys, &old, counts);
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
  carry_all(keys, &old, halves, 63u - old.depth);
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

/* If few items are left in a segment and its other half, make them one again. 0 = they stay two. */
static int merge(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory,
                 uint64_t place) {
  uint8_t depth = segment_of(keys, place)->depth;
  uint64_t half = depth == 0 ? 0 : place ^ UINT64_C(1) << (64 - depth);
  uint32_t kept = (uint32_t)(segment_of(keys, place) - keys->segments), gone, items;
  struct kvs__segment fresh = {0}, old;
  if (depth == 0) return 0;
  gone = (uint32_t)(segment_of(keys, half) - keys->segments);
  if (keys->segments[gone].depth != depth) return 0;
  items = (uint32_t)keys->segments[kept].count + keys->segments[gone].count;
  if (items > MERGED_ITEMS) return 0;
  if (gone < kept) { /* so that 0 is kept for ever */
    uint32_t swap = gone;
    gone = kept;
    kept = swap;
    half = place;
  }
  if (!segment_make(keys, segments, memory, kept, units_for(items), &fresh)) return 0;
  carry_all(keys, &keys->segments[kept], &fresh, ONE_SEGMENT);
  carry_all(keys, &keys->segments[gone], &fresh, ONE_SEGMENT);
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
  return 1;
}

/* ---- items ---- */

static int begin(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory) {
  struct kvs__segment first = {0};
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
  touch(keys, bucket);
  bucket->used &= ~(1u << item) & 31;
  bucket->doubtful &= bucket->used;
  bucket->marked &= bucket->used;
}

/* Enter all items anew, each as near to its home as it can be. */
static void rebuild(const struct kvs__keys *keys, struct kvs__segment *segment) {
  struct kvs__bucket copy[KVS__UNITS_MAX * KVS__UNIT_BUCKETS];
  struct kvs__segment old = *segment;
  size_t bytes = kvs__segment_buckets(segment) * sizeof *copy;
  memcpy(copy, segment->buckets, bytes);
  old.buckets = copy;
  clear(keys, segment);
  carry_all(keys, &old, segment, ONE_SEGMENT);
}

void kvs__keys_remove(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory,
                      uint64_t key) {
  uint64_t place = place_of(keys, key);
  struct kvs__segment *segment = segment_of(keys, place);
  uint32_t buckets = kvs__segment_buckets(segment), home = home_of(place, buckets), at = home;
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
  if (segment->count <= MERGED_ITEMS && segment->count % 16 == 0 && merge(keys, segments, memory, place))
    return;
  if (segment->units > 1 && 8u * segment->count <= 7u * (segment->units - 1u) * KVS__UNIT_ITEMS &&
      resize(keys, segments, memory, segment, segment->units - 1u))
    return;
  if (segment->buckets[at].passed > 0 && ++segment->worn == WORN_MAX) rebuild(keys, segment);
}

void kvs__keys_take(struct kvs__keys *keys, uint32_t number, uint32_t at) {
  struct kvs__segment *segment = &keys->segments[number];
  struct kvs__bucket *bucket = &segment->buckets[at / KVS__BUCKET_ITEMS];
  uint64_t place = place_of(keys, bucket->keys[at % KVS__BUCKET_ITEMS]);
  unpass(segment, home_of(place, kvs__segment_buckets(segment)), at / KVS__BUCKET_ITEMS);
  vacate(keys, bucket, at % KVS__BUCKET_ITEMS);
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
