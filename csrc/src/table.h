/* A hash table that grows and shrinks in bounded steps: extendible hashing, as a template.
 *
 *     directory     [ 00 ][ 01 ][ 10 ][ 11 ]        indexed by the top `depth` bits of the place
 *                     |     |     \    /
 *                     v     v      v  v
 *     segments      [ A ] [ B ]   [ C  ]            each an open-addressing table of 8 to 1,024 items;
 *                                                   C has one bit less than the directory: two names
 *
 * A segment doubles up to 1,024 items, then splits in two by its next bit, so no insertion ever moves
 * more than 1,024 items (and rarely copies the directory, 8 bytes a segment). Inside a segment: linear
 * probing from the low bits of the place, deletion by shifting back, so there are no tombstones.
 *
 * (Extendible hashing: Fagin, Nievergelt, Pippenger, Strong, 1979.)
 *
 * Before including, define
 *   TABLE            name prefix of everything made here
 *   TABLE_ITEM       the item type, a struct
 *   TABLE_EMPTY(i)   is this slot free (all-zero bytes must mean yes)
 *   TABLE_PLACE(c,i) 64-bit place of an item, well mixed in high and low bits; c is the table's context
 * A caller looks for its own key with TABLE_first and TABLE_next. Item pointers die with the next
 * insertion or removal in the same table. */

#ifndef KVS_TABLE_H
#define KVS_TABLE_H
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "memory.h"

#define KVS__SEGMENT_ITEMS_MIN 8u
#define KVS__SEGMENT_ITEMS_MAX 1024u
#define KVS__TABLE_DEPTH_MAX 26

#define KVS__JOIN_(a, b) a##_##b
#define KVS__JOIN(a, b) KVS__JOIN_(a, b)
#endif

#define T(name) KVS__JOIN(TABLE, name)

struct T(segment) {
  uint32_t count;
  uint32_t capacity; /* a power of two */
  uint32_t depth;    /* bits of the place that all its items share */
  uint32_t unused;
  TABLE_ITEM items[];
};

struct T(table) {
  struct T(segment) **directory; /* NULL while empty */
  uint32_t depth;
  uint64_t count;
  const void *context;
};

static inline size_t T(segment_bytes)(uint32_t capacity) {
  return sizeof(struct T(segment)) + (size_t)capacity * sizeof(TABLE_ITEM);
}

static inline size_t T(directory_at)(const struct T(table) *table, uint64_t place) {
  return table->depth == 0 ? 0 : (size_t)(place >> (64 - table->depth));
}

static inline TABLE_ITEM *T(first)(const struct T(table) *table, uint64_t place) {
  struct T(segment) *segment;
  TABLE_ITEM *item;
  if (table->directory == NULL) return NULL;
  segment = table->directory[T(directory_at)(table, place)];
  item = &segment->items[place & (segment->capacity - 1)];
  return TABLE_EMPTY(item) ? NULL : item;
}

/* The next candidate of the same probe, NULL at its end. A segment always has a free slot. */
static inline TABLE_ITEM *T(next)(const struct T(table) *table, uint64_t place, TABLE_ITEM *item) {
  struct T(segment) *segment = table->directory[T(directory_at)(table, place)];
  if (++item == segment->items + segment->capacity) item = segment->items;
  return TABLE_EMPTY(item) ? NULL : item;
}

static inline TABLE_ITEM *T(put)(struct T(segment) *segment, uint64_t place) {
  uint32_t at = (uint32_t)place & (segment->capacity - 1);
  while (!TABLE_EMPTY(&segment->items[at])) at = (at + 1) & (segment->capacity - 1);
  segment->count++;
  return &segment->items[at];
}

static inline struct T(segment) *T(segment_make)(struct kvs__memory *memory, uint32_t capacity,
                                                 uint32_t depth) {
  struct T(segment) *segment = kvs__alloc_zero(memory, T(segment_bytes)(capacity));
  if (segment == NULL) return NULL;
  segment->capacity = capacity;
  segment->depth = depth;
  return segment;
}

/* Let every directory name of `old` (any place inside it) point to `fresh`. */
static inline void T(point)(struct T(table) *table, uint64_t place, const struct T(segment) *old,
                            struct T(segment) *fresh) {
  size_t names = (size_t)1 << (table->depth - old->depth);
  size_t first = T(directory_at)(table, place) & ~(names - 1);
  for (size_t i = 0; i < names; i++) table->directory[first + i] = fresh;
}

/* Move a segment's items to one of another capacity. 0 = out of memory, nothing changed. */
static inline int T(resize)(struct T(table) *table, struct kvs__memory *memory, struct T(segment) *old,
                            uint64_t place, uint32_t capacity) {
  struct T(segment) *fresh = T(segment_make)(memory, capacity, old->depth);
  if (fresh == NULL) return 0;
  for (uint32_t i = 0; i < old->capacity; i++)
    if (!TABLE_EMPTY(&old->items[i]))
      *T(put)(fresh, TABLE_PLACE(table->context, &old->items[i])) = old->items[i];
  T(point)(table, place, old, fresh);
  kvs__free(memory, old, T(segment_bytes)(old->capacity));
  return 1;
}

static inline int T(deepen)(struct T(table) *table, struct kvs__memory *memory) {
  size_t names = (size_t)1 << table->depth;
  struct T(segment) **fresh;
  if (table->depth == KVS__TABLE_DEPTH_MAX) return 0;
  fresh = kvs__alloc(memory, 2 * names * sizeof *fresh);
  if (fresh == NULL) return 0;
  for (size_t i = 0; i < names; i++) fresh[2 * i] = fresh[2 * i + 1] = table->directory[i];
  kvs__free(memory, table->directory, names * sizeof *fresh);
  table->directory = fresh;
  table->depth++;
  return 1;
}

static inline int T(split)(struct T(table) *table, struct kvs__memory *memory, struct T(segment) *old,
                           uint64_t place) {
  struct T(segment) *halves[2];
  size_t names, first;
  if (old->depth == table->depth && !T(deepen)(table, memory)) return 0;
  halves[0] = T(segment_make)(memory, old->capacity, old->depth + 1);
  if (halves[0] == NULL) return 0;
  halves[1] = T(segment_make)(memory, old->capacity, old->depth + 1);
  if (halves[1] == NULL) {
    kvs__free(memory, halves[0], T(segment_bytes)(old->capacity));
    return 0;
  }
  for (uint32_t i = 0; i < old->capacity; i++) {
    uint64_t item_place;
    if (TABLE_EMPTY(&old->items[i])) continue;
    item_place = TABLE_PLACE(table->context, &old->items[i]);
    *T(put)(halves[(item_place >> (63 - old->depth)) & 1], item_place) = old->items[i];
  }
  names = (size_t)1 << (table->depth - old->depth);
  first = T(directory_at)(table, place) & ~(names - 1);
  for (size_t i = 0; i < names; i++) table->directory[first + i] = halves[i >= names / 2];
  kvs__free(memory, old, T(segment_bytes)(old->capacity));
  return 1;
}

/* A zeroed slot for an item of this place, which the caller fills at once. NULL = out of memory. */
static inline TABLE_ITEM *T(insert)(struct T(table) *table, struct kvs__memory *memory, uint64_t place) {
  if (table->directory == NULL) {
    struct T(segment) **directory = kvs__alloc(memory, sizeof *directory);
    if (directory == NULL) return NULL;
    directory[0] = T(segment_make)(memory, KVS__SEGMENT_ITEMS_MIN, 0);
    if (directory[0] == NULL) {
      kvs__free(memory, directory, sizeof *directory);
      return NULL;
    }
    table->directory = directory;
    table->depth = 0;
  }
  for (;;) {
    struct T(segment) *segment = table->directory[T(directory_at)(table, place)];
    int grown;
    if (segment->count < segment->capacity - segment->capacity / 8) {
      table->count++;
      return T(put)(segment, place);
    }
    grown = segment->capacity < KVS__SEGMENT_ITEMS_MAX
                ? T(resize)(table, memory, segment, place, segment->capacity * 2)
                : T(split)(table, memory, segment, place);
    if (!grown) return NULL;
  }
}

static inline void T(shift_back)(struct T(table) *table, struct T(segment) *segment, uint32_t hole) {
  uint32_t mask = segment->capacity - 1;
  uint32_t at = hole;
  for (;;) {
    uint32_t home;
    at = (at + 1) & mask;
    if (TABLE_EMPTY(&segment->items[at])) break;
    home = (uint32_t)TABLE_PLACE(table->context, &segment->items[at]) & mask;
    if (((at - home) & mask) < ((at - hole) & mask)) continue;
    segment->items[hole] = segment->items[at];
    hole = at;
  }
  memset(&segment->items[hole], 0, sizeof segment->items[hole]);
  segment->count--;
  table->count--;
}

static inline void T(end)(struct T(table) *table, struct kvs__memory *memory);

/* Give back what a segment with few items does not need; out of memory only leaves it large. */
static inline void T(tidy)(struct T(table) *table, struct kvs__memory *memory, uint64_t place) {
  struct T(segment) *segment = table->directory[T(directory_at)(table, place)];
  if (table->count == 0)
    T(end)(table, memory);
  else if (segment->capacity > KVS__SEGMENT_ITEMS_MIN && segment->count < segment->capacity / 8)
    (void)T(resize)(table, memory, segment, place,
                    segment->capacity / 4 < KVS__SEGMENT_ITEMS_MIN ? KVS__SEGMENT_ITEMS_MIN
                                                                   : segment->capacity / 4);
}

static inline void T(remove)(struct T(table) *table, struct kvs__memory *memory, TABLE_ITEM *item) {
  uint64_t place = TABLE_PLACE(table->context, item);
  struct T(segment) *segment = table->directory[T(directory_at)(table, place)];
  T(shift_back)(table, segment, (uint32_t)(item - segment->items));
  T(tidy)(table, memory, place);
}

/* Walk: `at` is the directory position of a segment's first name; start at 0, stop at NULL. */
static inline struct T(segment) *T(segment_at)(const struct T(table) *table, size_t at) {
  if (table->directory == NULL || at >= (size_t)1 << table->depth) return NULL;
  return table->directory[at];
}

static inline size_t T(segment_after)(const struct T(table) *table, size_t at) {
  return at + ((size_t)1 << (table->depth - table->directory[at]->depth));
}

/* Free all; the table is empty and usable again. */
static inline void T(end)(struct T(table) *table, struct kvs__memory *memory) {
  struct T(segment) *segment;
  size_t at = 0;
  while ((segment = T(segment_at)(table, at)) != NULL) {
    at = T(segment_after)(table, at);
    kvs__free(memory, segment, T(segment_bytes)(segment->capacity));
  }
  if (table->directory != NULL)
    kvs__free(memory, table->directory, ((size_t)1 << table->depth) * sizeof *table->directory);
  table->directory = NULL;
  table->depth = 0;
  table->count = 0;
}

#undef T
#undef TABLE
#undef TABLE_ITEM
#undef TABLE_EMPTY
#undef TABLE_PLACE
