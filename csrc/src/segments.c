/* How a table grows and shrinks: by the eighths, halves and doubles of its segments. */
#include "segments.h"

#include <string.h>

#define DEPTH_MAX 24

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

/* ---- one segment ---- */

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

/* Enter an item of another segment, with all that is known of it, into a fresh one: its buckets fill from below, are of
 * this epoch, and have room somewhere. Most of what growing costs is here. */
static inline void carry(struct kvs__segment *segment, uint64_t place, uint64_t key, uint32_t value,
                         unsigned marked, unsigned doubtful) {
  struct kvs__seat seat = kvs__room_for(segment, place);
  kvs__sit(segment, seat, key, value);
  if (marked | doubtful) {
    seat.bucket->marked |= marked << seat.at;
    seat.bucket->doubtful |= doubtful << seat.at;
  }
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
      uint64_t key = bucket->keys[item], place = kvs__place_of(keys, key);
      carry(&fresh[by == ONE_SEGMENT ? 0 : place >> by & 1], place, key, bucket->values[item],
            marked >> item & 1, doubtful >> item & 1);
    }
  }
}

int kvs__segment_resize(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory,
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

uint32_t kvs__units_for(uint32_t items) {
  uint32_t units = (items + KVS__UNIT_ITEMS) / KVS__UNIT_ITEMS;
  return units > KVS__UNITS_MAX ? KVS__UNITS_MAX : units;
}

void kvs__segment_rebuild(const struct kvs__keys *keys, struct kvs__segment *segment) {
  struct kvs__bucket copy[KVS__UNITS_MAX * KVS__UNIT_BUCKETS];
  struct kvs__segment old = *segment;
  size_t bytes = kvs__segment_buckets(segment) * sizeof *copy;
  memcpy(copy, segment->buckets, bytes);
  old.buckets = copy;
  clear(keys, segment);
  carry_all(keys, &old, segment, ONE_SEGMENT);
}

/* ---- the directory ---- */

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
  struct kvs__segment *grown;
  if (keys->segments_free != 0 || keys->segments_count < keys->segments_capacity) return 1;
  grown = kvs__list_grow(memory, keys->segments, &keys->segments_capacity, 1, sizeof *grown);
  if (grown == NULL) return 0;
  keys->segments = grown;
  return 1;
}

int kvs__segment_first(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory) {
  struct kvs__segment first = {0};
  if (!segments_room(keys, memory)) return 0;
  keys->segments[0] = first;
  if (!segment_make(keys, segments, memory, 0, 1, &first)) return 0;
  keys->segments[0] = first;
  keys->segments_count = 1;
  return 1;
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
      uint64_t place = kvs__place_of(keys, segment->buckets[b].keys[__builtin_ctz(left)]);
      counts[place >> (63 - segment->depth) & 1]++;
    }
}

int kvs__segment_split(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory,
                       uint64_t place) {
  uint32_t number, other, next_free = 0, counts[2] = {0, 0};
  struct kvs__segment old, halves[2];
  if (kvs__segment_of(keys, place)->depth == keys->depth && !deepen(keys, memory)) return 0;
  if (!segments_room(keys, memory)) return 0;
  other = keys->segments_free != 0 ? keys->segments_free : keys->segments_count;
  if (keys->segments_free != 0) next_free = keys->segments[other].chunk;
  number = (uint32_t)(kvs__segment_of(keys, place) - keys->segments);
  old = keys->segments[number];
  count_halves(keys, &old, counts);
  /* Until both are there, the new chunks belong to a number that no name leads to: it may be moved, and nobody looks. */
  keys->segments[other] = old;
  halves[0].depth = halves[1].depth = (uint8_t)(old.depth + 1);
  if (!segment_make(keys, segments, memory, other, kvs__units_for(counts[1]), &halves[1])) {
    keys->segments[other] = (struct kvs__segment){.chunk = next_free};
    return 0;
  }
  keys->segments[other] = halves[1];
  old = keys->segments[number];
  if (!segment_make(keys, segments, memory, number, kvs__units_for(counts[0]), &halves[0])) {
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

int kvs__segment_merge(struct kvs__keys *keys, struct kvs__segments *segments, struct kvs__memory *memory,
                       uint64_t place) {
  uint8_t depth = kvs__segment_of(keys, place)->depth;
  uint64_t half = depth == 0 ? 0 : place ^ UINT64_C(1) << (64 - depth);
  uint32_t kept = (uint32_t)(kvs__segment_of(keys, place) - keys->segments), gone, items;
  struct kvs__segment fresh = {0}, old;
  if (depth == 0) return 0;
  gone = (uint32_t)(kvs__segment_of(keys, half) - keys->segments);
  if (keys->segments[gone].depth != depth) return 0;
  items = (uint32_t)keys->segments[kept].count + keys->segments[gone].count;
  if (items > KVS__MERGED_ITEMS) return 0;
  if (gone < kept) { /* so that 0 is kept for ever */
    uint32_t swap = gone;
    gone = kept;
    kept = swap;
    half = place;
  }
  if (!segment_make(keys, segments, memory, kept, kvs__units_for(items), &fresh)) return 0;
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
